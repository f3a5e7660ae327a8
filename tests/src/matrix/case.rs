//! Two machines whose networks are not simply two homes: one LAN, two LANs with the same numbers, one provider's NAT around
//! both.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Host, Lab, Node, Result, Trouble};

use super::{
    crowd::Crowd,
    nat::{Expected, Nat},
    pair::{self, Row},
};

/// A neighbourhood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// Both behind one home router, which does not lead from inside to its own outer address.
    SameLan,
    /// The same behind a router that does.
    SameLanHairpin,
    /// Two homes whose LANs have the same numbers; in the first, a stranger has the second machine's address.
    OverlappingLans,
    /// The same, and both machines have the same address too.
    SameAddress,
    /// Two homes behind one NAT of their provider, which does not lead from inside to its own outer address.
    OneCgnat,
    /// The same with one that does.
    OneCgnatHairpin,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where.
    pub case: Case,
    /// As of two NATs.
    pub row: Row,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

/// WireGuard's port, at which a stranger answers.
const WIREGUARD: u16 = 51_820;
/// What a ping carries after its time: the bytes 0x10, 0x11 and so on.
const PING: [u8; 8] = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SameLan,
        Self::SameLanHairpin,
        Self::OverlappingLans,
        Self::SameAddress,
        Self::OneCgnat,
        Self::OneCgnatHairpin,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SameLan => "same-lan",
            Self::SameLanHairpin => "same-lan-hairpin",
            Self::OverlappingLans => "overlapping-lans",
            Self::SameAddress => "same-address",
            Self::OneCgnat => "one-cgnat",
            Self::OneCgnatHairpin => "one-cgnat-hairpin",
        }
    }

    /// The case of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    /// What a plain simultaneous open reaches there. Two homes behind one NAT see each other's datagrams at its outer address,
    /// which leads nowhere from inside unless it hairpins.
    #[must_use]
    pub fn expected(self) -> Expected {
        if self == Self::OneCgnat { Expected::Relay } else { Expected::Direct }
    }

    /// natlab's sites.
    fn sites(self) -> &'static [&'static str] {
        match self {
            Self::SameLan => &["s=easy:2"],
            Self::SameLanHairpin => &["h=easy:2:hairpin=1"],
            Self::OverlappingLans => &["p=easy:2:lan=192.168.1", "q=easy:lan=192.168.1:first=12"],
            Self::SameAddress => &["r=easy:lan=192.168.1", "t=easy:lan=192.168.1"],
            Self::OneCgnat => &["c=cgnat:isp=one", "d=cgnat:isp=one"],
            Self::OneCgnatHairpin => &["e=cgnat:isp=two:isp_hairpin=1", "f=cgnat:isp=two:isp_hairpin=1"],
        }
    }

    /// The two machines.
    fn hosts(self) -> (&'static str, &'static str) {
        match self {
            Self::SameLan => ("s-1", "s-2"),
            Self::SameLanHairpin => ("h-1", "h-2"),
            Self::OverlappingLans => ("p-1", "q-1"),
            Self::SameAddress => ("r-1", "t-1"),
            Self::OneCgnat => ("c-1", "d-1"),
            Self::OneCgnatHairpin => ("e-1", "f-1"),
        }
    }

    /// The second machine's port. natlab's NAT of a provider gives each port once, and does not hairpin what it gave another.
    fn second_port(self) -> u16 {
        if self.nat() == Nat::Cgnat { WIREGUARD + 1 } else { WIREGUARD }
    }

    fn nat(self) -> Nat {
        match self {
            Self::OneCgnat | Self::OneCgnatHairpin => Nat::Cgnat,
            Self::SameLan | Self::SameLanHairpin | Self::OverlappingLans | Self::SameAddress => Nat::Easy,
        }
    }

    /// One beginning of the two machines; adds what is found.
    fn begin(self, crowd: &Crowd, measured: &mut Measured) -> Result<()> {
        let stranger =
            (self == Self::OverlappingLans).then(|| Stranger::at(&crowd.lab.host("p-2"))).transpose()?;
        let (one, other) = self.nodes(crowd)?;
        let sites: Vec<&str> = self.sites().iter().filter_map(|site| site.split('=').next()).collect();
        let sample = pair::begin(crowd, (one, other), &sites, self.expected())?;
        measured.row.samples.push(sample);
        let near = matches!(self, Self::SameLan | Self::SameLanHairpin);
        for (from, to) in [(one, other), (other, one)] {
            let endpoint = from.peer(to.name())?["endpoint"].as_str().unwrap_or_default().to_owned();
            let private = endpoint.starts_with("192.168.");
            if private != near && !endpoint.is_empty() {
                measured.faults.push(format!("{} sends to {} at {endpoint}", from.name(), to.name()));
            }
        }
        measured.faults.extend(stranger.map(Stranger::faults).unwrap_or_default());
        Ok(())
    }

    fn nodes(self, crowd: &Crowd) -> Result<(&Node, &Node)> {
        let find = |name: &str| {
            let node = crowd.nodes.iter().find(|node| node.host().name() == name);
            node.ok_or_else(|| Trouble::new(format!("there is no machine {name}")))
        };
        let (one, other) = self.hosts();
        Ok((find(one)?, find(other)?))
    }
}

impl Measured {
    /// Whether all is as it should be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.row.holds()
    }
}

/// Measures cases one after the other, so many times each, with the machines of all of them in one network.
///
/// # Errors
/// If the laboratory does not come about, or a machine cannot be asked.
pub fn measure(cases: &[Case], times: usize) -> Result<Vec<Measured>> {
    let sites: Vec<&str> = cases.iter().flat_map(|case| case.sites()).copied().collect();
    let hosts: Vec<(&str, u16)> = cases
        .iter()
        .flat_map(|case| [(case.hosts().0, WIREGUARD), (case.hosts().1, case.second_port())])
        .collect();
    let crowd = Crowd::of(&sites, &hosts, Lab::alone)?;
    let mut all = Vec::new();
    for case in cases {
        let (nat, expected) = (case.nat(), case.expected());
        let row = Row { nats: (nat, nat), expected, samples: Vec::new() };
        let mut measured = Measured { case: *case, row, faults: Vec::new() };
        for _ in 0..times {
            case.begin(&crowd, &mut measured)?;
        }
        all.push(measured);
    }
    Ok(all)
}

/// A computer that has by chance the address that a machine has in its own LAN. It sends everything back.
struct Stranger {
    over: Arc<AtomicBool>,
    hearing: JoinHandle<Vec<Vec<u8>>>,
}

impl Stranger {
    fn at(host: &Host) -> Result<Self> {
        let socket = host.inside(|| UdpSocket::bind(SocketAddr::from(([0; 4], WIREGUARD))))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let hearing = thread::spawn(move || {
            let (mut heard, mut bytes) = (Vec::new(), [0; 2_048]);
            while !end.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                let _ = socket.send_to(&bytes[..len], from);
                heard.push(bytes[..len].to_vec());
            }
            heard
        });
        Ok(Self { over, hearing })
    }

    /// What a stranger should not have heard.
    fn faults(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let Ok(heard) = self.hearing.join() else { return vec!["the stranger is gone".to_owned()] };
        let mut faults = Vec::new();
        if heard.is_empty() {
            faults.push("the stranger heard nothing: the addresses do not overlap".to_owned());
        }
        // WireGuard's messages; none of data before somebody proved to be there.
        if heard.iter().any(|bytes| !(1..=4).contains(&bytes[0]) || bytes[1..4] != [0; 3]) {
            faults.push("the stranger heard what is not sealed".to_owned());
        }
        if heard.iter().any(|bytes| bytes.windows(PING.len()).any(|window| window == PING)) {
            faults.push("the stranger heard a ping".to_owned());
        }
        faults
    }
}
