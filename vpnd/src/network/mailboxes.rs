//! Where peers are reached at the relays: a machine's mailbox differs by epoch, relay and day.
//!
//! Computing one takes a multiplication on the curve, and relayed packets come by the thousand, so the present ones
//! are remembered, and all forgotten when the day or the epoch changes.

use std::collections::HashMap;

use proto::{
    epoch::{EpochKey, EpochName},
    mailbox::mailbox_of,
    metadata::MailboxId,
};

/// The mailboxes of other machines, for one epoch and day.
pub(crate) struct Mailboxes {
    valid: (EpochName, u32),
    known: HashMap<([u8; 32], u8), MailboxId>,
}

impl Mailboxes {
    pub(crate) fn new(epoch: &EpochKey, day: u32) -> Self {
        Self { valid: (epoch.name(), day), known: HashMap::new() }
    }

    /// The mailbox of the machine with the mailbox key `machine` at relay number `relay`, whose key is `relay_key`.
    /// `None` if the machine's key is none that mailboxes can be made of.
    pub(crate) fn find(
        &mut self,
        machine: &[u8; 32],
        (relay, relay_key): (u8, &[u8; 32]),
        (epoch, day): (&EpochKey, u32),
    ) -> Option<MailboxId> {
        let now = (epoch.name(), day);
        if self.valid != now {
            self.valid = now;
            self.known.clear();
        }
        if let Some(id) = self.known.get(&(*machine, relay)) {
            return Some(*id);
        }
        let id = mailbox_of(machine, &epoch.mailbox_key(), relay_key, day)?;
        self.known.insert((*machine, relay), id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use proto::{identity::MachineKeys, mailbox::MailboxSecret};
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_mailbox_found_is_the_one_that_its_owner_opens_today() {
        let keys = MachineKeys::generate(&mut OsRng);
        let machine = keys.public().mailbox;
        let (old, new) = (EpochKey::generate(&mut OsRng), EpochKey::generate(&mut OsRng));
        let relay = [7; 32];
        let mut mailboxes = Mailboxes::new(&old, 1);
        for (epoch, day) in [(&old, 1), (&old, 1), (&old, 2), (&new, 2), (&old, 1)] {
            let opened = MailboxSecret::new(keys.mailbox(), &epoch.mailbox_key()).blind(&relay, day).id();
            assert!(mailboxes.find(&machine, (0, &relay), (epoch, day)) == Some(opened));
        }
    }
}
