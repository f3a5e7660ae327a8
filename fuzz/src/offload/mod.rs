//! Cutting what the TUN hands over, and joining what is written to it, each against a plain [`oracle`].

mod dice;
mod oracle;
mod traffic;

use netio::tun::{Coalescer, Split};

use self::dice::Dice;

/// Packets that a coalescer looks at together.
const TOGETHER: usize = netio::tun::MAX_BATCH;

/// A frame of the device: one that a kernel could hand over, one that was changed on the way, or just any bytes.
pub fn tun_frame(data: &[u8]) {
    let mut dice = Dice::new(data);
    let frame = match dice.below(8) {
        0 => dice.rest().to_vec(),
        1 => {
            let mut frame = traffic::frame(&mut dice);
            for _ in 0..=dice.below(4) {
                let at = dice.below(100).min(frame.len() - 1);
                frame[at] = dice.byte();
            }
            frame.truncate(frame.len() - dice.below(3).min(frame.len()));
            frame
        }
        _ => traffic::frame(&mut dice),
    };
    let packets = split(&frame);
    let Some(expected) = oracle::cut(&frame) else {
        // A kernel hands over nothing of the kind; whatever is made of it, no byte comes from elsewhere.
        let packets = packets.unwrap_or_default();
        assert!(packets.len() <= frame.len() && packets.iter().all(|packet| packet.len() <= frame.len()));
        return;
    };
    let Some(packets) = packets else { panic!("refused: {frame:?}") };
    assert!(packets == expected, "cut differently: {frame:?}\n{packets:?}\n{expected:?}");
    // What was cut, joined again, stands for the same packets.
    joins(&packets, true, true);
}

/// Packets for the device, of a few flows and of none.
pub fn tun_packets(data: &[u8]) {
    let mut dice = Dice::new(data);
    let (tcp, udp) = (dice.below(8) > 0, dice.below(8) > 0);
    let packets = traffic::packets(&mut dice);
    joins(&packets, tcp, udp);
}

/// Joins packets, and holds against the oracle which ones went together, and what each write stands for.
fn joins(packets: &[Vec<u8>], tcp: bool, udp: bool) {
    let mut coalescer = Coalescer::new();
    for batch in packets.chunks(TOGETHER) {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let mut writes: Vec<Vec<u8>> = Vec::new();
        coalescer.writes(&batch, (tcp, udp), |parts| {
            writes.push(parts.iter().flat_map(|part| part.iter().copied()).collect());
        });
        let groups = oracle::groups(&batch, tcp, udp);
        assert!(writes.len() == groups.len(), "{} writes, {groups:?}", writes.len());
        for (write, group) in writes.iter().zip(&groups) {
            let members: Vec<Vec<u8>> = group.iter().map(|&n| batch[n].to_vec()).collect();
            if let [single] = members.as_slice() {
                assert!(write[..10] == [0; 10] && write[10..] == **single, "changed: {single:?}");
                continue;
            }
            let Some(back) = oracle::cut(write) else { panic!("no kernel takes {write:?}") };
            let comparable = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
                packets.iter().map(|packet| oracle::without_meaningless_id(packet)).collect()
            };
            assert!(comparable(&back) == comparable(&members), "{group:?}: {write:?}\n{members:?}");
            assert!(split(write).is_some_and(|again| again == back));
        }
    }
}

/// The packets of a frame; `None` if it was refused.
fn split(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut frame = frame.to_vec();
    let (mut split, mut packets) = (Split::new(&mut frame).ok()?, Vec::new());
    while let Some(packet) = split.next_packet() {
        packets.push(packet.to_vec());
        // Whoever takes it may do with it what he likes.
        packet.fill(0xee);
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes to begin with: each a few hundred packets.
    fn inputs() -> u64 {
        // Nightly: many millions of packets.
        if std::env::var_os("TACET_LONG").is_some() { 60_000 } else { 2_000 }
    }

    #[test]
    fn frames_are_cut_as_the_oracle_cuts_them() {
        for seed in 0..10 * inputs() {
            tun_frame(&dice::bytes(seed, 200));
        }
    }

    #[test]
    fn packets_are_joined_as_the_oracle_joins_them() {
        for seed in 0..inputs() {
            tun_packets(&dice::bytes(1 << 40 | seed, 2_000));
        }
    }

    /// An oracle that finds nothing to join, or no frame that it understands, agrees with everything.
    #[test]
    fn what_is_made_up_is_mostly_what_can_be_cut_and_joined() {
        let (mut understood, mut cut, mut joined, mut packets) = (0, 0, 0, 0);
        for seed in 0..200 {
            let bytes = dice::bytes(seed, 400);
            let frame = traffic::frame(&mut Dice::new(&bytes));
            if let Some(parts) = oracle::cut(&frame) {
                understood += 1;
                cut += parts.len();
            }
            let made = traffic::packets(&mut Dice::new(&bytes));
            let made: Vec<&[u8]> = made.iter().map(Vec::as_slice).collect();
            packets += made.len();
            joined += made.len() - oracle::groups(&made, true, true).len();
        }
        assert!(understood == 200 && cut > 2_000, "{understood} frames of 200, {cut} packets");
        assert!(3 * joined > packets, "{joined} of {packets}");
    }
}
