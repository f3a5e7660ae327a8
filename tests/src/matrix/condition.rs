//! Bad days: two machines that use their network, and something happens to one of them or on the way.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{Node, Result, Trouble, wait};

use super::{
    crowd::Crowd,
    flow::{Pings, Transfer},
    nat::Nat,
    pair::{is_direct, ready},
};

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// The machine moves to another network.
    Roam,
    /// Its router forgets what it knew, as when it is restarted.
    NatFlush,
    /// Its router gets another public address.
    WanAddress,
    /// It sleeps, and its router forgets it meanwhile.
    Sleep,
    /// The relay dies that carries the traffic of two machines which have no other way; another is there.
    RelayDies,
    /// Nobody has the coordinator, from before the first packet on.
    NoCoordinator,
    /// One packet in twenty is lost, a round trip takes 200 ms, with jitter.
    BadLink,
    /// The direct path dies without a word, and comes back.
    PathDies,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done.
    pub condition: Condition,
    /// What was measured, in the condition's own terms; one for each time.
    pub samples: Vec<Duration>,
    /// What the samples may be at most.
    pub bound: Duration,
    /// Further figures, with their names.
    pub figures: Vec<(&'static str, String)>,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

/// A direct path that was lost is found again within this time, or something is wrong: STUN servers are asked every 25 s.
const FOUND_AGAIN: Duration = Duration::from_secs(60);
/// Long enough for a direct path to be found on a bad link.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pings go on for so long before something happens.
const BEFORE: Duration = Duration::from_millis(500);
/// So many answers show that traffic passes again.
const ENOUGH: usize = 50;
/// Seconds of sleep: the kernel of a relay that has something for who sleeps repeats it ever more rarely, and is to have given up
/// or to be about to repeat it.
const ASLEEP: [u64; 4] = [5, 2, 9, 3];
/// How long the bad link is watched for changes of path.
const WATCHED: Duration = Duration::from_secs(10);
/// See [`WATCHED`], in a long run.
const WATCHED_LONG: Duration = Duration::from_secs(120);

impl Condition {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Roam,
        Self::NatFlush,
        Self::WanAddress,
        Self::Sleep,
        Self::RelayDies,
        Self::NoCoordinator,
        Self::BadLink,
        Self::PathDies,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Roam => "roam",
            Self::NatFlush => "nat-flush",
            Self::WanAddress => "wan-address",
            Self::Sleep => "sleep",
            Self::RelayDies => "relay-dies",
            Self::NoCoordinator => "no-coordinator",
            Self::BadLink => "bad-link",
            Self::PathDies => "path-dies",
        }
    }

    /// The condition of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.name() == name)
    }

    /// What the samples are.
    #[must_use]
    pub fn measures(self) -> &'static str {
        match self {
            Self::Roam | Self::NatFlush | Self::WanAddress | Self::Sleep => "traffic again",
            Self::RelayDies => "traffic again, over the other relay",
            Self::NoCoordinator => "direct path",
            Self::BadLink => "direct path",
            Self::PathDies => "longest pause of a TCP transfer",
        }
    }

    /// What they may be at most.
    #[must_use]
    pub fn bound(self) -> Duration {
        match self {
            Self::Roam | Self::NatFlush | Self::WanAddress | Self::Sleep => super::BACK,
            Self::RelayDies => super::OTHER_RELAY,
            Self::NoCoordinator => super::DIRECT,
            Self::BadLink => PATIENCE,
            Self::PathDies => super::STALL,
        }
    }

    /// Lets it happen so many times, to machines of its own.
    ///
    /// # Errors
    /// If the laboratory does not do what it is told.
    pub fn measure(self, times: usize) -> Result<Outcome> {
        let nats = if self == Self::RelayDies {
            [("one", Nat::UdpBlocked), ("two", Nat::Easy), ("three", Nat::Easy)]
        } else {
            // A router that forgot gives other ports than before.
            [("one", Nat::Remap), ("two", Nat::Easy), ("three", Nat::Easy)]
        };
        let places: Vec<_> = nats[..2].iter().map(|(site, nat)| ((*site).to_owned(), *nat)).collect();
        let away = [(nats[2].0.to_owned(), nats[2].1)];
        let mut day = Day { crowd: Crowd::up_with(&places, &away)?, outcome: self.nothing_yet() };
        if self == Self::NoCoordinator {
            day.crowd.coordinator.kill();
        }
        if self == Self::BadLink {
            for site in ["one", "two"] {
                day.crowd.lab.natlab(&["loss", site, "25"])?;
                day.crowd.lab.natlab(&["delay", site, "50", "10"])?;
            }
        }
        for time in 0..times {
            match self {
                Self::Roam => {
                    let to = ["three", "one"][time % 2];
                    day.traffic_again(|crowd| crowd.lab.natlab(&["roam", "one-1", to]).map(drop))?;
                }
                Self::NatFlush => {
                    let whose = ["one", "two"][time % 2];
                    day.traffic_again(|crowd| crowd.lab.natlab(&["flush-nat", whose]).map(drop))?;
                }
                Self::WanAddress => {
                    let whose = ["one", "two"][time % 2];
                    day.traffic_again(|crowd| crowd.lab.natlab(&["wan-ip", whose]).map(drop))?;
                }
                Self::Sleep => day.sleeps(ASLEEP[time % ASLEEP.len()], time % 2 == 1)?,
                Self::RelayDies => day.relay_dies(time)?,
                Self::NoCoordinator | Self::BadLink => day.begins_anew()?,
                Self::PathDies => day.path_dies()?,
            }
        }
        if self == Self::BadLink {
            day.watch_the_path()?;
        }
        Ok(day.outcome)
    }

    /// What came of it if it could not be measured.
    #[must_use]
    pub fn failed(self, error: &Trouble) -> Outcome {
        Outcome { faults: vec![error.to_string()], ..self.nothing_yet() }
    }

    fn nothing_yet(self) -> Outcome {
        let bound = self.bound();
        Outcome { condition: self, samples: Vec::new(), bound, figures: Vec::new(), faults: Vec::new() }
    }
}

impl Outcome {
    /// Whether all is as it should be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.samples.iter().all(|sample| *sample < self.bound)
    }
}

struct Day {
    crowd: Crowd,
    outcome: Outcome,
}

impl Day {
    fn pair(&self) -> Result<(&Node, &Node)> {
        Ok((self.crowd.at("one")?, self.crowd.at("two")?))
    }

    /// Both send to each other directly.
    fn direct(&self) -> Result<()> {
        let (one, two) = self.pair()?;
        one.reaches(&two.address("ipv4")?, wait::SOON)?;
        wait::until("both ways are direct", FOUND_AGAIN, || {
            is_direct(one, two).unwrap_or_default() && is_direct(two, one).unwrap_or_default()
        })
        .map(drop)
    }

    /// With pings under way on a direct path, something happens: how long there is no answer.
    fn traffic_again(&mut self, happens: impl FnOnce(&Crowd) -> Result<()>) -> Result<()> {
        self.direct()?;
        let (one, two) = self.pair()?;
        let pings = Pings::begin(one.host(), &two.address("ipv4")?)?;
        thread::sleep(BEFORE);
        happens(&self.crowd)?;
        // Whatever it was, it happened: answers that come later than this are answers after it.
        let before = pings.so_far().answered;
        wait::until("pings are answered again", wait::SOON * 4, || {
            pings.so_far().answered > before + ENOUGH
        })?;
        self.outcome.samples.push(pings.end()?.silence);
        Ok(())
    }

    /// From the moment when it wakes. It begins to send then, or it only answers what somebody sends all the time.
    fn sleeps(&mut self, seconds: u64, answers: bool) -> Result<()> {
        let asleep = Duration::from_secs(if crate::long() { 600 } else { seconds });
        self.direct()?;
        let (one, two) = self.pair()?;
        let (there, back) = (two.address("ipv4")?, one.address("ipv4")?);
        let pings = if answers { Some(Pings::begin(two.host(), &back)?) } else { None };
        thread::sleep(BEFORE);
        self.crowd.lab.natlab(&["freeze", "one-1"])?;
        self.crowd.lab.natlab(&["flush-nat", "one"])?;
        thread::sleep(asleep);
        self.crowd.lab.natlab(&["thaw", "one-1"])?;
        // What waited for it while it slept is answered late, and counts for nothing.
        let sample = match &pings {
            Some(_) => two.reaches(&back, wait::SOON * 4)?,
            None => one.reaches(&there, wait::SOON * 4)?,
        };
        pings.map(Pings::end).transpose()?;
        self.outcome.samples.push(sample);
        Ok(())
    }

    /// Kills the relays in turn, and starts each again.
    fn relay_dies(&mut self, time: usize) -> Result<()> {
        let (one, two) = self.pair()?;
        let (address, back) = (two.address("ipv4")?, one.address("ipv4")?);
        one.reaches(&address, wait::SOON)?;
        // Another is to live, and for who just lost that one it lives once it is connected.
        for relay in &self.crowd.relays {
            let to = format!("{}:443", relay.host().ipv4()?);
            for node in [one, two] {
                let connected = || {
                    let connections = node.host().run("ss", &["-tnH", "state", "established", "dst", &to]);
                    connections.is_ok_and(|connections| !connections.is_empty())
                };
                wait::until(&format!("{} is connected to {to}", node.name()), wait::SOON, connected)?;
            }
        }
        let at = time % self.crowd.relays.len();
        let parse = |text: &str| text.parse::<IpAddr>().map_err(|error| Trouble::new(error.to_string()));
        let transfer = Transfer::begin(one.host(), two.host(), parse(&address)?)?;
        self.crowd.relays[at].kill();
        let (one, two) = self.pair()?;
        let there = one.reaches(&address, Duration::from_secs(60))?;
        two.reaches(&back, Duration::from_secs(60))?;
        let stood = match transfer.end() {
            Ok(stood) => format!("{} ms", stood.as_millis()),
            Err(error) => {
                self.outcome.faults.push(format!("a TCP connection did not live through it: {error}"));
                "for ever".to_owned()
            }
        };
        self.outcome.samples.push(there);
        self.outcome.figures.push(("a TCP transfer stood still", stood));
        self.crowd.relays[at].start_again()?;
        for node in &self.crowd.nodes {
            ready(node)?;
        }
        Ok(())
    }

    /// From nothing to a direct path.
    fn begins_anew(&mut self) -> Result<()> {
        let (one, two) = self.pair()?;
        for node in [one, two] {
            node.ask(&["down"])?;
        }
        for node in [one, two] {
            node.ask(&["up"])?;
        }
        let address = two.address("ipv4")?;
        let relayed = |node: &Node| {
            let warnings = node.status().map(|status| status["warnings"].to_string()).unwrap_or_default();
            !warnings.contains("relay")
        };
        wait::until("both have their relays", wait::SOON, || relayed(one) && relayed(two))?;
        let began = Instant::now();
        let pings = Pings::begin(one.host(), &address)?;
        let mut direct = None;
        while direct.is_none() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
            if is_direct(one, two)? && is_direct(two, one)? {
                direct = Some(began.elapsed());
            }
        }
        let answers = pings.end()?;
        let first = answers.first.map_or("never".to_owned(), |first| format!("{} ms", first.as_millis()));
        self.outcome.figures.push(("first answer", first));
        match direct {
            Some(direct) => self.outcome.samples.push(direct),
            None => self.outcome.faults.push("there was no direct path".to_owned()),
        }
        Ok(())
    }

    /// Counts how often the path changes while nothing changes.
    fn watch_the_path(&mut self) -> Result<()> {
        self.direct()?;
        let (one, two) = self.pair()?;
        let pings = Pings::begin(one.host(), &two.address("ipv4")?)?;
        let watched = if crate::long() { WATCHED_LONG } else { WATCHED };
        let began = Instant::now();
        let see = || Ok::<_, Trouble>([is_direct(one, two)?, is_direct(two, one)?]);
        let (mut before, mut changes) = (see()?, 0);
        while began.elapsed() < watched {
            thread::sleep(Duration::from_millis(100));
            let now = see()?;
            changes += now.iter().zip(before).filter(|(now, before)| **now != *before).count();
            before = now;
        }
        drop(pings);
        let seconds = watched.as_secs();
        self.outcome.figures.push(("changes of path", format!("{changes} in {seconds} s")));
        if changes > 0 {
            self.outcome.faults.push(format!("the path changed {changes} times in {seconds} s"));
        }
        Ok(())
    }

    /// Nothing passes between the two networks but over the relay, and later again.
    fn path_dies(&mut self) -> Result<()> {
        self.direct()?;
        let (one, two) = self.pair()?;
        let text = two.address("ipv4")?;
        let address = text.parse::<IpAddr>().map_err(|error| Trouble::new(error.to_string()))?;
        let transfer = Transfer::begin(one.host(), two.host(), address)?;
        let pings = Pings::begin(one.host(), &text)?;
        thread::sleep(Duration::from_secs(1));
        self.crowd.lab.natlab(&["cut", "one", "two"])?;
        wait::until("the relay carries it", PATIENCE, || {
            !is_direct(one, two).unwrap_or(true) && !is_direct(two, one).unwrap_or(true)
        })?;
        thread::sleep(Duration::from_secs(2));
        let to_relay = pings.end()?;
        let pings = Pings::begin(one.host(), &text)?;
        self.crowd.lab.natlab(&["heal"])?;
        // A path that died is tried again in its own time, which is not measured here.
        wait::until("the path is direct again", Duration::from_secs(40), || {
            is_direct(one, two).unwrap_or_default() && is_direct(two, one).unwrap_or_default()
        })?;
        thread::sleep(Duration::from_secs(1));
        let back = pings.end()?;
        self.outcome.figures.push(("pings lost until the relay had it", to_relay.lost.to_string()));
        self.outcome.figures.push(("pings lost when it was direct again", back.lost.to_string()));
        for (lost, when) in
            [(to_relay.lost, "until the relay had it"), (back.lost, "on the way back to the direct path")]
        {
            if lost > 0 {
                self.outcome.faults.push(format!("{lost} pings lost {when}"));
            }
        }
        self.outcome.samples.push(transfer.end()?);
        Ok(())
    }
}
