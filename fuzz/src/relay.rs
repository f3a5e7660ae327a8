//! What a relay and its machines read from each other, a relay's key file, and STUN.

use proto::{
    relay::{Credential, Frame, RelayKeyFile, peek},
    stun,
    wire::Wire,
};

/// A stream of frames, as either side reads it. A frame that reads must be written as something that reads the same.
pub fn relay_frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(len)) = peek(rest) {
        let (frame, after) = rest.split_at(len);
        rest = after;
        match Frame::decode(frame) {
            Ok(Frame::Unknown) | Err(_) => {}
            Ok(frame) => assert!(Frame::decode(&frame.to_vec()) == Ok(frame)),
        }
    }
}

/// A credential, as the coordinator hands it out and a machine stores it.
pub fn relay_credential(data: &[u8]) {
    if let Ok(credential) = Credential::from_bytes(data) {
        assert!(credential.to_bytes() == data);
        let _ = credential.is_current(credential.month());
    }
}

/// A relay's key file.
pub fn relay_key_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(file) = RelayKeyFile::from_text(text) {
        assert!(*file.to_text().trim() == *text.trim());
    }
}

/// A datagram, as a STUN server and as a machine reads it. What a server answers must be STUN, and an answer that it
/// gives to a good question must say where the question came from.
pub fn stun_datagram(data: &[u8]) {
    let source = proto::metadata::Endpoint(([192, 0, 2, 1], 4_242).into());
    if let Some(answer) = stun::answer(data, source) {
        assert!(stun::is_stun(data) && stun::is_stun(&answer));
        if let Ok((_, seen)) = stun::read_answer(&answer) {
            assert!(seen == source);
        }
    }
    let _ = stun::read_answer(data);
}

#[cfg(test)]
mod tests {
    use proto::{
        metadata::{Endpoint, MailboxId},
        relay::{Handle, To},
        stun::TransactionId,
    };

    use super::*;

    /// Good inputs of every target; the others are made from them.
    fn corpus() -> Vec<Vec<u8>> {
        let mailbox = MailboxId([7; 32]);
        let frames = [
            Frame::Opened(mailbox),
            Frame::Close(mailbox),
            Frame::Send { to: To::Mailbox(mailbox), payload: b"payload" },
            Frame::Send { to: To::Handle(Handle(3)), payload: b"" },
            Frame::Recv { mailbox: Some(mailbox), handle: Handle(4), payload: b"payload" },
            Frame::Gone(Handle(5)),
            Frame::Ping,
        ];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.encode(&mut stream);
        }
        let mut credential = vec![0; 53];
        credential[0] = 1;
        let mut hello = vec![0, 55, 2, 1];
        hello.extend_from_slice(&credential);
        let question = stun::request(TransactionId([9; 12]));
        let answer = stun::answer(&question, Endpoint(([192, 0, 2, 1], 1).into())).unwrap();
        let key_file = format!("tacet-relay-key1{}", "a".repeat(111));
        vec![stream, credential, hello, question.to_vec(), answer, key_file.into_bytes()]
    }

    fn all(data: &[u8]) {
        relay_frames(data);
        relay_credential(data);
        relay_key_file(data);
        stun_datagram(data);
    }

    /// Xorshift (Marsaglia, 2003): the same bytes at each run.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn good_inputs_cut_and_changed_at_every_byte_break_nothing() {
        for good in corpus() {
            for i in 0..good.len() {
                all(&good[..i]);
                for bit in 0..8 {
                    let mut changed = good.clone();
                    changed[i] ^= 1 << bit;
                    all(&changed);
                }
            }
            all(&good);
        }
    }

    #[test]
    fn random_inputs_break_nothing() {
        let mut state = 42;
        for _ in 0..20_000 {
            let len = next(&mut state) as usize % 300;
            let mut data: Vec<u8> = (0..len).map(|_| next(&mut state) as u8).collect();
            all(&data);
            // Frames of a length that fits are rare by chance.
            if let [high, low, kind, ..] = data.as_mut_slice() {
                (*high, *low, *kind) = (0, (len - 2) as u8, *kind % 16);
            }
            all(&data);
        }
    }
}
