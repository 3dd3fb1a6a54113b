//! Moments for people. The zone is a function from a unix time to its offset, so that tests can use any.

use crate::quota::span_words;

/// Offset east of Greenwich in seconds, at a unix time.
pub type Zone<'a> = &'a dyn Fn(u64) -> i32;

const DAY: i64 = 86_400;

/// `2026-11-25 05:12 +01:00`.
pub fn local(unix: u64, zone: Zone) -> String {
    let offset = i64::from(zone(unix));
    let local = i64::try_from(unix).unwrap_or(i64::MAX).saturating_add(offset).max(0);
    let (year, month, day) = date(local / DAY);
    let minutes = local % DAY / 60;
    let (sign, east) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} {sign}{:02}:{:02}", east / 3600, east % 3600 / 60)
}

/// How long until something, to the second while that matters: `4d 15h`, `1h 40m 12s`, `4m 05s`, `9s`.
pub fn countdown(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (24.., _) => span_words(seconds),
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m {rest:02}s"),
        _ => format!("{hours}h {minutes:02}m {rest:02}s"),
    }
}

/// `12s ago`, `2h 10m ago`.
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s ago"),
        _ => format!("{} ago", span_words(seconds)),
    }
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: i64) -> (i64, usize, i64) {
    // The calendar repeats every 400 years, and within them the years are counted off.
    const CYCLE: i64 = 146_097;
    let mut year = 1970 + days / CYCLE * 400;
    let mut left = days % CYCLE;
    while left >= year_length(year) {
        left -= year_length(year);
        year += 1;
    }
    let february = year_length(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

fn year_length(year: i64) -> i64 {
    if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let rows = [
            (0, "0s", "0s ago"),
            (59, "59s", "59s ago"),
            (245, "4m 05s", "4m ago"),
            (6_012, "1h 40m 12s", "1h 40m ago"),
            (86_399, "23h 59m 59s", "23h 59m ago"),
            (400_000, "4d 15h", "4d 15h ago"),
        ];
        for (seconds, until, since) in rows {
            assert_eq!((countdown(seconds), ago(seconds)), (until.to_owned(), since.to_owned()));
        }
    }

    #[test]
    fn moments_that_date_1_knows() {
        let rows = [
            (0, 0, "1970-01-01 00:00 +00:00"),
            (951_782_400, 0, "2000-02-29 00:00 +00:00"),
            (951_868_799, 0, "2000-02-29 23:59 +00:00"),
            (1_795_587_131, 3_600, "2026-11-25 07:12 +01:00"),
            (1_798_761_600, -1, "2026-12-31 23:59 -00:00"),
            (1_798_761_599, 20_700, "2027-01-01 05:44 +05:45"),
            (1_798_761_600, -12_600, "2026-12-31 20:30 -03:30"),
            (4_107_542_400, 0, "2100-03-01 00:00 +00:00"),
            (253_402_300_799, 0, "9999-12-31 23:59 +00:00"),
        ];
        for (unix, offset, expected) in rows {
            assert_eq!(local(unix, &|_| offset), expected);
        }
        let _ = (local(u64::MAX, &|_| i32::MAX), local(0, &|_| i32::MIN));
    }
}
