//! Numbers, times and foreign text as people read them.

/// `text` with everything a terminal would obey replaced: names come from other machines.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of writing.
fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes in at most 8 characters: `0 B`, `999 B`, `1.2 GiB`, `340 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    if n < 1024 {
        return format!("{n} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // In tenths of a KiB, rounded down: a counter should not show what has not yet passed.
    let mut tenths = u128::from(n) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    let unit = units[unit];
    if tenths < 100 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

/// A round trip: `0.42 ms`, `12.4 ms`, `240 ms`.
pub(crate) fn milliseconds(ms: f64) -> String {
    if ms < 1.0 {
        format!("{ms:.2} ms")
    } else if ms < 100.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// How long from `now` until `then` (both unix seconds), in its two largest units: `in 1 day`, `in 2 h 5 min`.
pub(crate) fn until(then: u64, now: u64) -> String {
    let Some(left) = then.checked_sub(now).filter(|left| *left > 0) else {
        return "over".to_owned();
    };
    let minutes = left.div_ceil(60);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let days_text = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    match (days, hours, minutes) {
        (0, 0, m) => format!("in {m} min"),
        (0, h, 0) => format!("in {h} h"),
        (0, h, m) => format!("in {h} h {m} min"),
        (_, 0, _) => format!("in {days_text}"),
        (_, h, _) => format!("in {days_text} {h} h"),
    }
}

/// A time in unix seconds as `2026-11-23 01:46 UTC`.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
///
/// Counts from 1 March of the year 0, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const TO_1970: u64 = 719_468;
    /// Days of 400, 100 and 4 years.
    const D400: u64 = 146_097;
    const D100: u64 = 36_524;
    const D4: u64 = 1_461;
    let days = days.saturating_add(TO_1970);
    let (cycle, day) = (days / D400, days % D400);
    let century = (day / D100).min(3);
    let day = day - century * D100;
    let (olympiad, day) = (day / D4, day % D4);
    let year = (day / 365).min(3);
    let mut day = day - year * 365;
    let mut year = 400 * cycle + 100 * century + 4 * olympiad + year;
    let mut month = 3;
    for length in [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    if month > 12 {
        month -= 12;
        year += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::{bytes, milliseconds, printable, until, utc};

    #[test]
    fn bytes_have_a_unit_and_never_more_than_eight_characters() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_300_000_000), "1.2 GiB");
        assert_eq!(bytes(356_515_840), "340 MiB");
        assert_eq!(bytes(u64::MAX), "15 EiB");
        for shift in 0..64 {
            for n in [1_u64 << shift, (1_u64 << shift) - 1, (1_u64 << shift).saturating_mul(999) / 1000] {
                assert!(bytes(n).len() <= 8, "{n}: {}", bytes(n));
            }
        }
    }

    #[test]
    fn milliseconds_keep_three_digits_or_so() {
        assert_eq!(milliseconds(0.4167), "0.42 ms");
        assert_eq!(milliseconds(12.44), "12.4 ms");
        assert_eq!(milliseconds(240.2), "240 ms");
    }

    #[test]
    fn times_are_those_that_date_prints() {
        // date -u -d @N '+%F %H:%M UTC'
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (68_169_600, "1972-02-29 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
            (1_798_761_600, "2027-01-01 00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (13_574_563_200, "2400-02-29 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn the_time_left_is_told_in_its_two_largest_units() {
        assert_eq!(until(86_400, 0), "in 1 day");
        assert_eq!(until(86_400, 1), "in 1 day");
        assert_eq!(until(2 * 86_400 + 3 * 3600, 0), "in 2 days 3 h");
        assert_eq!(until(3600, 0), "in 1 h");
        assert_eq!(until(5400, 0), "in 1 h 30 min");
        assert_eq!(until(1, 0), "in 1 min");
        assert_eq!(until(5, 5), "over");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}c\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}");
        assert_eq!(printable("Büro"), "Büro");
    }
}
