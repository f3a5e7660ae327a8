//! A network of one machine with an invite, for tests.

use proto::{
    identity::MachineKeys,
    metadata::InnerNet,
    roster::{InviteSecret, JoinRecord, NewInvite, NewNetwork, Roster},
};
use rand_core::OsRng;

/// The roster, the keys of its signer, and an invite of so many uses that ends in unix second 100.
pub(crate) fn network(uses: u32) -> (Roster, MachineKeys, InviteSecret) {
    let keys = MachineKeys::generate(&mut OsRng);
    let new = NewNetwork {
        name: "home".into(),
        machine_name: "first".into(),
        keys: &keys,
        coordinator: "https://c.example".into(),
        pin: None,
        relays: Vec::new(),
        ipv4: InnerNet::new("10.70.0.0".parse().unwrap(), 20).unwrap(),
    };
    let (roster, _) = Roster::create(new, 0, &mut OsRng).unwrap();
    let invite = NewInvite { name: None, uses, expires: 100, groups: Vec::new() };
    let edit = roster.edit(&keys, 0, &mut OsRng, |draft| draft.add_invite(invite)).unwrap();
    (edit.roster, keys, edit.outcome)
}

/// The record of one more machine that joins by the invite.
pub(crate) fn record(roster: &Roster, invite: &InviteSecret) -> JoinRecord {
    let keys = MachineKeys::generate(&mut OsRng);
    JoinRecord::create(roster, invite, &keys, "laptop", &mut OsRng).unwrap()
}
