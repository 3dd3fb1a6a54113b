//! The clocks: the only caller of `Instant::now` and `SystemTime::now` in the program (tests/it/layers.rs checks it).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic, for deadlines and backoffs.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock, seconds since 1970; 0 on a machine whose clock is before that.
pub fn unix() -> u64 {
    unix_millis() / 1000
}

/// Wall clock, milliseconds since 1970.
pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A moment as calendars show it where the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// East of Greenwich, seconds.
    pub offset: i32,
}

/// Local time of `unix` seconds, by `TZ` or /etc/localtime (an unknown zone is UTC). musl misjudges 7 old-style zone
/// names such as `EST5EDT` in winter; everyone who sets the zone by /etc/localtime or Area/City is right.
pub fn local(unix: u64) -> Local {
    // SAFETY: a zeroed `tm` is a valid value of this plain C struct.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // The type's name is deprecated for musl, where it is about to change: inferred from the call.
    let time = unix.try_into().unwrap_or(0);
    // SAFETY: both pointers are to live values of the right type; the function fills `tm` or returns null and leaves it.
    unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    let part = |value: libc::c_int| u32::try_from(value).unwrap_or(0);
    Local {
        year: tm.tm_year.saturating_add(1900),
        month: part(tm.tm_mon) + 1,
        day: part(tm.tm_mday),
        hour: part(tm.tm_hour),
        minute: part(tm.tm_min),
        second: part(tm.tm_sec),
        offset: i32::try_from(tm.tm_gmtoff).unwrap_or(0),
    }
}

/// East of Greenwich, seconds, at that moment.
pub fn local_offset(unix: u64) -> i32 {
    local(unix).offset
}
