//! Traffic that goes on while parts of a network are killed: pings, and one TCP connection that must outlive them all.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use tests::{Host, process::Process, wait};

/// Bytes that go there and come back, again and again.
const PIECE: usize = 8 << 10;

/// Between two pieces, so that there is a transfer and not a load test.
const PAUSE: Duration = Duration::from_millis(10);

/// A connection that stood still for so long has died.
const DEAD: Duration = Duration::from_secs(60);

/// How a TCP connection fared.
pub(super) struct Transferred {
    pub(super) bytes: usize,
    /// How long it stood still at most.
    pub(super) stood: Duration,
}

/// Five pings a second, to nobody's attention, until this is dropped.
pub(super) fn pings(from: &Host, address: &str) -> Process {
    let log = from.folder().join(format!("pings-{address}.log"));
    let mut command = from.command("ping").unwrap();
    command.args(["-n", "-q", "-i", "0.2", address]);
    Process::start("ping", &mut command, log).unwrap()
}

/// Sends pieces to `address` of the host `to` and has each back as it was, over one connection, until it is told to stop.
pub(super) fn transfer(from: &Host, to: &Host, address: &str, stop: &AtomicBool) -> Transferred {
    let listener = to.inside(|| TcpListener::bind("0.0.0.0:0").unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut back = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut back);
    });
    let mut stream = from.inside(|| TcpStream::connect(format!("{address}:{port}")).unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut told = Transferred { bytes: 0, stood: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let piece: Vec<u8> = (told.bytes..told.bytes + PIECE).map(|at| (at * 31 % 251) as u8).collect();
        stream.write_all(&piece).unwrap();
        let mut back = vec![0; PIECE];
        let (mut have, mut since) = (0, Instant::now());
        while have < PIECE {
            match stream.read(&mut back[have..]) {
                Ok(0) => panic!("a TCP connection ended"),
                Ok(more) => (have, since) = (have + more, Instant::now()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("a TCP connection broke: {error}"),
            }
            told.stood = told.stood.max(since.elapsed());
            assert!(
                since.elapsed() < DEAD,
                "a TCP connection stands still after {} bytes",
                told.bytes + have
            );
        }
        assert!(piece == back, "a TCP connection changed what it carries");
        told.bytes += PIECE;
        sleep(PAUSE);
    }
    told
}

/// Both answer again within the time.
pub(super) fn answer(from: &Host, addresses: &[&str], within: Duration) -> Duration {
    let began = Instant::now();
    for address in addresses {
        let left = within.saturating_sub(began.elapsed());
        wait::until(&format!("{} has an answer from {address}", from.name()), left, || {
            from.output("ping", &["-n", "-c", "1", "-W", "1", address])
                .is_ok_and(|output| output.status.success())
        })
        .unwrap();
    }
    began.elapsed()
}
