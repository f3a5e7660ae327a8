//! A network with its first machine, as tests begin with it.
#![allow(dead_code, reason = "each test binary uses its own part of the cast")]
#![allow(clippy::unwrap_used, reason = "tests")]

use proto::{
    identity::{MachineKeys, NetworkId},
    metadata::InnerNet,
    roster::{
        Edit, EditError, InviteSecret, JoinRecord, NewInvite, NewNetwork, RelayEntry, Roster, RosterError,
    },
    token::RecoveryKey,
};
use rand_core::{CryptoRng, CryptoRngCore, OsRng, RngCore};

/// When tests begin, in unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
/// A day, in seconds.
pub(crate) const DAY: u64 = 86_400;

/// The founder of a network, and its first signer.
pub(crate) struct Founder {
    /// Its keys.
    pub(crate) keys: MachineKeys,
    /// The network.
    pub(crate) network: NetworkId,
    /// The first state.
    pub(crate) roster: Roster,
    /// The paper.
    pub(crate) paper: RecoveryKey,
}

/// A network called `home`, of one machine called `server`.
pub(crate) fn found(rng: &mut dyn CryptoRngCore) -> Founder {
    let keys = MachineKeys::generate(rng);
    let new = NewNetwork {
        name: "home".into(),
        machine_name: "server".into(),
        keys: &keys,
        coordinator: "https://vpn.example.org".into(),
        pin: None,
        relays: vec![relay(1), relay(2)],
        ipv4: InnerNet::new("10.71.0.0".parse().unwrap(), 16).unwrap(),
    };
    let (roster, paper) = Roster::create(new, NOW, rng).unwrap();
    Founder { network: roster.network(), keys, roster, paper }
}

/// One of two relays.
pub(crate) fn relay(n: u8) -> RelayEntry {
    let key = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
    RelayEntry { url: format!("https://relay{n}.example.org"), key, stun_port: Some(3478) }
}

/// An invite of `uses` that ends in a day.
pub(crate) fn uses(uses: u32) -> NewInvite {
    NewInvite { name: None, uses, expires: NOW + DAY, groups: vec!["guests".into()] }
}

impl Founder {
    /// Makes an invite, and takes the change as made.
    pub(crate) fn invite(&mut self, new: NewInvite) -> InviteSecret {
        let edit = self.edit(|draft| draft.add_invite(new)).unwrap();
        self.roster = edit.roster;
        edit.outcome
    }

    /// Edits the present roster, without taking the change.
    pub(crate) fn edit<T>(
        &self,
        change: impl FnOnce(&mut proto::roster::Draft<'_>) -> Result<T, EditError>,
    ) -> Result<Edit<T>, EditError> {
        self.roster.edit(&self.keys, NOW, &mut OsRng, change)
    }

    /// Edits the present roster and takes the change.
    pub(crate) fn take<T>(
        &mut self,
        change: impl FnOnce(&mut proto::roster::Draft<'_>) -> Result<T, EditError>,
    ) -> T {
        let edit = self.edit(change).unwrap();
        self.roster = edit.roster;
        edit.outcome
    }

    /// A machine that joins the present roster, and its record.
    pub(crate) fn joiner(&self, invite: &InviteSecret, name: &str) -> (MachineKeys, JoinRecord) {
        let keys = MachineKeys::generate(&mut OsRng);
        let record = JoinRecord::create(&self.roster, invite, &keys, name, &mut OsRng).unwrap();
        (keys, record)
    }

    /// The present roster as the holder of `sealing` opens it from the coordinator.
    pub(crate) fn opened_by(&self, sealing: &proto::seal::SealingSecret) -> Result<Roster, RosterError> {
        let state = self.roster.state().clone();
        let key = state.open_key(sealing).ok_or(RosterError::WrongKey)?;
        Roster::open(state, key, &self.network)
    }
}

/// Bytes that look random and are the same in every run: SHA-256 over a seed and a counter.
pub(crate) struct Repeatable {
    seed: u64,
    count: u64,
}

impl Repeatable {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }
}

impl RngCore for Repeatable {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = proto::seal::hash("test", &[&self.seed.to_be_bytes(), &self.count.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.count += 1;
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Repeatable {}
