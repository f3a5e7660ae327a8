//! The frames between control and the data path, and the messages between machines.

use proto::{
    piece::Piece,
    pipe::{FrameReader, FrameWriter, FromData, ToData},
    probe::{Message, is_reserved},
};

/// A stream of frames in either direction; the first byte says how the stream is cut. A frame that reads must be
/// written as something that reads the same.
pub fn pipe_frames(data: &[u8]) {
    let Some((&step, data)) = data.split_first() else { return };
    let (mut reader, mut writer) = (FrameReader::new(), FrameWriter::new());
    for piece in data.chunks(usize::from(step).max(1)) {
        reader.space()[..piece.len()].copy_from_slice(piece);
        reader.filled(piece.len());
        while let Ok(Some(frame)) = reader.next_frame() {
            if let Ok(read) = ToData::decode(frame) {
                writer.to_data(&read);
                assert!(ToData::decode(&writer.pending()[4..]).is_ok());
                writer.written(writer.len());
            }
            if let Ok(read) = FromData::decode(frame) {
                writer.from_data(&read);
                assert!(FromData::decode(&writer.pending()[4..]).is_ok());
                writer.written(writer.len());
            }
        }
    }
}

/// An inner packet that claims to be a message about paths.
pub fn probe_message(data: &[u8]) {
    if let Some(piece) = Piece::read(data) {
        let mut packet = Vec::new();
        piece.write(&mut packet);
        assert!(packet[40..] == data[40..] && Piece::read(&packet) == Some(piece));
        assert!(Message::read(data).is_err());
    }
    if let Ok(message) = Message::read(data) {
        assert!(is_reserved(proto::probe::FROM.into()) && is_reserved(proto::probe::TO.into()));
        let mut packet = Vec::new();
        message.write(&mut packet);
        assert!(Message::read(&packet) == Ok(message));
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        metadata::Endpoint,
        pipe::{Guest, RelayTo},
        probe::{Candidate, ListId, Origin},
        roster::{Floor, Order},
    };

    use super::*;

    /// Bytes that look random and are the same each time.
    fn noise(seed: u64) -> impl FnMut() -> u8 {
        let mut x = seed | 1;
        move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        }
    }

    #[test]
    fn real_streams_with_changed_bytes() {
        let mut writer = FrameWriter::new();
        writer.to_data(&ToData::RelayRecv { relay: 1, handle: 2, payload: b"payload" });
        writer.to_data(&ToData::Ping { token: 1, peer: 2 });
        let order = Order { recovery: 0, generation: 1, version: 2 };
        let floor = Floor { order, header: [3; 32] };
        writer.to_data(&ToData::Floor(floor));
        let psk = [5; 32].into();
        writer.to_data(&ToData::Guest(Guest { peer: 1, psk, relay: 0, handle: 3, initiation: &[1; 148] }));
        writer.from_data(&FromData::PeerFloor { peer: 1, floor });
        writer.from_data(&FromData::Seek(1));
        writer.from_data(&FromData::Ready);
        writer.from_data(&FromData::RelaySend { relay: 1, to: RelayTo::Handle(4), payload: b"payload" });
        let stream = [&[7], writer.pending()].concat();
        pipe_frames(&stream);
        let mut next = noise(1);
        for _ in 0..20_000 {
            let mut stream = stream.clone();
            for _ in 0..next() % 4 {
                let at = usize::from(next()) % stream.len();
                stream[at] = next();
            }
            pipe_frames(&stream);
        }
    }

    #[test]
    fn real_messages_with_changed_bytes() {
        let order = Order { recovery: 0, generation: 1, version: 2 };
        let candidate =
            Candidate { origin: Origin::Interface, endpoint: Endpoint(([192, 0, 2, 1], 51_820).into()) };
        let list = Message::Candidates {
            id: ListId { start: 1, number: 2 },
            list: vec![candidate; 2],
            floor: Some(Floor { order, header: [3; 32] }),
            guest: true,
            hard: Some(4),
        };
        let padded = Message::sized_probe(8, 90);
        let mut packets = [Message::Probe { nonce: 7, padding: 0 }, padded, list].map(|message| {
            let mut packet = Vec::new();
            message.write(&mut packet);
            probe_message(&packet);
            packet
        });
        let [first, ..] = &mut packets;
        Piece { id: 1, total: 40, offset: 20, bytes: &[7; 20] }.write(first);
        let mut next = noise(2);
        for n in 0..50_000 {
            let mut packet = packets[n % 3].clone();
            for _ in 0..next() % 4 {
                let at = usize::from(next()) % packet.len();
                packet[at] = next();
            }
            probe_message(&packet);
        }
    }
}
