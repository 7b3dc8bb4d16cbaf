//! Moves bulk from one socket to another inside the kernel.

use super::{purse::Purse, relay::Activity, share::Loan};
use std::{future::poll_fn, io};
use tokio::{io::Interest, net::TcpStream, task::yield_now};

/// How a burst ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burst {
    /// The source has nothing at hand after so many octets. All of them were handed on.
    Quiet(usize),
    /// The source has ended. All that it sent was handed on.
    End,
}

/// Moves what `from` sends to `to` until `from` has nothing more at hand. A sink that takes nothing
/// stops the source: nothing is read before what was read is handed on.
///
/// # Errors
/// One of the sockets is dead, or `purse` cannot pay.
pub async fn burst(
    mut loan: Loan,
    from: &TcpStream,
    to: &TcpStream,
    activity: &Activity,
    purse: Option<&Purse>,
) -> io::Result<Burst> {
    let (mut moved, mut turn) = (0, 0);
    loop {
        match from.try_io(Interest::READABLE, || loan.pipe.fill(from)) {
            Ok(0) => {
                loan.give_back();
                return Ok(Burst::End);
            }
            Ok(octets) => {
                moved += octets;
                turn += octets;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                loan.give_back();
                return Ok(Burst::Quiet(moved));
            }
            Err(error) => return Err(error),
        }
        let mut paid = 0;
        while loan.pipe.held() > 0 {
            if paid == 0 {
                // Else it goes with the pipe.
                let held = loan.pipe.held();
                paid = purse.map_or(Ok(held), |purse| purse.pay_some(held))?;
            }
            poll_fn(|context| to.poll_write_ready(context)).await?;
            match to.try_io(Interest::WRITABLE, || loan.pipe.drain(to, paid)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => {
                    paid = paid.saturating_sub(octets);
                    activity.note();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if turn >= TURN {
            turn = 0;
            yield_now().await;
        }
    }
}

/// How many octets one flow moves before others on its thread have a turn: some 300 us.
const TURN: usize = 1024 * 1024;
