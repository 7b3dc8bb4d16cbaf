//! The stream of records, over restarts of the daemon.

use super::line::Printer;
use crate::output::Format;
use egressd::{
    audit::Line,
    control::{
        Client, ClientError,
        protocol::{Frame, RecordsRequest},
    },
};
use std::{thread::sleep, time::Duration};

/// Shows what `request` asks for; where it follows, until it is killed or nobody reads on.
pub fn follow(client: &Client, request: RecordsRequest, format: Format) -> anyhow::Result<()> {
    let mut position = Position::default();
    let mut printer = Printer::new(format);
    let mut asked = request;
    loop {
        match read(client, &asked, &mut position, &mut printer)? {
            Ended::AtEnd if !asked.follow => return Ok(()),
            Ended::ByError(error) if !asked.follow || !position.is_known() || !error.may_pass() => {
                return Err(error.into());
            }
            Ended::AtEnd | Ended::ByError(_) => printer.lost_daemon()?,
        }
        sleep(RETRY);
        asked = RecordsRequest { after_seq: position.last_seen(), last: None, since: None, ..asked };
    }
}

/// Time between two attempts to reach a daemon that went away.
const RETRY: Duration = Duration::from_millis(250);

enum Ended {
    AtEnd,
    ByError(ClientError),
}

/// Which lines were shown or were not to be.
#[derive(Debug, Default)]
struct Position {
    /// The last line when the stream began: what it opened with is read whole.
    opened_after: Option<u64>,
    seen: Option<u64>,
}

impl Position {
    fn is_known(&self) -> bool {
        self.last_seen().is_some()
    }

    fn last_seen(&self) -> Option<u64> {
        self.seen.or(self.opened_after)
    }
}

/// Reads one stream to its end. Errors are those of our own output.
fn read(
    client: &Client,
    asked: &RecordsRequest,
    position: &mut Position,
    printer: &mut Printer,
) -> anyhow::Result<Ended> {
    let mut records = match client.records(asked) {
        Ok(records) => records,
        Err(error) => return Ok(Ended::ByError(error)),
    };
    loop {
        match records.next_frame() {
            Ok(Some(frame)) => show(frame, asked, position, printer)?,
            Ok(None) => return Ok(Ended::AtEnd),
            Err(error) => return Ok(Ended::ByError(error)),
        }
    }
}

fn show(
    frame: Frame,
    asked: &RecordsRequest,
    position: &mut Position,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    match frame {
        Frame::Feed { feed, .. } => {
            printer.found_daemon()?;
            if asked.after_seq.is_some_and(|seen| feed.next_seq <= seen) {
                printer.numbering_began_anew()?;
                position.seen = None;
            }
            position.opened_after = Some(feed.next_seq.saturating_sub(1));
        }
        Frame::Line(line) => {
            position.seen = Some(line.seq());
            match &line {
                Line::Record(record) => printer.record(record)?,
                Line::Gap(gap) => printer.gap(gap)?,
                Line::Alert(alert) => printer.alert(alert)?,
                Line::Change(change) => printer.change(change)?,
            }
        }
        Frame::Missed { missed, .. } => printer.missed(missed)?,
        Frame::Heartbeat { heartbeat, .. } => position.seen = Some(heartbeat.next_seq.saturating_sub(1)),
    }
    Ok(())
}
