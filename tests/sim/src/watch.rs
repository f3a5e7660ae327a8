//! The oracle: what must be so whatever happens, and how long things took.

use std::time::Duration;

use crate::net::Way;

/// Traffic passes again within this after anything that stopped it was over, if both machines have a relay in common: what
/// WireGuard takes at the latest to notice that a session leads nowhere (15 s), and a round trip. Nearly always it is a second.
pub(crate) const HEALED: Duration = Duration::from_secs(16);
/// The same of packets as large as the interface gives, of which there is one every two seconds: a path
/// whose size shrank without a word is asked anew.
pub(crate) const HEALED_LARGE: Duration = Duration::from_secs(20);
/// And so much later between machines on one LAN without a relay: they ask for each other every 30 s at least, the next time that an
/// initiation is repeated, which is every five.
pub(crate) const FOUND: Duration = Duration::from_secs(30);
/// A direct path is used within this after it became possible.
pub(crate) const DIRECT: Duration = Duration::from_secs(45);
/// The same where a router gives the other machine alone another port, so that it takes many sockets of the one behind it
/// (decision 021): each of the two has its turn twice, the first within 42 s, the last after 127 s, and each lasts 25 s. One
/// turn in a hundred leads nowhere, for chance and what lines lose.
pub(crate) const SOUGHT: Duration = Duration::from_secs(180);
/// Four turns may be had at once, and these are three: so many may have been used up since data went directly.
const USED: u32 = 1;
/// When a machine that nobody answers begins a turn: not before, and again not before…
const ALONE: [Duration; 2] = [Duration::from_secs(40), Duration::from_secs(100)];
/// …and when either of two begins one that reach each other: one of them moved perhaps, or is behind a hard NAT.
const TOGETHER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(31), Duration::from_secs(70)];
/// What is direct so long after something happened did not only look like it before it was noticed.
const SURE: Duration = Duration::from_secs(5);
/// No session is older (WireGuard's REJECT_AFTER_TIME, and a late look).
pub(crate) const FRESH: Duration = Duration::from_secs(186);
/// Without data for this long, a machine sends nothing at all.
pub(crate) const SILENT: Duration = Duration::from_secs(205);
/// In [`WINDOW`], a machine may send so many datagrams for each peer that carry no data, whatever happens around it.
pub(crate) const STORM: u64 = 600;
/// And so many where nothing has happened since [`CALM`].
pub(crate) const CHATTER: u64 = 100;
/// And so many more, for all peers together, where one of them has many sockets: two hundred a second are looked for.
pub(crate) const SEEKS: u64 = 2_100;
/// After one call a core has no more to say for each peer: its buffers grow no further.
pub(crate) const AT_ONCE: u64 = 64;
/// A machine to which nothing happened for so long has found its paths, or has given them up.
pub(crate) const CALM: Duration = Duration::from_secs(15);
/// See [`STORM`].
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// What can have made a pair of machines begin anew, by [`Cause`].
pub const CAUSES: [&str; 14] = [
    "start", "cut", "offline", "heal", "roam", "new WAN", "flush", "sleep", "restart", "relay", "quiet",
    "clock", "epoch", "size",
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Start,
    Cut,
    Offline,
    Heal,
    Roam,
    NewWan,
    Flush,
    Sleep,
    Restart,
    Relay,
    Quiet,
    Clock,
    Epoch,
    Size,
}

/// What a simulation showed.
#[derive(Clone, Default)]
pub struct Report {
    /// What must not be, if it was.
    pub broken: Option<String>,
    /// How long it took, in its own time.
    pub time: Duration,
    /// Datagrams and frames that machines sent.
    pub datagrams: u64,
    /// Inner packets that arrived.
    pub packets: u64,
    /// The most datagrams without data that a machine sent for each peer in ten seconds.
    pub chatter: u64,
    /// The most datagrams that a core had to say at once for each peer: what its buffers hold.
    pub at_once: u64,
    /// How long it took until traffic passed again, by cause.
    pub healed: [Times; CAUSES.len()],
    /// How long it took until packets as large as the interface gives passed again, by cause; asked only where a line
    /// carries less at some time.
    pub large: [Times; CAUSES.len()],
    /// How long it took until both ways were direct, by cause.
    pub direct: [Times; CAUSES.len()],
    /// How long it took until both ways were direct where that needs many sockets.
    pub met: Times,
    /// Depends on everything that every machine did.
    pub print: u64,
}

/// How long something took.
#[derive(Clone, Default)]
pub struct Times {
    all: Vec<Duration>,
}

/// One machine's traffic to another.
pub(crate) struct Pair {
    /// Traffic passes again within this.
    bound: Duration,
    cause: Cause,
    touched: Duration,
    /// Whether it must, and how much later.
    expected: Option<Duration>,
    recovered: bool,
    /// A packet that was sent since then arrived.
    passes: bool,
    /// When a packet arrived last.
    arrived: Duration,
    /// The next packet's number, and which arrived.
    number: u32,
    seen: Vec<u64>,
    /// Both ways were direct and nothing has happened since.
    pub(crate) steady: bool,
    /// A direct path is used within this, if there can be one.
    within: Option<Duration>,
    possible_since: Duration,
    direct_at: Duration,
    /// Turns with many sockets since then, at most.
    turns: u32,
    improved: bool,
    met: bool,
}

impl Pair {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            bound,
            cause: Cause::Start,
            touched: Duration::ZERO,
            expected: None,
            recovered: false,
            passes: false,
            arrived: Duration::ZERO,
            number: 0,
            seen: Vec::new(),
            steady: false,
            within: None,
            possible_since: Duration::ZERO,
            direct_at: Duration::ZERO,
            turns: 0,
            improved: false,
            met: false,
        }
    }

    /// Something happened that concerns the pair.
    pub(crate) fn touch(&mut self, now: Duration, cause: Cause) {
        let spell = now - self.touched.max(self.direct_at);
        let begin = if self.expected.is_some() { &TOGETHER[..] } else { &ALONE };
        self.turns += begin.iter().filter(|begin| spell >= **begin).count() as u32;
        (self.touched, self.cause, self.recovered, self.steady) = (now, cause, false, false);
        (self.possible_since, self.improved, self.passes) = (now, false, false);
        self.met = false;
    }

    /// The next packet's number.
    pub(crate) fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Traffic is sent; `expected` says whether it must pass, and how much later than usual.
    pub(crate) fn sent(&mut self, now: Duration, expected: Option<Duration>) -> Option<String> {
        if expected.is_some_and(|late| self.expected.is_none_or(|before| late < before)) {
            (self.touched, self.recovered) = (now, false);
        }
        self.expected = expected;
        let gap = now.saturating_sub(self.touched.max(self.arrived));
        expected.filter(|late| gap > self.bound + *late).map(|_| {
            let after = CAUSES[self.cause as usize];
            format!("no traffic for {gap:?}, after: {after}")
        })
    }

    /// A packet arrived. False if it had before.
    pub(crate) fn came(&mut self, now: Duration, number: u32, sent: Duration, healed: &mut [Times]) -> bool {
        let (word, bit) = (number as usize / 64, number % 64);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] >> bit & 1 == 0;
        self.seen[word] |= 1 << bit;
        self.arrived = now;
        self.passes |= sent >= self.touched;
        if self.expected.is_some() && !self.recovered && sent >= self.touched {
            self.recovered = true;
            healed[self.cause as usize].all.push(now - self.touched);
        }
        new
    }

    /// Both ways are direct, as they are by many sockets alone.
    pub(crate) fn met(&mut self, now: Duration, report: &mut Report) {
        if !std::mem::replace(&mut self.met, true) && !self.improved {
            report.met.all.push(now - self.touched);
        }
    }

    /// How long it may take from now on if it could be direct, is not, and has time yet; or if traffic is awaited.
    pub(crate) fn waits(&self, now: Duration) -> Option<Duration> {
        let direct =
            self.within.filter(|within| !self.improved && now < self.possible_since + *within + WINDOW);
        let passes = (self.expected.is_some() && !self.recovered).then_some(DIRECT);
        direct.max(passes)
    }

    /// Looks at the paths; `way` says whether they can be direct, `asked` whether the two have what they need to find that out,
    /// `direct` whether both are.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        (way, asked): (Way, bool),
        direct: bool,
        report: &mut Report,
    ) -> Option<String> {
        let within = match way {
            Way::Open if asked => Some(DIRECT),
            Way::Sought(_) if asked && self.turns <= USED => Some(SOUGHT),
            _ => None,
        };
        if within.is_some() && within != self.within {
            (self.possible_since, self.improved) = (now, false);
        }
        self.within = within;
        if direct && way != Way::No {
            (self.direct_at, self.turns) = (now, 0);
            if way == Way::Open {
                self.steady = self.passes && now >= self.touched + SURE;
            }
            if within.is_some() && !std::mem::replace(&mut self.improved, true) && way == Way::Open {
                report.direct[self.cause as usize].all.push(now - self.possible_since);
            }
        }
        let late = now.saturating_sub(self.possible_since.max(self.direct_at));
        within.filter(|within| late > *within).map(|_| {
            format!("not direct for {late:?} though it can be, after: {}", CAUSES[self.cause as usize])
        })
    }
}

impl Times {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.all.extend_from_slice(&other.all);
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// What so many of a hundred stayed under.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut all = self.all.clone();
        all.sort_unstable();
        let at = (all.len() * percent).div_ceil(100).saturating_sub(1);
        all.get(at).copied().unwrap_or_default()
    }
}
