//! What the kernel's log gains in a life, and what of it names something of that life.
//!
//! The log is the whole computer's, and older than any life: it is read from where it ended when the life began, record by
//! record. An address or a name in it is one, wherever it stands. A port is a number of five digits, and the log is full of
//! such numbers: process ids, serial numbers, sizes. In the kernel's own words it is a port where it is called one; in the
//! words of a program, which may put them as it likes, everywhere but in `name[18425]`.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
};

use ::tests::Result;
use nix::libc;

use crate::search::{Hit, Searcher};

/// The kernel's log, a record at a time.
const LOG: &str = "/dev/kmsg";

/// No record is longer (`PRINTK_MESSAGE_MAX`).
const LONGEST: usize = 2_048;

/// A place in the log.
pub(crate) struct Log(File);

/// What came since.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) hits: Vec<Hit>,
    /// The log is a ring: some of it was pushed out before it was read.
    pub(crate) lost: bool,
}

impl Log {
    /// Where it ends now.
    ///
    /// # Errors
    /// If it may not be read here.
    pub(crate) fn now() -> Result<Self> {
        let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(LOG)?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// Canaries in what came since.
    ///
    /// # Errors
    /// If it can no longer be read.
    pub(crate) fn since(mut self, searcher: &Searcher) -> Result<Heard> {
        let mut heard = Heard::default();
        let mut record = [0; LONGEST];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(heard),
                Ok(length) => heard.hits.extend(canaries(&record[..length], searcher)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(heard),
                // What is still there begins behind what was pushed out.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => heard.lost = true,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Canaries in a record: `6,1234,5678901,-;text`, where the first number is facility and priority, and the kernel's own
/// facility is 0. Nobody else can have that one.
fn canaries(record: &[u8], searcher: &Searcher) -> Vec<Hit> {
    let behind = record.iter().position(|byte| *byte == b';').map_or(0, |at| at + 1);
    let (head, text) = record.split_at(behind);
    let facility = String::from_utf8_lossy(head).split(',').next().and_then(|number| number.parse().ok());
    let kernel = facility.is_some_and(|number: u32| number >> 3 == 0);
    let counts = |hit: &Hit| {
        let before = &text[..usize::try_from(hit.offset).unwrap_or(0)];
        let before = String::from_utf8_lossy(before);
        !hit.weight.short_number() || if kernel { names_a_port(&before) } else { !names_a_process(&before) }
    };
    searcher.bytes(text).into_iter().filter(counts).collect()
}

/// Whether what stands before a number calls it a port: `SPT=`, `lport=`, `on port `, `10.0.0.1:`.
fn names_a_port(before: &str) -> bool {
    if let Some(field) = before.strip_suffix('=') {
        let name = last_word(field, |char| char.is_ascii_alphanumeric()).to_ascii_lowercase();
        // The last two are SELinux's.
        return name.ends_with("port") || ["spt", "dpt", "src", "dest"].contains(&name.as_str());
    }
    if let Some(address) = before.strip_suffix([':', '/']) {
        let address = last_word(address, |char| char.is_ascii_hexdigit() || ".:[]".contains(char));
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() || address.parse::<SocketAddr>().is_ok() {
            return true;
        }
    }
    let words = before.trim_end_matches([' ', ':', '#']);
    words.len() < before.len() && ["port", "ports"].contains(&last_word(words, char::is_alphanumeric))
}

/// Whether a number is a process id as every program writes its own: `name[18425]`.
fn names_a_process(before: &str) -> bool {
    before.strip_suffix('[').is_some_and(|name| name.ends_with(|char: char| char.is_ascii_alphanumeric()))
}

fn last_word(text: &str, part: impl Fn(char) -> bool) -> &str {
    let begin = text.rfind(|char| !part(char)).map_or(0, |at| at + 1);
    text.get(begin..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::canary::{Canary, Dice, Kind};

    fn seen(record: &str) -> usize {
        let address = Canary::ipv4(Kind::Public, None, "83.149.207.61".parse().unwrap(), &[]);
        let searcher = Searcher::new(&[Canary::ports(14_671, 18_425), address]);
        canaries(record.as_bytes(), &searcher).len()
    }

    #[test]
    fn a_port_that_the_kernel_calls_one_is_found() {
        for text in [
            "IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TTL=64 PROTO=UDP SPT=14671 DPT=53 LEN=40",
            "IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TTL=64 PROTO=TCP SPT=5 DPT=18425 WINDOW=64240",
            "TCP: Peer 10.0.0.1:18425/443 unexpectedly shrunk window 1:2 (repaired)",
            "TCP: Peer 10.0.0.1:443/18425 unexpectedly shrunk window 1:2 (repaired)",
            "TCP: Peer [fd00::1]:18425/443 unexpectedly shrunk window 1:2 (repaired)",
            "TCP: request_sock_TCP: Possible SYN flooding on port 10.0.0.1:18425. Sending cookies.",
            "TCP: request_sock_TCP: Possible SYN flooding on port 18425. Sending cookies.",
            "UDP: bad checksum. From 10.0.0.1:53 to 10.0.0.2:14671 ulen 40",
            "audit: type=1400 audit(1763787696.123:77): avc: denied { send } pid=9 saddr=10.0.0.1 src=14671 dest=53",
            "audit: type=1400 audit(1763787696.123:77): avc: denied { bind } pid=9 lport=14671 comm=\"vpnd\"",
        ] {
            assert_eq!(seen(&format!("5,100,2000,-;{text}\n")), 1, "{text}");
        }
    }

    #[test]
    fn a_process_id_or_another_number_of_the_kernel_is_no_port() {
        for text in [
            "audit: type=1326 audit(1763787696.123:18425): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=18425 \
             comm=\"escape-d291f0d3\" exe=\"/usr/bin/escape\" sig=31 arch=c000003e syscall=2 code=0x80000000",
            "audit: type=1400 audit(1763787696.123:77): avc: denied { read } ppid=14671 ino=14671 ses=14671",
            "vpnd[18425]: segfault at 14671 ip 00007f error 4 in vpnd[14671]",
            "CPU: 1 UID: 0 PID: 14671 Comm: vpnd Not tainted",
            "Out of memory: Killed process 18425 (vpnd) total-vm:14671kB, anon-rss:18425kB",
            "INFO: task vpnd:18425 blocked for more than 120 seconds.",
            "loop0: detected capacity change from 0 to 14671",
            "no transport 18425",
        ] {
            assert_eq!(seen(&format!("5,14671,18425,-;{text}\n")), 0, "{text}");
        }
    }

    #[test]
    fn what_a_program_writes_there_is_searched_whole() {
        assert_eq!(seen("12,100,2000,-;vpnd: from 14671\n"), 1);
        assert_eq!(seen("12,100,2000,-;vpnd[14671]: ready\n"), 0);
        assert_eq!(seen("12,100,2000,-;vpnd[14671]: sent 18425\n"), 1);
    }

    #[test]
    fn an_address_is_found_wherever_it_stands() {
        for text in ["pid=83.149.207.61", "vpnd[83.149.207.61]", "5395cf3d", "from 83.149.207.61 port 9"] {
            assert_eq!(seen(&format!("5,100,2000,-;{text}\n")), 1, "{text}");
        }
    }

    #[test]
    fn what_was_there_before_is_another_s() {
        // Only root can; the laboratory's tests run as root.
        let Ok(mut log) = OpenOptions::new().write(true).open(LOG) else { return };
        let mut dice = Dice::new().unwrap();
        let words = [dice.word(), dice.word(), dice.word()];
        let searcher = Searcher::new(&words.each_ref().map(|word| Canary::name(Kind::Name, None, word)));
        let mut say = |word: &str| log.write_all(format!("the canary audit's own test: {word}\n").as_bytes());
        say(&words[0]).unwrap();
        let place = Log::now().unwrap();
        say(&words[1]).unwrap();
        say(&words[1]).unwrap();
        let heard = place.since(&searcher).unwrap();
        assert_eq!(heard.hits.iter().map(|hit| hit.canary).collect::<Vec<_>>(), [1, 1]);
        assert!(!heard.lost);
    }
}
