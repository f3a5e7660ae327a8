//! The oracle: what must be so whatever happens, and how long things took.

use std::time::Duration;

/// Traffic passes again within this after anything that stopped it was over, if both machines have a relay in common: what
/// WireGuard takes at the latest to notice that a session leads nowhere (15 s), and a round trip. Nearly always it is a second.
pub(crate) const HEALED: Duration = Duration::from_secs(16);
/// The same of packets as large as the interface gives, of which there is one every two seconds: a path
/// whose size shrank without a word is asked anew.
pub(crate) const HEALED_LARGE: Duration = Duration::from_secs(20);
/// A direct path is used within this after it became possible.
pub(crate) const DIRECT: Duration = Duration::from_secs(45);
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
    expected: bool,
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
    possible: bool,
    possible_since: Duration,
    direct_at: Duration,
    improved: bool,
    met: bool,
}

impl Pair {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            bound,
            cause: Cause::Start,
            touched: Duration::ZERO,
            expected: false,
            recovered: false,
            passes: false,
            arrived: Duration::ZERO,
            number: 0,
            seen: Vec::new(),
            steady: false,
            possible: false,
            possible_since: Duration::ZERO,
            direct_at: Duration::ZERO,
            improved: false,
            met: false,
        }
    }

    /// Something happened that concerns the pair.
    pub(crate) fn touch(&mut self, now: Duration, cause: Cause) {
        (self.touched, self.cause, self.recovered, self.steady) = (now, cause, false, false);
        (self.possible_since, self.improved, self.passes) = (now, false, false);
        self.met = false;
    }

    /// The next packet's number.
    pub(crate) fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Traffic is sent; `expected` says whether it must pass.
    pub(crate) fn sent(&mut self, now: Duration, expected: bool) -> Option<String> {
        if expected && !self.expected {
            (self.touched, self.recovered) = (now, false);
        }
        self.expected = expected;
        let gap = now.saturating_sub(self.touched.max(self.arrived));
        (expected && gap > self.bound).then(|| {
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
        if self.expected && !self.recovered && sent >= self.touched {
            self.recovered = true;
            healed[self.cause as usize].all.push(now - self.touched);
        }
        new
    }

    /// Both ways are direct, as they are by many sockets alone.
    pub(crate) fn met(&mut self, now: Duration, report: &mut Report) {
        if !std::mem::replace(&mut self.met, true) {
            report.met.all.push(now - self.touched);
        }
    }

    /// Whether it could be direct, is not, and has time yet; or traffic is awaited.
    pub(crate) fn waits(&self, now: Duration) -> bool {
        (self.possible && !self.improved && now < self.possible_since + DIRECT + WINDOW)
            || (self.expected && !self.recovered)
    }

    /// Looks at the paths; `possible` says whether they can be direct, `direct` whether both are.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        possible: bool,
        direct: bool,
        report: &mut Report,
    ) -> Option<String> {
        if possible && !self.possible {
            (self.possible_since, self.improved) = (now, false);
        }
        self.possible = possible;
        if direct {
            self.direct_at = now;
            self.steady = self.passes && now >= self.touched + SURE;
            if possible && !self.improved {
                self.improved = true;
                report.direct[self.cause as usize].all.push(now - self.possible_since);
            }
        }
        let late = now.saturating_sub(self.possible_since.max(self.direct_at));
        (possible && late > DIRECT).then(|| {
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
