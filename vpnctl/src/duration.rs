//! Times as people type them: numbers with units.

use std::time::Duration;

/// An invite lives from a minute to a year.
pub(crate) fn lifetime(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_secs(60) {
        return Err("an invite lives for at least a minute".to_owned());
    }
    if duration > Duration::from_secs(365 * DAY) {
        return Err("an invite lives for at most 365d".to_owned());
    }
    Ok(duration)
}

/// Probes are from 10 ms to an hour apart.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| "not a time".to_owned())?,
        Err(_) => duration(text)?,
    };
    if duration < Duration::from_millis(10) || duration > Duration::from_secs(3600) {
        return Err("from 10ms to 1h".to_owned());
    }
    Ok(duration)
}

/// Numbers with units, one after the other: `7d`, `1h30m`, `200ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a number and a unit (ms, s, m, h, d, w), such as 30m, 1h or 7d".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            "d" => number.checked_mul(DAY).map(Duration::from_secs),
            "w" => number.checked_mul(7 * DAY).map(Duration::from_secs),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

/// Seconds.
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_numbers_with_units() {
        assert_eq!(lifetime("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(lifetime("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(lifetime("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(lifetime("90s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn what_is_no_lifetime_is_refused() {
        for text in [
            "",
            "1",
            "h",
            "1y",
            "0d",
            "-1h",
            "1h2",
            "59s",
            "366d",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interval_may_be_bare_seconds() {
        assert_eq!(interval("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(interval("200ms"), Ok(Duration::from_millis(200)));
        for text in ["0", "NaN", "inf", "-1", "1e300", "2h", "x"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
