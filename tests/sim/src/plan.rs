//! What happens in one simulation, read from bytes.
//!
//! Every choice is one byte, taken modulo the number of its possibilities: bytes that a fuzzer changed still mean
//! something, each alone, and an input can be shrunk by leaving out bytes. Missing bytes are zeros. New possibilities go
//! to the ends of the tables here, in multiples that keep old seeds what they were; the corpus notices if not.

use std::{ops::Range, time::Duration};

use arbitrary::{Arbitrary, Result, Unstructured};

/// The most machines.
pub(crate) const MAX_HOSTS: usize = 4;
/// The most that happens in one simulation.
const MAX_EVENTS: usize = 12;

/// A network of machines and what happens to it.
#[derive(Clone)]
pub struct Plan {
    /// How many relays there are.
    pub relays: usize,
    /// The machines.
    pub hosts: Vec<HostPlan>,
    /// What happens, in order.
    pub events: Vec<Event>,
}

/// One machine at the start.
#[derive(Clone, Copy)]
pub struct HostPlan {
    /// Where it is.
    pub place: Place,
    /// Whether the roster names an endpoint of it.
    pub fixed: bool,
    /// Whether it has many sockets, for hard NATs.
    pub pool: bool,
}

/// A network that a machine is in.
#[derive(Clone, Copy)]
pub struct Place {
    /// What is between it and the internet.
    pub site: Site,
    /// The line to there.
    pub line: Line,
    /// Whether the router sends back what is for itself.
    pub hairpin: bool,
    /// How long a mapping lives without outgoing packets.
    pub life: Duration,
    /// Whether there is IPv6 (without translation, behind a firewall that lets answers in).
    pub v6: bool,
    /// Which of the common home ranges the LAN has.
    pub range: u8,
}

/// What is between a machine and the internet, in RFC 4787's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// Nothing: a public address.
    Public,
    /// Endpoint-independent mapping that keeps the port, address and port dependent filtering.
    Easy,
    /// As Linux's netfilter: the port is kept where nobody else has it towards the same destination.
    Netfilter,
    /// As an easy one, with another port.
    Remap,
    /// Endpoint-independent mapping, address-dependent filtering.
    Address,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// An address of its own for one machine inside.
    OneToOne,
    /// A random port for each destination, address and port dependent filtering.
    Hard,
    /// An easy router behind the provider's, which is easy too and shared by all such.
    Shared,
    /// The same, and the provider's gives a random port for each destination.
    SharedHard,
    /// Beside the machine before it.
    SameLan,
    /// UDP does not pass.
    Blocked,
    /// IPv6 alone.
    OnlyV6,
}

/// A line between a site and the internet.
#[derive(Clone, Copy)]
pub struct Line {
    /// One way.
    pub delay: Duration,
    /// At random up to this much more, so that packets overtake each other.
    pub jitter: Duration,
    /// Of ten thousand packets so many are lost, each way.
    pub loss: u32,
    /// The largest IP packet that it carries; larger ones vanish without a word.
    pub mtu: u16,
}

/// Something that happens.
#[derive(Clone, Copy)]
pub struct Event {
    /// So long after the one before.
    pub after: Duration,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Copy)]
pub enum What {
    /// No packet passes between two machines any more, except over relays.
    Cut(usize, usize),
    /// A machine reaches a relay no more.
    CutRelay(usize, usize),
    /// A machine reaches nobody.
    Offline(usize),
    /// All of that is over.
    Heal,
    /// A machine is in another network.
    Roam(usize, Place),
    /// A machine reaches nobody for a while, and is then in the network where it was before it roamed, or stayed in it, with
    /// another local address.
    Return(usize, Duration),
    /// A machine's router has another public address and knows nothing of before.
    NewWan(usize),
    /// A machine's router forgets its mappings.
    Flush(usize),
    /// A machine is frozen for a while.
    Sleep(usize, Duration),
    /// A machine's data path starts anew.
    Restart(usize),
    /// All machines' do.
    RestartAll,
    /// A relay starts anew, as often, a second between.
    RelayRestart(usize, u32),
    /// A relay is gone.
    RelayDown(usize),
    /// Nobody sends anything for a while.
    Quiet(Duration),
    /// A new epoch.
    Epoch,
    /// A machine is removed from the network.
    Remove(usize),
    /// A machine's wall clock is set, by so many seconds.
    Clock(usize, i64),
    /// A machine's line changes.
    Line(usize, Line),
    /// A machine's line carries packets of this size at most from now on, and says nothing.
    Size(usize, u16),
}

const DELAYS: [u64; 8] = [5, 1, 10, 20, 40, 80, 150, 300];
const LOSSES: [u32; 8] = [0, 0, 0, 0, 100, 100, 300, 500];
const LIVES: [u64; 4] = [30, 60, 120, 300];
const GAPS: [u64; 16] = [
    3_000, 0, 50, 200, 500, 1_000, 1_500, 2_000, 5_000, 7_000, 10_000, 12_000, 15_000, 20_000, 30_000, 45_000,
];
const NAPS: [u64; 8] = [1, 5, 20, 40, 100, 200, 400, 700];
/// Mostly longer than a mapping lives that nothing keeps, and shorter than a session.
const AWAY: [u64; 8] = [40, 70, 100, 40, 130, 70, 5, 400];
const JUMPS: [i64; 8] = [-1, 1, -60, 60, -3_600, 3_600, -31_536_000, 31_536_000];
const SIZES: [u16; 8] = [1_280, 1_500, 1_400, 1_300, 1_492, 1_281, 1_340, 1_460];
/// Of a line that carries what Ethernet carries.
const ETHERNET: u16 = 1_500;
const SITES: [Site; 16] = [
    Site::Easy,
    Site::Public,
    Site::Easy,
    Site::Remap,
    Site::Easy,
    Site::Address,
    Site::FullCone,
    Site::OneToOne,
    Site::Hard,
    Site::Shared,
    Site::SharedHard,
    Site::SameLan,
    Site::Blocked,
    Site::OnlyV6,
    Site::Shared,
    Site::SameLan,
];
/// Bytes that stand for an easy router, but for one of this kind.
const NETFILTER: Range<u8> = 0x80..0xf0;

impl<'a> Arbitrary<'a> for Plan {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = pick(u, &[2, 2, 2, 3, 2, 2, 3, 4])?;
        let relays = pick(u, &[1, 1, 2, 3])?;
        let hosts = (0..count)
            .map(|_| {
                let (place, flags) = (Place::arbitrary(u)?, byte(u)?);
                // Where it takes them most, every second machine has many sockets.
                let least = if place.site == Site::Netfilter { 4 } else { 7 };
                Ok(HostPlan { place, fixed: flags % 8 == 7, pool: flags >> 5 >= least })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut events = Vec::new();
        while !u.is_empty() && events.len() < MAX_EVENTS {
            let after = Duration::from_millis(pick(u, &GAPS)?);
            events.push(Event { after, what: what(u, count, relays)? });
        }
        Ok(Self { relays, hosts, events })
    }
}

impl<'a> Arbitrary<'a> for Place {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let number = byte(u)?;
        let site = match SITES[usize::from(number) % SITES.len()] {
            Site::Easy if NETFILTER.contains(&number) => Site::Netfilter,
            site => site,
        };
        let line = Line::arbitrary(u)?;
        let flags = usize::from(byte(u)?);
        Ok(Self {
            site,
            line,
            hairpin: flags & 1 != 0,
            life: Duration::from_secs(LIVES[flags >> 1 & if site == Site::Netfilter { 1 } else { 3 }]),
            v6: flags >> 3 & 3 == 3 || site == Site::OnlyV6,
            range: (flags >> 5) as u8 % 3,
        })
    }
}

impl<'a> Arbitrary<'a> for Line {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let bits = usize::from(byte(u)?);
        let delay = Duration::from_millis(DELAYS[bits & 7]);
        let jitter = if bits >> 3 & 3 == 3 { delay / 2 } else { Duration::ZERO };
        Ok(Self { delay, jitter, loss: LOSSES[bits >> 5], mtu: ETHERNET })
    }
}

impl Plan {
    /// Whether any line carries less than others at some time, so that large packets are worth sending.
    pub(crate) fn has_sizes(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, What::Size(..)))
    }

    /// Whether any machine has many sockets.
    pub(crate) fn has_pools(&self) -> bool {
        self.hosts.iter().any(|host| host.pool)
    }

    /// The plan that bytes stand for.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut u = Unstructured::new(bytes);
        Self::arbitrary(&mut u).unwrap_or(Self { relays: 1, hosts: Vec::new(), events: Vec::new() })
    }
}

fn what(u: &mut Unstructured<'_>, hosts: usize, relays: usize) -> Result<What> {
    let (kind, who, how) = (byte(u)? % 20, byte(u)?, byte(u)?);
    let host = usize::from(who) % hosts;
    let relay = usize::from(how) % relays;
    Ok(match kind {
        17 | 18 if who >= 128 => What::Return(host, Duration::from_secs(AWAY[usize::from(how) & 7])),
        0 | 17 => {
            let place = Place::arbitrary(&mut Unstructured::new(&[how, who, how.rotate_left(3)]))?;
            What::Roam(host, place)
        }
        1 => What::Cut(host, (host + 1 + usize::from(how) % (hosts - 1)) % hosts),
        2 => What::CutRelay(host, relay),
        3 => What::Offline(host),
        4 | 18 | 19 => What::Heal,
        5 => What::NewWan(host),
        6 => What::Flush(host),
        7 => What::Sleep(host, Duration::from_secs(NAPS[usize::from(how) & 7])),
        8 => What::Restart(host),
        9 => What::RestartAll,
        10 => What::RelayRestart(relay, 1 + u32::from(how >> 4) % 4),
        11 => What::RelayDown(relay),
        12 => What::Quiet(Duration::from_secs(NAPS[usize::from(how) & 7])),
        13 => What::Epoch,
        14 => What::Remove(host),
        15 => What::Clock(host, JUMPS[usize::from(how) & 7]),
        16 if who >= 128 => What::Size(host, SIZES[usize::from(how) & 7]),
        _ => What::Line(host, Line::arbitrary(&mut Unstructured::new(&[how]))?),
    })
}

fn byte(u: &mut Unstructured<'_>) -> Result<u8> {
    u8::arbitrary(u)
}

fn pick<T: Copy, const N: usize>(u: &mut Unstructured<'_>, from: &[T; N]) -> Result<T> {
    Ok(from[usize::from(byte(u)?) % N])
}
