//! What changes while data passes both ways as fast as it can costs no packet.

use super::{
    independent::Independent,
    link::{Sent, packet},
};

/// Packets each way between two looks at what came: as many as one send takes.
const BURST: u32 = 45;
const LEN: usize = 1_408;
/// Where in a packet its number is.
const NUMBER: std::ops::Range<usize> = 20..24;

#[test]
fn a_session_is_renewed_in_the_middle_of_it_and_the_old_one_carries_what_is_under_way() {
    let mut load = Load::new();
    load.bursts(50, 0);
    let begun = load.peer.begin();
    let answer = load.burst(0).0.pop().unwrap();
    // It is on its way yet: both go on in the old session.
    assert_eq!(load.bursts(50, 0), 0);
    load.peer.finish(begun, &answer);
    // The first packet in it says that the new one is there.
    assert_eq!(load.bursts(1, 1), 1);
    assert_eq!(load.bursts(20, 0), 1, "what was sent before in the old one may come after");
    assert_eq!(load.bursts(50, 1), 1);
}

#[test]
fn who_goes_elsewhere_in_the_middle_of_it_is_sent_everything_there_from_its_first_packet_on() {
    let mut load = Load::new();
    for n in 0..20 {
        load.peer.addr = format!("203.0.113.{n}:{}", 1_000 + n).parse().unwrap();
        load.bursts(10, 0);
    }
}

/// Numbered packets both ways.
struct Load {
    peer: Independent,
    /// The next from the peer, and the next to it.
    next: [u32; 2],
}

impl Load {
    fn new() -> Self {
        Self { peer: Independent::meet(), next: [0; 2] }
    }

    /// So many bursts, the peer's in a session; in which session the answers to the last one came.
    fn bursts(&mut self, count: usize, session: usize) -> usize {
        let sessions = (0..count).map(|_| {
            let (others, came_in) = self.burst(session);
            assert!(others.is_empty());
            came_in
        });
        sessions.last().unwrap()
    }

    /// One burst each way, of which everything comes once, in order, and to where the peer is. What else came, and in which
    /// session.
    fn burst(&mut self, session: usize) -> (Vec<Sent>, usize) {
        let said: Vec<_> = (0..BURST).map(|_| self.packet("10.0.0.1", "10.0.0.0", 0)).collect();
        said.iter().for_each(|inner| self.peer.send(session, inner));
        let asked: Vec<_> = (0..BURST).map(|_| self.packet("10.0.0.0", "10.0.0.1", 1)).collect();
        let (now, addr) = (self.peer.link.now, self.peer.addr);
        for inner in &asked {
            self.peer.link.sides[0].device.handle_tun(now, inner);
        }
        let (data, others): (Vec<_>, Vec<_>) =
            self.peer.link.collect().into_iter().partition(|sent| sent.bytes[0] == 4);
        assert!(std::mem::take(&mut self.peer.link.sides[0].tun) == said);
        let opened: Vec<_> = data.iter().map(|sent| self.peer.open(sent)).collect();
        assert!(opened.iter().map(|(_, inner)| inner).eq(&asked));
        assert!(data.iter().chain(&others).all(|sent| sent.dst == addr));
        (others, opened[0].0)
    }

    fn packet(&mut self, from: &str, to: &str, way: usize) -> Vec<u8> {
        let mut inner = packet(from, to, LEN);
        inner[NUMBER].copy_from_slice(&self.next[way].to_le_bytes());
        self.next[way] += 1;
        inner
    }
}
