//! The data inventory: what a component stores, declared field by field, and what of it is there now.
//!
//! Each component that stores anything has an `inventory.toml` beside its sources ([`Inventory`]). Its tests fail if it
//! stores something that is not declared, or declares something that it does not store. A [`Record`] is the same list
//! with what is stored at this moment; it is made to be shown to the person it is about, and to nobody else.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Days that count as a month here.
pub const MONTH_DAYS: u64 = 30;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// What a component stores, as declared.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Which component.
    pub component: String,
    /// Where it stores: a directory, as installed.
    pub place: String,
    /// What is to be said of all of it.
    pub about: String,
    /// What it stores.
    #[serde(default)]
    pub item: Vec<Item>,
}

/// One thing that is stored.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Where: a file (`networks/*/keys`), a column (`accounts.tag`), a key in a table (`settings/authority`).
    pub place: String,
    /// What it is.
    pub field: String,
    /// What for.
    pub purpose: String,
    /// On which ground the law lets it be processed, where the law applies.
    pub basis: String,
    /// For how long.
    pub retention: String,
    /// How finely it tells a time or a place.
    pub granularity: String,
    /// Who can read it.
    pub readers: String,
    /// The finest time that may stand in it.
    #[serde(default)]
    pub time: Granularity,
    /// Whether an IP address may stand in it.
    #[serde(default)]
    pub addresses: bool,
}

/// How finely a stored time may tell when.
#[derive(Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// No finer than a month.
    #[default]
    Month,
    /// A day.
    Day,
    /// A minute.
    Minute,
}

/// A number from here on is no time of this millennium in seconds, or in milliseconds.
const MILLISECONDS: u64 = 100_000_000_000;
const MICROSECONDS: u64 = 100_000_000_000_000;

/// What a component stores now.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// Which component.
    pub component: String,
    /// Where it looked.
    pub place: String,
    /// Every declared thing, with what is there.
    pub items: Vec<Held>,
    /// What is there and not declared, or breaks its declaration; empty unless something is wrong.
    pub undeclared: Vec<String>,
}

/// A declared thing and what of it is there now.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Held {
    /// The declaration.
    #[serde(flatten)]
    pub item: Item,
    /// The values, or what kind of bytes they are where they are secret or sealed.
    pub values: Vec<String>,
}

impl Inventory {
    /// The items declared for a place.
    pub fn at<'a>(&'a self, place: &'a str) -> impl Iterator<Item = &'a Item> {
        self.item.iter().filter(move |item| matches(&item.place, place))
    }

    /// What the bytes at `place` tell that no declaration of that place allows; `now` in unix seconds.
    #[must_use]
    pub fn violations(&self, place: &str, bytes: &[u8], now: u64) -> Vec<String> {
        if self.at(place).next().is_none() {
            return vec![format!("{place}: not declared")];
        }
        let finest = self.at(place).map(|item| item.time).max().unwrap_or_default();
        let mut found = Vec::new();
        if !self.at(place).any(|item| item.addresses) && has_address(bytes) {
            found.push(format!("{place}: holds an IP address"));
        }
        if times(bytes, now).any(|time| granularity_of(time).is_none_or(|finer| finer > finest)) {
            found.push(format!("{place}: holds a time finer than declared"));
        }
        found
    }
}

/// Whether `place` is what `pattern` says; `*` stands for one part between slashes.
#[must_use]
pub fn matches(pattern: &str, place: &str) -> bool {
    let (mut pattern, mut place) = (pattern.split('/'), place.split('/'));
    loop {
        match (pattern.next(), place.next()) {
            (None, None) => return true,
            (Some(p), Some(q)) if p == "*" || p == q => {}
            _ => return false,
        }
    }
}

/// The coarsest granularity at which this time is whole; `None` if it tells the second.
#[must_use]
pub fn granularity_of(seconds: u64) -> Option<Granularity> {
    if seconds.is_multiple_of(MONTH_DAYS * DAY) {
        Some(Granularity::Month)
    } else if seconds.is_multiple_of(DAY) {
        Some(Granularity::Day)
    } else {
        seconds.is_multiple_of(MINUTE).then_some(Granularity::Minute)
    }
}

/// Every time within a day of `now` that stands anywhere in the bytes: as a 64-bit integer of either order or in decimal
/// digits, in unix seconds, milliseconds or microseconds, or as a date of the calendar with or without a time of day. A time at
/// which something happened is found when it is written; a wider range would find one by chance wherever a small number
/// stands beside random bytes.
fn times(bytes: &[u8], now: u64) -> impl Iterator<Item = u64> {
    let range = now.saturating_sub(DAY)..now.saturating_add(DAY);
    let near = range.clone();
    // Big-endian seconds are how Tacet writes a time. All else comes up by chance where random bytes stand beside zeros, the
    // more often the finer it is: of those fewer count.
    let likely = move |n: &u64| {
        if *n < MILLISECONDS {
            n.abs_diff(now) <= 4 * HOUR
        } else if *n < MICROSECONDS {
            (n / 1_000).abs_diff(now) <= 4 * HOUR
        } else {
            (n / 1_000_000).abs_diff(now) <= 10 * MINUTE
        }
    };
    let numbers =
        bytes.windows(8).filter_map(|window| window.try_into().ok()).flat_map(move |window: [u8; 8]| {
            let (big, little) = (u64::from_be_bytes(window), u64::from_le_bytes(window));
            let seconds = Some(big).filter(|n| *n < MILLISECONDS);
            seconds.into_iter().chain([big, little].into_iter().filter(likely))
        });
    let written = bytes
        .split(|byte| !byte.is_ascii_digit())
        .filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let plausible = move |n: u64| [n, n / 1_000, n / 1_000_000].into_iter().find(|time| range.contains(time));
    // A date alone is not near enough by itself: its day is.
    let dates = bytes.windows(10).enumerate().filter_map(|(at, window)| {
        let day = date(window)?;
        Some(day * DAY + time_of_day(bytes.get(at + 10..at + 19).unwrap_or_default()))
    });
    numbers
        .chain(written)
        .filter_map(plausible)
        .chain(dates.filter(move |time| near.contains(time) || near.contains(&(time + DAY - 1))))
}

/// The unix day of `2026-11-22`.
fn date(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(days - 719_468)
}

/// The seconds of `T05:06:07`, 0 where there is no such text.
fn time_of_day(text: &[u8]) -> u64 {
    let read = || {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(['T', 't', ' '])?;
        let mut parts = text.split(':').map(|part| part.parse::<u64>().ok());
        Some(parts.next()?? * 3_600 + parts.next()?? * 60 + parts.next()??)
    };
    read().unwrap_or_default()
}

/// Whether an IP address stands in the bytes as text.
#[must_use]
pub fn has_address(bytes: &[u8]) -> bool {
    let of_address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
    bytes.split(|b| !of_address(b)).filter_map(|run| std::str::from_utf8(run).ok()).any(|run| {
        let run = run.trim_matches(':');
        let host = run.rsplit_once(':').map_or(run, |(host, _)| host);
        [run, host].iter().any(|text| match text.parse() {
            Ok(IpAddr::V4(_)) => true,
            // Shorter ones come up by chance in ciphertext.
            Ok(IpAddr::V6(_)) => text.len() >= 9,
            Err(_) => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_316_400;

    fn inventory(time: Granularity, addresses: bool) -> Inventory {
        let words = || "words".to_owned();
        let item = Item {
            place: "networks/*/keys".to_owned(),
            field: words(),
            purpose: words(),
            basis: words(),
            retention: words(),
            granularity: words(),
            readers: words(),
            time,
            addresses,
        };
        Inventory { component: words(), place: words(), about: words(), item: vec![item] }
    }

    #[test]
    fn a_place_is_known_by_its_pattern_and_nothing_else_is() {
        let inventory = inventory(Granularity::Month, false);
        assert!(inventory.violations("networks/1f/keys", b"", NOW).is_empty());
        for place in ["networks/keys", "networks/1f/keys/more", "networks/1f/log", "keys"] {
            assert_eq!(inventory.violations(place, b"", NOW), [format!("{place}: not declared")]);
        }
    }

    #[test]
    fn a_time_is_found_wherever_it_stands_and_may_be_as_fine_as_declared() {
        let second = NOW + 7;
        let minute = NOW / 60 * 60;
        let day = NOW / DAY * DAY;
        let month = NOW / (30 * DAY) * (30 * DAY);
        let found = |declared, time: u64| {
            let places = [time.to_be_bytes(), time.to_le_bytes(), (time * 1000 + 3).to_be_bytes()];
            let found = places.map(|bytes| {
                let bytes = [b"abc", &bytes[..], b"defg"].concat();
                !inventory(declared, false).violations("networks/1/keys", &bytes, NOW).is_empty()
            });
            assert!(found.iter().all(|f| *f == found[0]), "{time}");
            found[0]
        };
        assert!(found(Granularity::Minute, second));
        let micros = (second * 1_000_000 + 5).to_le_bytes();
        assert!(
            !inventory(Granularity::Minute, false).violations("networks/1/keys", &micros, NOW).is_empty()
        );
        assert!(!found(Granularity::Minute, minute));
        assert!(found(Granularity::Day, minute) && !found(Granularity::Day, day));
        assert!(found(Granularity::Month, day) && !found(Granularity::Month, month));
    }

    #[test]
    fn a_time_is_found_in_words_too() {
        // 2026-11-22 03:00:00 and seven seconds.
        let found = |declared, text: &str| {
            !inventory(declared, false).violations("networks/1/keys", text.as_bytes(), NOW).is_empty()
        };
        for text in [
            "seen=1795316407;",
            "1795316407123",
            "1795316407123456",
            "at 2026-11-22T03:00:07Z",
            "2026-11-22 03:00:07",
        ] {
            assert!(found(Granularity::Day, text), "{text}");
        }
        assert!(found(Granularity::Month, "2026-11-22") && !found(Granularity::Day, "2026-11-22"));
        assert!(found(Granularity::Minute, "2026-11-22T03:00:07Z"));
        let minute = "2026-11-22T03:00:00Z";
        assert!(found(Granularity::Day, minute) && !found(Granularity::Minute, minute));
        // Part of yesterday is less than a day ago.
        assert!(found(Granularity::Month, "2026-11-21") && !found(Granularity::Month, "2026-11-20"));
        for text in ["1195316407", "2019-11-22T03:00:07Z", "17953164071", "2026-13-22", "version 1.795.316"] {
            assert!(!found(Granularity::Month, text), "{text}");
        }
    }

    #[test]
    fn an_address_is_found_in_any_text() {
        for text in [
            "203.0.113.7",
            "https://203.0.113.7:8443/x",
            "a\0[2001:db8::1]:51820",
            "fd12:3456:789a::1",
            "from=198.51.100.23",
            "\u{1}\u{b}192.168.1.20\u{0}",
        ] {
            assert!(has_address(text.as_bytes()), "{text}");
            assert_eq!(
                inventory(Granularity::Month, false)
                    .violations("networks/1/keys", text.as_bytes(), NOW)
                    .len(),
                1
            );
            assert!(
                inventory(Granularity::Month, true)
                    .violations("networks/1/keys", text.as_bytes(), NOW)
                    .is_empty()
            );
        }
        for text in [
            "https://vpn.example",
            "1.2.3",
            "tacet-relay",
            "12:34",
            "::",
            "a::b",
            "fd::12:3",
            "deadbeef",
            "1.0.0.0.1.2",
        ] {
            assert!(!has_address(text.as_bytes()), "{text}");
        }
    }
}
