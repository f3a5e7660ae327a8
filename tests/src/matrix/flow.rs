//! Traffic that is watched while something happens: pings every 10 ms, and a TCP transfer.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Host, Result, Trouble, process::Process};

/// Between two pings.
pub const EVERY: Duration = Duration::from_millis(10);
/// When ping is ended, so many of the last may be without an answer for that reason alone: half a second of them.
const UNDER_WAY: u64 = 50;

/// Pings that go on.
pub struct Pings {
    process: Process,
    log: PathBuf,
}

/// What came back of them.
#[derive(Clone, Debug)]
pub struct Answers {
    /// When the first answer came, since the first ping was sent. Nothing if none came.
    pub first: Option<Duration>,
    /// How many came.
    pub answered: usize,
    /// Sent after the first answer had come, and never answered.
    pub lost: usize,
    /// The longest time without an answer after the first.
    pub silence: Duration,
}

impl Pings {
    /// Begins: a hundred a second from a host to an address.
    ///
    /// # Errors
    /// If ping cannot be started.
    pub fn begin(from: &Host, address: &str) -> Result<Self> {
        let log = from.folder().join(format!("ping-{}.log", address.replace([':', '.'], "-")));
        let _ = std::fs::remove_file(&log);
        let mut command = from.command("ping")?;
        command.args(["-n", "-i", &EVERY.as_secs_f64().to_string(), "-c", "100000", address]);
        Ok(Self { process: Process::start("ping", &mut command, log.clone())?, log })
    }

    /// What was answered until now.
    #[must_use]
    pub fn so_far(&self) -> Answers {
        Answers::of(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// Ends, after a moment for answers that are under way.
    ///
    /// # Errors
    /// If what ping printed cannot be read.
    pub fn end(mut self) -> Result<Answers> {
        // As by Ctrl-C: it stops sending, and says what it had.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.process.pid().cast_signed()),
            nix::sys::signal::Signal::SIGINT,
        )
        .map_err(|error| Trouble::new(error.to_string()))?;
        self.process.ended(Duration::from_secs(5))?;
        Ok(Answers::of(&std::fs::read_to_string(&self.log)?))
    }
}

/// Number and round-trip time of every answer, in the order of the numbers.
fn replies(printed: &str) -> Vec<(u64, Duration)> {
    let mut replies: Vec<_> = printed
        .lines()
        .filter(|line| !line.contains("DUP!"))
        .filter_map(|line| {
            let word = |start: &str| line.split_whitespace().find_map(|word| word.strip_prefix(start));
            let number = word("icmp_seq=")?.parse().ok()?;
            let time: f64 = word("time=")?.parse().ok()?;
            Some((number, Duration::from_secs_f64(time / 1_000.0)))
        })
        .collect();
    replies.sort_unstable();
    replies
}

/// When a ping was sent, since the first.
fn sent(number: u64) -> Duration {
    EVERY * u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// When the first answer came.
fn first(replies: &[(u64, Duration)]) -> Option<Duration> {
    replies.iter().map(|(number, time)| sent(*number) + *time).min()
}

/// Of the pings sent after the first answer, those without one. The last ones may be under way still.
fn missing(replies: &[(u64, Duration)], transmitted: Option<u64>) -> usize {
    let Some(first) = first(replies) else { return 0 };
    let last = replies.iter().map(|(number, _)| *number).max().unwrap_or_default();
    let end = last.max(transmitted.unwrap_or_default().saturating_sub(UNDER_WAY));
    let counted = (1..=end).filter(|number| sent(*number) >= first);
    counted.filter(|number| replies.binary_search_by_key(number, |(known, _)| *known).is_err()).count()
}

/// How many pings ping says that it sent, once it ended.
fn transmitted(printed: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse().ok())
}

impl Answers {
    fn of(printed: &str) -> Self {
        let replies = replies(printed);
        let mut came: Vec<Duration> = replies.iter().map(|(number, time)| sent(*number) + *time).collect();
        came.sort_unstable();
        let silence = came.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        Self {
            first: first(&replies),
            answered: replies.len(),
            lost: missing(&replies, transmitted(printed)),
            silence,
        }
    }
}

/// A TCP transfer that goes on, paced so that it is no load test, and what it was like at the receiver.
pub struct Transfer {
    stop: Arc<AtomicBool>,
    stood: JoinHandle<Result<Duration>>,
}

/// Bytes written at once.
const PIECE: usize = 8 << 10;
/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(5);
/// A connection that carries nothing for so long is dead.
const DEAD: Duration = Duration::from_secs(60);

impl Transfer {
    /// Begins: from one host to an address of another.
    ///
    /// # Errors
    /// If there is no connection.
    pub fn begin(from: &Host, to: &Host, address: IpAddr) -> Result<Self> {
        let listener = to.inside(|| TcpListener::bind((address, 0)))??;
        let to = listener.local_addr()?;
        let mut sender = from.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(15)))??;
        let (mut receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(DEAD))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut at = 0_usize;
            while !stopped.load(Ordering::Relaxed) {
                let piece: Vec<u8> = (at..at + PIECE).map(byte).collect();
                if sender.write_all(&piece).is_err() {
                    return;
                }
                at += PIECE;
                thread::sleep(PAUSE);
            }
        });
        let stood = thread::spawn(move || {
            let (mut at, mut most, mut since) = (0_usize, Duration::ZERO, Instant::now());
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = receiver
                    .read(&mut buffer)
                    .map_err(|error| Trouble::new(format!("the TCP connection broke: {error}")))?;
                most = most.max(since.elapsed());
                since = Instant::now();
                if read == 0 {
                    return Ok(most);
                }
                if (at..at + read).map(byte).ne(buffer[..read].iter().copied()) {
                    return Err(Trouble::new("the TCP connection changed what it carries"));
                }
                at += read;
            }
        });
        Ok(Self { stop, stood })
    }

    /// Ends, and tells how long it stood still at most.
    ///
    /// # Errors
    /// If the connection broke, or carried something else than what was sent.
    pub fn end(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.stood.join().map_err(|_| Trouble::new("the receiver panicked"))?
    }
}

/// What is at this place of the transfer.
fn byte(at: usize) -> u8 {
    (at * 31 % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(number: u64, ms: f64) -> String {
        format!("64 bytes from 10.0.0.1: icmp_seq={number} ttl=64 time={ms} ms\n")
    }

    #[test]
    fn the_first_answer_is_the_one_that_came_first() {
        let printed = reply(1, 150.0) + &reply(2, 140.0) + &reply(14, 5.0);
        assert_eq!(Answers::of(&printed).first, Some(Duration::from_millis(135)));
    }

    #[test]
    fn only_pings_after_the_first_answer_can_be_lost() {
        // Answered at 20 ms; the second was sent before that, the fifth after.
        let printed = reply(1, 20.0) + &reply(3, 1.0) + &reply(4, 1.0) + &reply(6, 1.0);
        let answers = Answers::of(&printed);
        assert_eq!(answers.lost, 1);
        assert_eq!(answers.silence, Duration::from_millis(20));
        assert_eq!(Answers::of("").first, None);
    }

    #[test]
    fn what_is_missing_at_the_end_is_lost_but_for_the_last_half_second() {
        let printed = reply(1, 5.0) + "100 packets transmitted, 1 received, 99% packet loss, time 990ms\n";
        assert_eq!(Answers::of(&printed).lost, 49);
    }
}
