//! What a coordinator reads from strangers, and a machine from a coordinator that may be anybody's.

use proto::{
    account::{AccountName, OpaqueServer},
    coordinator::{
        DeltaUpload, Info, Join, Joins, LoginChallenge, LoginDone, LoginFinish, LoginStart, Networks, Proof,
        Refusal, RegisterFinish, RegisterStart, WatchEvent,
    },
    wire::Wire,
};

/// Every body. The first byte says of which kind; what reads must read the same again after being written.
pub fn coordinator_body(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 12 {
        0 => stable::<Info>(body),
        1 => stable::<RegisterStart>(body),
        2 => stable::<RegisterFinish>(body),
        3 => stable::<LoginStart>(body),
        4 => stable::<LoginChallenge>(body),
        5 => stable::<LoginFinish>(body),
        6 => stable::<LoginDone>(body),
        7 => stable::<Networks>(body),
        8 => stable::<DeltaUpload>(body),
        9 => stable::<Join>(body),
        10 => stable::<Joins>(body),
        _ => stable::<Refusal>(body),
    }
}

/// The header that carries a proof.
pub fn coordinator_proof(data: &[u8]) {
    if let Ok(proof) = Proof::from_header(data) {
        assert!(proof.to_header().as_bytes() == data);
    }
}

/// A watch's stream. Whatever comes, each event takes bytes off its front or waits for more.
pub fn coordinator_events(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((event, len))) = WatchEvent::from_frame(rest) {
        assert!(len >= 4);
        let again = event.to_frame();
        assert!(WatchEvent::from_frame(&again) == Ok(Some((event, again.len()))));
        rest = &rest[len..];
    }
}

/// OPAQUE's messages as the coordinator reads them, under a key of one value.
pub fn account_messages(data: &[u8]) {
    let mut rng = Same(7);
    let server = OpaqueServer::generate(&mut rng);
    let name = AccountName::parse("anna").expect("a plain name");
    let _ = server.register(&name, data);
    let _ = OpaqueServer::from_bytes(data);
    let record = OpaqueServer::record(data).ok();
    if let Ok((pending, _)) = server.login(&name, record.as_deref(), &[0; 32], data, &mut rng) {
        assert!(pending.finish(data).is_err());
    }
}

fn stable<T: Wire>(body: &[u8]) {
    if let Ok(value) = T::from_bytes(body) {
        // Optional fields of later versions are skipped, so the second writing is what must be stable.
        let once = value.to_bytes();
        assert!(T::from_bytes(&once).is_ok_and(|again| again.to_bytes() == once));
    }
}

/// Random numbers that are the same in each run: a failure must come again.
struct Same(u64);

impl rand_core::RngCore for Same {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        // Xorshift (Marsaglia, 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next_u64() as u8;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// For fuzzing alone.
impl rand_core::CryptoRng for Same {}

#[cfg(test)]
mod tests {
    use proto::{
        coordinator::{Reason, RelayOffer},
        identity::{NetworkId, Pin},
        roster::EntryId,
        token::EnrolCode,
    };
    use rand_core::RngCore;

    use super::*;

    #[test]
    fn good_bodies_cut_and_changed_at_every_byte_break_nothing() {
        for good in bodies() {
            for i in 0..good.len() {
                coordinator_body(&good[..i]);
                for bit in 0..8 {
                    let mut changed = good.clone();
                    changed[i] ^= 1 << bit;
                    coordinator_body(&changed);
                }
            }
        }
    }

    #[test]
    fn good_bodies_read() {
        let bodies = bodies();
        assert!(Info::from_bytes(&bodies[0][1..]).is_ok_and(|info| info.relays.len() == 1));
        assert!(RegisterStart::from_bytes(&bodies[1][1..]).is_ok());
        assert!(Joins::from_bytes(&bodies[10][1..]).is_ok_and(|joins| joins.0.len() == 2));
        assert!(Refusal::from_bytes(&bodies[11][1..]).is_ok_and(|refusal| refusal.head.is_some()));
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        for good in bodies().into_iter().filter(|good| good[0] != 9) {
            let mut longer = good[1..].to_vec();
            longer.extend_from_slice(&[200, 0, 0, 0, 1, 7]);
            let ok = match good[0] {
                0 => Info::from_bytes(&longer).is_ok(),
                1 => RegisterStart::from_bytes(&longer).is_ok(),
                8 => DeltaUpload::from_bytes(&longer).is_ok(),
                10 => Joins::from_bytes(&longer).is_ok(),
                11 => Refusal::from_bytes(&longer).is_ok(),
                _ => true,
            };
            assert!(ok, "{}", good[0]);
        }
    }

    #[test]
    fn proofs_and_events_cut_and_changed_break_nothing() {
        let proof = Proof::Member { signature: [5; 64] }.to_header();
        let mut stream = WatchEvent::Head(vec![1; 40]).to_frame();
        stream.extend(WatchEvent::Alive.to_frame());
        stream.extend(WatchEvent::Join(join()).to_frame());
        for i in 0..proof.len() {
            coordinator_proof(&proof.as_bytes()[..i]);
        }
        coordinator_proof(proof.as_bytes());
        for i in 0..stream.len() {
            coordinator_events(&stream[..i]);
            for bit in 0..8 {
                let mut changed = stream.clone();
                changed[i] ^= 1 << bit;
                coordinator_events(&changed);
            }
        }
    }

    #[test]
    fn random_bytes_break_nothing() {
        let mut rng = Same(42);
        for _ in 0..2_000 {
            let mut data = vec![0; rng.next_u64() as usize % 400];
            rng.fill_bytes(&mut data);
            coordinator_body(&data);
            coordinator_proof(&data);
            coordinator_events(&data);
        }
        // Key exchange costs more than parsing.
        for length in [0, 32, 64, 96, 128, 192, 320] {
            let mut data = vec![0; length];
            rng.fill_bytes(&mut data);
            account_messages(&data);
        }
    }

    fn join() -> Join {
        Join { invite: EntryId([1; 16]), record: vec![2; 60] }
    }

    /// One of each, its kind in front.
    fn bodies() -> Vec<Vec<u8>> {
        let name = AccountName::parse("anna").unwrap();
        let code = EnrolCode(vec![3; 16]);
        let relay = RelayOffer { url: "https://a".to_owned(), key: [1; 32], stun_port: Some(3478) };
        let bytes = [
            Info { relays: vec![relay], pins: vec![Pin([2; 32])] }.to_bytes(),
            RegisterStart { name: name.clone(), code: code.clone(), request: vec![1; 32] }.to_bytes(),
            RegisterFinish { name: name.clone(), code, upload: vec![1; 192] }.to_bytes(),
            LoginStart { name, request: vec![1; 96] }.to_bytes(),
            LoginChallenge { attempt: [1; 16], response: vec![1; 320] }.to_bytes(),
            LoginFinish { attempt: [1; 16], proof: vec![1; 64] }.to_bytes(),
            LoginDone { session: [1; 16] }.to_bytes(),
            Networks(vec![NetworkId([1; 32]), NetworkId([2; 32])]).to_bytes(),
            DeltaUpload { delta: vec![1; 50], settled: vec![[1; 32]] }.to_bytes(),
            join().to_bytes(),
            Joins(vec![join(), join()]).to_bytes(),
            Refusal { reason: Reason::Conflict, head: Some(vec![1; 20]) }.to_bytes(),
        ];
        let kinds = 0u8..;
        kinds.zip(bytes).map(|(kind, body)| [vec![kind], body].concat()).collect()
    }
}
