//! A machine in a network namespace of its own, with everything that control would give its data path.
//!
//! All machines of a test live in one thread, which changes between their namespaces; nothing is left behind when it
//! ends.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use netio::{netlink::Netlink, tun::Tun, udp};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Config, EpochTag, Peer, ToData},
};
use sandbox::Missing;
use tokio::{sync::mpsc, time::timeout};
use vpnd::child::{Child, Descriptors, Event, Link, Pool};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The interface of every machine; they do not see each other's.
const INTERFACE: &str = "tacet0";
/// What is tested.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vpnd");
const MTU: u16 = 1_420;
const PORT: u16 = 51_820;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Runs a test in a thread of its own, which may change its namespace.
pub(crate) fn in_test_thread(test: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root for network namespaces");
        return;
    }
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    thread::spawn(body).join().unwrap();
}

fn run(program: &str, args: &str) -> bool {
    let status = Command::new(program).args(args.split(' ')).stdout(Stdio::null()).status();
    status.unwrap().success()
}

/// Two namespaces and a cable between them.
pub(crate) struct Cable {
    outside: Family,
    ends: [File; 2],
}

impl Cable {
    pub(crate) fn lay(outside: Family) -> Self {
        let end = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(run("ip", "link set lo up"));
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let ends = [end(), end()];
        // The thread is in the second one, and so is the program that it starts.
        setns(ends[0].as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        assert!(run("ip", "link add cable type veth peer name other"));
        let other = format!("/proc/{}/fd/{}", std::process::id(), ends[1].as_raw_fd());
        assert!(run("ip", &format!("link set other netns {other}")));
        for (n, end) in (1..).zip(&ends) {
            setns(end.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            let name = if n == 1 { "cable" } else { "other" };
            assert!(run("ip", &format!("address add 192.0.2.{n}/24 dev {name}")));
            assert!(run("ip", &format!("address add 2001:db8::{n}/64 dev {name} nodad")));
            assert!(run("ip", &format!("link set {name} up")));
        }
        Self { outside, ends }
    }

    /// A machine at each end, told about the other.
    pub(crate) async fn machines(self) -> (Machine, Machine) {
        let [first, second] = self.ends;
        let program = Path::new(PROGRAM);
        let a = Machine::start(first, 1, self.outside, program, 1).await;
        let b = Machine::start(second, 2, self.outside, program, 1).await;
        (a, b)
    }

    /// A machine at one end, whose data path is this program, with so many workers.
    pub(crate) async fn machine(self, program: &Path, workers: usize) -> Machine {
        let [first, _] = self.ends;
        Machine::start(first, 1, self.outside, program, workers).await
    }
}

fn inner(n: u16, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 0, n as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, n).into(),
    }
}

fn nets(n: u16) -> Vec<InnerNet> {
    [Family::V4, Family::V6].map(|family| InnerNet::host(InnerAddr(inner(n, family)))).into()
}

pub(crate) struct Machine {
    number: u16,
    namespace: File,
    /// One of its sockets, to know its process by.
    socket: OwnedFd,
    child: Child,
}

impl Machine {
    async fn start(namespace: File, number: u16, outside: Family, program: &Path, workers: usize) -> Self {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        let tuns = Tun::create_queues(INTERFACE, workers).unwrap();
        let netlink = Netlink::connect().unwrap();
        let link = netlink.index(INTERFACE).await.unwrap();
        netlink.set_mtu(link, u32::from(MTU), Some(45)).await.unwrap();
        let addresses = [(inner(number, Family::V4), 24), (inner(number, Family::V6), 64)];
        netlink.set_addresses(link, &addresses).await.unwrap();
        netlink.set_up(link).await.unwrap();
        netlink.set_routes(link, &[((inner(0, Family::V6), 64), None)]).await.unwrap();

        let udp::Pair { v4, v6, port } = udp::bind_pair(PORT, true, None).unwrap();
        assert_eq!(port, PORT);
        let socket = v4.as_fd().try_clone_to_owned().unwrap();
        let first = [Some(v4), v6].into_iter().flatten().map(udp::Socket::into_fd);
        // The others receive nothing.
        let others = (1..workers).flat_map(|_| [udp::Family::V4, udp::Family::V6]);
        let udp = first.chain(others.map(|family| udp::spare(family).unwrap())).collect();
        let tun = tuns.into_iter().map(Tun::into_fd).collect();
        let descriptors = Descriptors { tun, udp, pool: Pool::Mesh };
        let (child, mut events) = Child::start_program(program.into(), descriptors, Missing::Refuse).unwrap();

        let secrets = [StaticSecret::from([1; 32]), StaticSecret::from([2; 32])];
        let (own, other) = (usize::from(number - 1), usize::from(2 - number));
        let (secret, public) = (secrets[own].to_bytes(), PublicKey::from(&secrets[other]).to_bytes());
        let (up, mut is_up) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let Event::Up(link) = event else {
                    continue;
                };
                configure(&link, number, secret, public, outside);
                let _ = up.try_send(());
            }
        });
        timeout(Duration::from_secs(5), is_up.recv()).await.unwrap().unwrap();
        Self { number, namespace, socket, child }
    }

    /// Its address inside the network.
    pub(crate) fn inner(&self, family: Family) -> IpAddr {
        inner(self.number, family)
    }

    /// Deletes its interface.
    pub(crate) fn delete_interface(&self) {
        assert!(self.within(|| run("ip", &format!("link delete {INTERFACE}"))));
    }

    /// Runs something in its namespace.
    pub(crate) fn within<T>(&self, what: impl FnOnce() -> T) -> T {
        setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        what()
    }

    /// Whether `count` pings are answered, each within 0.3 s.
    pub(crate) async fn ping(&self, to: IpAddr, count: u32) -> bool {
        let mut command = tokio::process::Command::new("ping");
        command.args(["-n", "-q", "-i", "0.05", "-W", "0.3", "-c", &count.to_string(), &to.to_string()]);
        command.stdout(Stdio::null());
        let child = self.within(|| command.spawn().unwrap());
        child.wait_with_output().await.unwrap().status.success()
    }

    /// Its data path's process, 0 while there is none.
    pub(crate) fn pid(&self) -> i32 {
        let ours = fs::read_link(format!("/proc/self/fd/{}", self.socket.as_raw_fd())).unwrap();
        let holds = |pid: &i32| {
            let fds = fs::read_dir(format!("/proc/{pid}/fd"));
            let mut links = fds.into_iter().flatten().flatten().map(|entry| fs::read_link(entry.path()));
            links.any(|link| link.is_ok_and(|link| link == ours))
        };
        let children = fs::read_to_string("/proc/thread-self/children").unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).find(holds).unwrap_or(0)
    }

    /// Kills its data path's process, and returns once it is gone.
    pub(crate) fn kill_data_path(&self) {
        let pid = self.pid();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        while self.pid() == pid {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) async fn stop(self) {
        self.child.stop().await;
    }
}

/// What control sends to a data path that has just started.
fn configure(link: &Link, number: u16, secret: [u8; 32], public: [u8; 32], outside: Family) {
    let other = 3 - number;
    let endpoint: IpAddr = match outside {
        Family::V4 => Ipv4Addr::new(192, 0, 2, other as u8).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, other).into(),
    };
    let peer = Peer {
        id: 7,
        wireguard: public,
        psks: vec![(EpochTag::of(1), Zeroizing::new([9; 32]))],
        allowed: nets(other),
        endpoints: vec![Endpoint(SocketAddr::new(endpoint, PORT))],
        relays: 0,
    };
    link.send(&ToData::Config(Config { secret: Zeroizing::new(secret), own: nets(number), mtu: MTU }));
    link.send(&ToData::SetPeer(peer));
    link.send(&ToData::Begin);
}
