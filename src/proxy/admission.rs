//! A place in a lane for an exchange, with what the log says of it. The caps and the wait are `lane`'s.

use super::Shared;
use super::journal::{Marker, Tag};
use super::lane::{Full, Slot, Waited};
use super::sockets::{Open, Sockets};
use crate::sys::clock;

/// How long 0.2.38 calls itself overloaded after a refusal; nothing but the log follows from it.
const OVERLOAD_SECONDS: u64 = 3;

/// The place, or in words for the user why there is none.
pub fn admit<'a>(shared: &'a Shared, tag: Tag, path: &str) -> Result<Slot<'a>, String> {
    let path = path.split('?').next().unwrap_or(path);
    let transport = tag.transport();
    let lane = tag.lane.name();
    match shared.lanes.admit(tag.lane) {
        Ok((slot, Waited::No)) => Ok(slot),
        Ok((slot, Waited::For(waited, full))) => {
            let fields = format_args!(
                "transport={transport} path={path} waited_ms={} reason={}",
                waited.as_millis(),
                reason(full, lane)
            );
            shared.journal.note(Marker::AdmissionRecovered, fields);
            Ok(slot)
        }
        Err(full) => {
            let (marker, active, limit) = match full {
                Full::Lane { active, limit } => (Marker::LaneLimit, active, limit),
                Full::All { active, limit } => (Marker::ActiveLimit, active, limit),
            };
            note_full(shared, tag, path, marker, active, limit);
            let waited = shared.limits.admission_wait.as_millis();
            let reason = reason(full, lane);
            shared.journal.note(
                Marker::AdmissionExhausted,
                format_args!("transport={transport} path={path} waited_ms={waited} reason={reason}"),
            );
            let until = clock::unix() + OVERLOAD_SECONDS;
            shared.journal.note(Marker::LocalOverload, format_args!("until={until} reason={reason}"));
            Err(format!("prodex: {active} exchanges of this kind are in progress, and no more than {limit} may be."))
        }
    }
}

/// A place among the open sockets of a kind, or in words for the user why there is none.
pub fn open<'a>(shared: &Shared, tag: Tag, path: &str, sockets: &'a Sockets) -> Result<Open<'a>, String> {
    sockets.enter().ok_or_else(|| {
        note_full(shared, tag, path, Marker::ActiveLimit, sockets.most, sockets.most);
        format!("prodex: {} sockets of this kind are open, and no more may be.", sockets.most)
    })
}

/// So many are in progress, and no more may be.
fn note_full(shared: &Shared, tag: Tag, path: &str, marker: Marker, active: usize, limit: usize) {
    let path = path.split('?').next().unwrap_or(path);
    let (transport, lane) = (tag.transport(), tag.lane.name());
    let fields = format_args!("transport={transport} path={path} lane={lane} active={active} limit={limit}");
    shared.journal.note(marker, fields);
}

fn reason(full: Full, lane: &str) -> String {
    match full {
        Full::Lane { .. } => format!("lane_limit:{lane}"),
        Full::All { .. } => "active_request_limit".to_owned(),
    }
}
