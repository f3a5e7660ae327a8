//! Where peers are reached at the relays: a machine's mailbox differs by epoch, relay and day.
//!
//! Computing one takes a multiplication on the curve, and relayed packets come by the thousand, so the present ones
//! are remembered, and all forgotten when the day changes.

use std::collections::HashMap;

use proto::{
    epoch::{EpochKey, EpochName},
    mailbox::mailbox_of,
    metadata::MailboxId,
};

/// More than every machine of a large network has at a few relays; then all are forgotten.
const MOST: usize = 1 << 16;

/// The mailboxes of other machines on one day.
pub(crate) struct Mailboxes {
    day: u32,
    known: HashMap<(EpochName, [u8; 32], u8), MailboxId>,
}

impl Mailboxes {
    pub(crate) fn new(day: u32) -> Self {
        Self { day, known: HashMap::new() }
    }

    /// The mailbox of the machine with the mailbox key `machine` at relay number `relay`, whose key is `relay_key`.
    /// `None` if the machine's key is none that mailboxes can be made of.
    pub(crate) fn find(
        &mut self,
        machine: &[u8; 32],
        (relay, relay_key): (u8, &[u8; 32]),
        (epoch, day): (&EpochKey, u32),
    ) -> Option<MailboxId> {
        if self.day != day || self.known.len() >= MOST {
            self.day = day;
            self.known.clear();
        }
        let key = (epoch.name(), *machine, relay);
        if let Some(id) = self.known.get(&key) {
            return Some(*id);
        }
        let id = mailbox_of(machine, &epoch.mailbox_key(), relay_key, day)?;
        self.known.insert(key, id);
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
        let mut mailboxes = Mailboxes::new(1);
        for (epoch, day) in [(&old, 1), (&old, 1), (&old, 2), (&new, 2), (&old, 1)] {
            let opened = MailboxSecret::new(keys.mailbox(), &epoch.mailbox_key()).blind(&relay, day).id();
            assert!(mailboxes.find(&machine, (0, &relay), (epoch, day)) == Some(opened));
        }
    }
}
