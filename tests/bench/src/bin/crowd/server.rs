//! The side that is measured.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    iter,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
    slice, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use netio::{
    inherit,
    pipe::{self, Reader, Writer},
    tun::Tun,
    udp::{self, Choice, Family, Socket},
};
use proto::{
    metadata::Endpoint,
    pipe::{Config, EpochTag, FrameReader, FrameWriter, FromData, Peer, ToData},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{ip, peers, readings::Reading};

/// Its interface.
pub(crate) const INTERFACE: &str = "crowd0";

/// Where a plain interface is configured.
const SOCKET: &str = "/run/wireguard/crowd0.sock";

/// Its UDP port.
pub(crate) const PORT: u16 = 51_900;

/// How the kernel finds the worker that a datagram is for: as vpnd has it.
const CHOICE: Choice = Choice {
    start: [4, 0, 0, 0],
    byte: mesh::WORKER_BYTE,
    shift: mesh::WORKER_SHIFT,
    mask: mesh::WORKER_MASK,
};

/// Its key, and what all peers share with it. They protect nothing.
const SECRET: [u8; 32] = [0x5e; 32];
pub(crate) const PSK: [u8; 32] = [0x77; 32];

/// Bytes around what is sealed, and to a multiple of how many it is padded (WireGuard, 5.4.6).
const DATA_OVERHEAD: u64 = 32;
const PADDING: u64 = 16;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `vpnd device`: two processes, of which the second carries the packets.
    Device,
    /// The data path of a machine in a network. What control keeps of a network is not in it.
    Mesh,
}

pub(crate) struct Server {
    child: Child,
    data_path: u32,
    way: Way,
}

/// What it says of its peers.
#[derive(Clone, Copy, Default)]
struct State {
    peers: usize,
    /// Bytes of datagrams to all of them.
    sent: u64,
}

/// How it is told things.
enum Way {
    /// Each request by a connection of its own: one that is idle for ten seconds is hung up.
    Socket,
    Pipes {
        rx: Reader,
        tx: Writer,
        frames: FrameReader,
        out: FrameWriter,
        token: u64,
    },
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its data path ends when nobody speaks to it any more; interface and port are free then.
        let gone = || (!Path::new(&format!("/proc/{}", self.data_path)).exists()).then_some(());
        let _ = within("", gone);
    }
}

impl Server {
    /// Starts it, with its key and port, and switches its interface on.
    pub(crate) fn start(kind: Kind, vpnd: &Path, workers: u8) -> Result<Self> {
        let server = match kind {
            Kind::Device => Self::device(vpnd, workers),
            Kind::Mesh => Self::mesh(vpnd, workers),
        }?;
        ip(&format!("address add {}/32 dev {INTERFACE}", peers::SERVER))?;
        ip(&format!("link set {INTERFACE} mtu {} up", peers::MTU))?;
        ip(&format!("route add {} dev {INTERFACE}", peers::INSIDE))?;
        Ok(server)
    }

    fn device(vpnd: &Path, workers: u8) -> Result<Self> {
        let mut command = Command::new(vpnd);
        command.args(["device", "--foreground", INTERFACE, "--workers", &workers.to_string()]);
        let child = silent(&mut command).spawn()?;
        within("vpnd device does not serve its socket", || UnixStream::connect(SOCKET).ok())?;
        let pid = child.id();
        let data_path = within("there is no data path", || {
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
        })?;
        let mut server = Self { child, data_path, way: Way::Socket };
        server.request(&format!("set=1\nprivate_key={}\nlisten_port={PORT}\n\n", hex(&SECRET)))?;
        Ok(server)
    }

    fn mesh(vpnd: &Path, workers: u8) -> Result<Self> {
        let tuns = Tun::create_queues(INTERFACE, workers.into())?;
        let tuns: Vec<OwnedFd> = tuns.into_iter().map(Tun::into_fd).collect();
        let sockets = sockets(workers)?;
        let ((rx, to), (from, tx)) = (pipe::pipe()?, pipe::pipe()?);
        let mut command = Command::new(vpnd);
        command.arg("data-path");
        let ends = [("--rx", slice::from_ref(&rx)), ("--tx", slice::from_ref(&tx))];
        for (option, fds) in [("--udp", &sockets[..]), ("--tun", &tuns)].into_iter().chain(ends) {
            let numbers: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
            command.args([option, &numbers.join(",")]);
        }
        let passed = sockets.into_iter().chain(tuns).chain([rx, tx]).collect();
        inherit::pass(silent(&mut command), passed);
        let child = command.spawn()?;
        drop(command);
        let way = Way::Pipes {
            rx: Reader::new(from),
            tx: Writer::new(to),
            frames: FrameReader::new(),
            out: FrameWriter::new(),
            token: 0,
        };
        let mut server = Self { data_path: child.id(), child, way };
        let config =
            Config { secret: Zeroizing::new(SECRET), own: vec![peers::host(peers::SERVER)], mtu: peers::MTU };
        server.tell(&ToData::Config(config))?;
        server.tell(&ToData::Begin)?;
        server.ask()?;
        Ok(server)
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from(&StaticSecret::from(SECRET))
    }

    /// What its processes are called, in the order of every reading.
    pub(crate) fn processes(&self) -> &'static [&'static str] {
        match self.way {
            Way::Socket => &["control", "data path"],
            Way::Pipes { .. } => &["data path"],
        }
    }

    pub(crate) fn reading(&self) -> Result<Reading> {
        match self.way {
            Way::Socket => Reading::of(&[self.child.id(), self.data_path]),
            Way::Pipes { .. } => Reading::of(&[self.data_path]),
        }
    }

    /// Tells it of the first so many peers; how long it took until it had taken them all in.
    pub(crate) fn configure(&mut self, count: usize) -> Result<Duration> {
        let all: Vec<peers::Known> = (0..count).map(peers::Known::of).collect();
        let began = Instant::now();
        match &self.way {
            Way::Socket => {
                let mut text = String::from("set=1\n");
                for peer in &all {
                    text += &format!(
                        "public_key={}\npreshared_key={}\nendpoint={}\nallowed_ip={}/32\n",
                        hex(peer.public.as_bytes()),
                        hex(&PSK),
                        peer.outer,
                        peer.inner,
                    );
                }
                self.request(&(text + "\n"))?;
            }
            Way::Pipes { .. } => {
                for (id, peer) in (0..).zip(&all) {
                    self.tell(&ToData::SetPeer(Peer {
                        id,
                        wireguard: peer.public.to_bytes(),
                        psks: vec![(EpochTag::of(0), Zeroizing::new(PSK))],
                        allowed: vec![peers::host(peer.inner)],
                        endpoints: vec![Endpoint(peer.outer)],
                        relays: 0,
                    }))?;
                }
            }
        }
        let known = self.state()?.peers;
        if known != count {
            bail!("of {count} peers it knows {known}");
        }
        Ok(began.elapsed())
    }

    /// How long it takes to say all that it knows of its peers.
    pub(crate) fn ask(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.state()?;
        Ok(began.elapsed())
    }

    /// Bytes of full packets that it has sealed and sent so far, by what it says itself: of what it read from its interface it may
    /// have dropped some, on the way from one worker to another.
    pub(crate) fn sent(&mut self) -> Result<u64> {
        let mtu = u64::from(peers::MTU);
        Ok(self.state()?.sent * mtu / (mtu.next_multiple_of(PADDING) + DATA_OVERHEAD))
    }

    /// Asks for the state of all peers.
    fn state(&mut self) -> Result<State> {
        if let Way::Socket = self.way {
            return self.request("get=1\n\n");
        }
        if let Way::Pipes { token, .. } = &mut self.way {
            *token += 1;
            let token = *token;
            self.tell(&ToData::StatusRequest { token })?;
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(state) = self.heard()? {
                return Ok(state);
            }
            thread::sleep(PAUSE);
        }
        bail!("the data path does not say what it knows")
    }

    /// One request of the configuration protocol; what its answer says of peers.
    fn request(&mut self, text: &str) -> Result<State> {
        let mut stream = BufReader::new(UnixStream::connect(SOCKET)?);
        stream.get_mut().write_all(text.as_bytes())?;
        let (mut state, mut line) = (State::default(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                bail!("vpnd device hung up");
            }
            match line.trim_end().split_once('=') {
                Some(("public_key", _)) => state.peers += 1,
                Some(("tx_bytes", bytes)) => state.sent += bytes.parse::<u64>()?,
                Some(("errno", "0")) => {}
                Some(("errno", number)) => bail!("it answered {number}"),
                None => return Ok(state),
                Some(_) => {}
            }
        }
    }

    /// Writes a frame to the data path, whatever it says meanwhile.
    fn tell(&mut self, frame: &ToData<'_>) -> Result<()> {
        let Way::Pipes { out, .. } = &mut self.way else { bail!("it has no pipes") };
        out.to_data(frame);
        loop {
            let Way::Pipes { tx, out, .. } = &mut self.way else { bail!("it has no pipes") };
            let written = tx.write(out.pending())?;
            out.written(written);
            if out.is_empty() {
                return Ok(());
            }
            if written == 0 {
                self.heard()?;
                thread::sleep(PAUSE);
            }
        }
    }

    /// Reads what the data path says; the state of its peers, if it said it.
    fn heard(&mut self) -> Result<Option<State>> {
        let Way::Pipes { rx, frames, token, .. } = &mut self.way else { bail!("it has no pipes") };
        loop {
            while let Some(frame) = frames.next_frame()? {
                match FromData::decode(frame)? {
                    FromData::Status(status) if status.token == *token => {
                        let sent = status.peers.iter().map(|peer| peer.tx_bytes).sum();
                        return Ok(Some(State { peers: status.peers.len(), sent }));
                    }
                    _ => {}
                }
            }
            let read = rx.read(frames.space())?;
            if read == 0 {
                return Ok(None);
            }
            frames.filled(read);
        }
    }
}

/// One for each worker, all on the port. The underlay is IPv4.
fn sockets(workers: u8) -> Result<Vec<OwnedFd>> {
    let first = Socket::bind(Family::V4, PORT, None)?.into_fd();
    let others = (1..workers).map(|_| udp::spare(Family::V4)).collect::<Result<Vec<_>, _>>()?;
    if workers > 1 {
        udp::share(&first, &others, Family::V4, PORT, CHOICE)?;
    }
    Ok(iter::once(first).chain(others).collect())
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null())
}

fn within<T>(otherwise: &'static str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = look() {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None.context(otherwise)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
