//! Whether what is kept of this machine's keys is whole.
//!
//! Any bytes are keys. A damaged file would look as if the machine had been removed, or as if nobody answered; but then
//! some of its keys are those of a machine of the roster, and others are not.

use proto::{identity::MachineIdentity, roster::Roster};

/// Whether a machine of the roster has all of these keys or none of them.
pub(super) fn fit(own: &MachineIdentity, roster: &Roster) -> bool {
    roster.machines().all(|machine| {
        let theirs = &machine.identity;
        let same = [
            theirs.identity == own.identity,
            theirs.wireguard == own.wireguard,
            theirs.sealing == own.sealing,
            theirs.mailbox == own.mailbox,
        ];
        same.iter().all(|one| *one == same[0])
    })
}

#[cfg(test)]
mod tests {
    use proto::{
        identity::MachineKeys,
        wire::{Wire, WireError},
    };
    use rand_core::OsRng;

    use super::*;
    use crate::network::sample::network;

    #[test]
    fn a_changed_byte_in_any_key_is_seen_and_a_machine_that_is_not_there_is_whole() {
        let (roster, keys, _) = network(1);
        assert!(fit(&keys.public(), &roster));
        assert!(fit(&MachineKeys::generate(&mut OsRng).public(), &roster));
        let whole = keys.to_bytes();
        for at in [1, 40, 75, 110] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let damaged: Result<MachineKeys, WireError> = MachineKeys::from_bytes(&bytes);
            assert!(!fit(&damaged.unwrap().public(), &roster), "byte {at}");
        }
    }
}
