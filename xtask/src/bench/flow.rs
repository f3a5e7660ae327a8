//! Flows whose every byte is known beforehand, so that whoever receives one can say what is wrong with it.

use std::{
    io::{IoSlice, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};

/// Bytes of one write to a stream.
const CHUNK: usize = 256 << 10;

/// Payload bytes of the datagrams of one send after the other: full ones, as a transfer has them, and others.
const SIZES: [usize; 5] = [1_352, 1_352, 1_352, 904, 200];

/// Datagrams in one send at most: the system cuts them out of one large packet, so that the tunnel gets it whole.
const BATCH: u64 = 16;

/// Datagrams of a flow under way at most.
const WINDOW: u64 = 128;

/// Datagrams of all flows of a direction under way at most. There are queues between sender and receiver, of 500 packets
/// the shortest; what does not fit is dropped by right, and not what is looked for here.
const ALL: u64 = 480;

/// Bytes of the receiver's buffer: for all that may be under way.
const BUFFER: usize = 4 << 20;

/// What is still under way after such a time is lost.
const LOST: Duration = Duration::from_secs(5);

/// How far a receiver is, for its sender to wait for: asleep, for many flows that ask again and again would leave the tunnel
/// no processor.
#[derive(Default)]
pub(super) struct Seen {
    numbers: Mutex<Numbers>,
    far_enough: Condvar,
}

#[derive(Default)]
struct Numbers {
    seen: u64,
    /// What the sender waits for.
    wanted: Option<u64>,
}

impl Seen {
    /// The receiver is so far.
    fn tell(&self, next: u64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.seen = next;
        if numbers.wanted.is_some_and(|wanted| wanted <= next) {
            numbers.wanted = None;
            self.far_enough.notify_one();
        }
    }

    /// Waits until the receiver is so far.
    fn wait_for(&self, number: u64) -> Result<()> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.wanted = Some(number);
        let (numbers, _) = self
            .far_enough
            .wait_timeout_while(numbers, 2 * LOST, |numbers| numbers.seen < number)
            .unwrap_or_else(PoisonError::into_inner);
        if numbers.seen < number {
            bail!("nothing arrives any more");
        }
        Ok(())
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Default)]
pub(super) struct Verdict {
    pub(super) bytes: u64,
    pub(super) datagrams: u64,
    pub(super) lost: u64,
    pub(super) out_of_order: u64,
    /// Datagrams, or chunks of a stream, that were not what was sent.
    pub(super) wrong: u64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.datagrams += other.datagrams;
        self.lost += other.lost;
        self.out_of_order += other.out_of_order;
        self.wrong += other.wrong;
    }

    pub(super) fn is_clean(self) -> bool {
        (self.lost, self.out_of_order, self.wrong) == (0, 0, 0)
    }
}

/// A number that follows from another and looks like chance (SplitMix64's finish).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Fills `bytes` with what follows from `seed`.
fn fill(bytes: &mut [u8], seed: u64) {
    for (n, chunk) in (0_u64..).zip(bytes.chunks_mut(8)) {
        let word = mix(seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Sends a stream of so many bytes.
pub(super) fn send_stream(to: SocketAddr, flow: u64, bytes: u64) -> Result<()> {
    let mut stream = TcpStream::connect(to).context("a stream does not connect")?;
    let mut chunk = vec![0; CHUNK];
    for n in 0..bytes.div_ceil(CHUNK as u64) {
        fill(&mut chunk, mix(flow) ^ n);
        stream.write_all(&chunk).context("a stream broke")?;
    }
    Ok(())
}

/// Takes the stream to its end.
pub(super) fn receive_stream(listener: &TcpListener, flow: u64, bytes: u64) -> Result<Verdict> {
    let (mut stream, _) = listener.accept()?;
    let (mut expected, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut verdict = Verdict::default();
    for n in 0..bytes.div_ceil(CHUNK as u64) {
        stream.read_exact(&mut chunk).context("a stream ended early")?;
        fill(&mut expected, mix(flow) ^ n);
        verdict.bytes += CHUNK as u64;
        verdict.wrong += u64::from(chunk != expected);
    }
    if stream.read(&mut chunk)? > 0 {
        bail!("a stream had more than was sent");
    }
    Ok(verdict)
}

/// The size of a datagram.
fn size(number: u64) -> usize {
    SIZES[(number / BATCH) as usize % SIZES.len()]
}

/// A datagram: its number, and what follows from that.
fn datagram(bytes: &mut [u8], flow: u64, number: u64) {
    let (head, rest) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    fill(rest, mix(flow) ^ number);
}

/// How many datagrams of each of so many flows may be under way. Each has its own share: one that all took from would
/// leave some of many flows without any for seconds.
pub(super) fn window(flows: u16) -> u64 {
    (ALL / u64::from(flows)).clamp(1, WINDOW)
}

/// How many of them leave together: as many as there is room for, all of one size.
fn batch(window: u64) -> u64 {
    BATCH.min(1 << window.ilog2())
}

/// Sends so many bytes as datagrams, no more of them under way than the window; `seen` is how far the receiver is.
pub(super) fn send_datagrams(
    to: SocketAddr,
    flow: u64,
    bytes: u64,
    (window, seen): (u64, &Seen),
) -> Result<()> {
    let socket =
        UdpSocket::bind(SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0))?;
    let to = SockaddrStorage::from(to);
    let mut buffer = Vec::new();
    let (batch, total) = (batch(window), datagrams(bytes));
    for number in (0..total).step_by(batch as usize) {
        seen.wait_for((number + batch).saturating_sub(window))?;
        let size = size(number);
        buffer.resize(size * batch as usize, 0);
        for (n, bytes) in (number..).zip(buffer.chunks_mut(size)) {
            datagram(bytes, flow, n);
        }
        let segment = size as u16;
        let cut = [ControlMessage::UdpGsoSegments(&segment)];
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(&buffer)], &cut, MsgFlags::empty(), Some(&to))
            .context("datagrams could not be sent")?;
    }
    Ok(())
}

/// A socket to receive at, with room for all that is under way.
pub(super) fn receiver(at: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket)
}

/// Takes datagrams until as many bytes came as were to be sent, or none comes any more.
pub(super) fn receive_datagrams(socket: &UdpSocket, flow: u64, bytes: u64, seen: &Seen) -> Result<Verdict> {
    let (mut buffer, mut expected) = ([0; 2_048], [0; 2_048]);
    let mut verdict = Verdict::default();
    let mut next = 0;
    // Of the last batch some are beyond what was asked for.
    let total = datagrams(bytes);
    while next < total {
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        };
        verdict.datagrams += 1;
        verdict.bytes += len as u64;
        let number = buffer.first_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number));
        if number >= total || len != size(number) {
            verdict.wrong += 1;
            continue;
        }
        datagram(&mut expected[..len], flow, number);
        verdict.wrong += u64::from(buffer[..len] != expected[..len]);
        if number < next {
            verdict.out_of_order += 1;
            // It was counted as lost when one behind it came.
            verdict.lost = verdict.lost.saturating_sub(1);
        } else {
            verdict.lost += number - next;
            next = number + 1;
            seen.tell(next);
        }
    }
    verdict.lost += total - next;
    Ok(verdict)
}

/// How many datagrams so many bytes take.
fn datagrams(bytes: u64) -> u64 {
    let (mut left, mut number) = (bytes, 0);
    while left > 0 {
        left = left.saturating_sub(size(number) as u64 * BATCH);
        number += BATCH;
    }
    number
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread};

    use super::*;

    const BYTES: u64 = 300_000;

    /// What a receiver says of datagrams that were changed on the way.
    fn received(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Verdict {
        let socket = receiver(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let to = socket.local_addr().unwrap();
        let mut all: Vec<Vec<u8>> = (0..datagrams(BYTES))
            .map(|n| {
                let mut bytes = vec![0; size(n)];
                datagram(&mut bytes, 3, n);
                bytes
            })
            .collect();
        change(&mut all);
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for bytes in &all {
            sender.send_to(bytes, to).unwrap();
        }
        receive_datagrams(&socket, 3, BYTES, &Seen::default()).unwrap()
    }

    #[test]
    fn what_came_as_it_was_sent_is_clean() {
        let verdict = received(|_| {});
        assert!(verdict.is_clean());
        assert_eq!(verdict.datagrams, datagrams(BYTES));
        assert!(verdict.bytes >= BYTES);
    }

    #[test]
    fn a_datagram_that_is_missing_late_or_changed_is_found() {
        let lost = received(|all| drop(all.remove(17)));
        assert_eq!((lost.lost, lost.out_of_order, lost.wrong), (1, 0, 0));
        let last = received(|all| drop(all.pop()));
        assert_eq!((last.lost, last.out_of_order, last.wrong), (1, 0, 0));
        let late = received(|all| all.swap(20, 21));
        assert_eq!((late.lost, late.out_of_order, late.wrong), (0, 1, 0));
        let wrong = received(|all| all[30][150] ^= 1);
        assert_eq!((wrong.lost, wrong.out_of_order, wrong.wrong), (0, 0, 1));
    }

    #[test]
    fn all_flows_together_have_no_more_under_way_than_the_shortest_queue_holds() {
        for flows in 1..=64 {
            let window = window(flows);
            assert!(window * u64::from(flows) <= ALL, "{flows} flows");
            // What leaves together is of one size, and there is room for it.
            assert!(batch(window) <= window && BATCH.is_multiple_of(batch(window)));
        }
        assert_eq!((window(2), batch(window(2))), (WINDOW, BATCH));
    }

    #[test]
    fn a_sender_waits_where_its_window_ends() {
        let socket = receiver(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let (to, seen, window) = (socket.local_addr().unwrap(), Seen::default(), window(64));
        thread::scope(|scope| {
            let sender = scope.spawn(|| send_datagrams(to, 3, BYTES, (window, &seen)));
            let mut buffer = [0; 2_048];
            for _ in 0..batch(window) {
                socket.recv(&mut buffer).unwrap();
            }
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            assert!(socket.recv(&mut buffer).is_err());
            // The receiver tells how far it is, as if it had taken those.
            seen.tell(datagrams(BYTES));
            sender.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_stream_is_compared_with_what_was_sent() {
        for (sent, wrong) in [(5, 0), (6, 2)] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            let sender = thread::spawn(move || send_stream(to, sent, BYTES).unwrap());
            let verdict = receive_stream(&listener, 5, BYTES).unwrap();
            sender.join().unwrap();
            assert_eq!((verdict.bytes, verdict.wrong), (2 * CHUNK as u64, wrong));
        }
    }
}
