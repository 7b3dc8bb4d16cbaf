//! The moments at which names leave: every 100 ms, so that when an agent asks says little to whoever
//! sees its names upstream.

use crate::policy::{AgentId, HostName, Moment};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::sleep};

/// Between two moments at which names leave. The ledger charges for the choice among them.
pub const TICK: Duration = Duration::from_millis(100);

/// What waits for the next tick.
pub struct Grid {
    clock: fn() -> Moment,
    /// In the order of the names, which is the order in which they leave: who asked first does not show.
    waiting: Mutex<Waiting>,
}

type Waiting = BTreeMap<(HostName, AgentId), Vec<oneshot::Sender<()>>>;

impl Grid {
    #[must_use]
    pub fn new(clock: fn() -> Moment) -> Arc<Self> {
        Arc::new(Self { clock, waiting: Mutex::default() })
    }

    /// Returns at the next tick.
    pub async fn tick(self: Arc<Self>, agent: AgentId, name: HostName) {
        let (leave, left) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting();
            let is_first = waiting.is_empty();
            waiting.entry((name, agent)).or_default().push(leave);
            is_first
        };
        if is_first {
            let grid = Arc::clone(&self);
            tokio::spawn(async move {
                sleep(until_next((grid.clock)())).await;
                let leaving = std::mem::take(&mut *grid.waiting());
                for leave in leaving.into_values().flatten() {
                    // Nobody waits for it any more.
                    let _ = leave.send(());
                }
            });
        }
        // Gone with the grid, if at all.
        let _ = left.await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until_next(now: Moment) -> Duration {
    let tick = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(tick - now.0 % tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_is_a_multiple_of_a_tenth_of_a_second() {
        for (now, wait) in [(0, 100), (1, 99), (99, 1), (100, 100), (250, 50)] {
            assert_eq!(until_next(Moment(now * 1_000_000)), Duration::from_millis(wait), "{now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_wait_for_one_tick_leave_in_their_own_order() {
        let grid = Grid::new(|| Moment(30_000_000));
        let start = tokio::time::Instant::now();
        let left = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for name in ["c.test", "a.test", "b.test", "a.test"] {
            let (grid, left) = (Arc::clone(&grid), Arc::clone(&left));
            tasks.spawn(async move {
                grid.tick(AgentId(1), HostName::parse(name).unwrap()).await;
                left.lock().unwrap().push(name);
            });
        }
        tasks.join_all().await;
        assert_eq!(start.elapsed(), Duration::from_millis(70));
        assert_eq!(*left.lock().unwrap(), ["a.test", "a.test", "b.test", "c.test"]);
    }
}
