//! From a join record to a member: what a provisional membership rests on.
//!
//! It lasts while its invite is in the roster, and gives the invite's groups, no routes, no signing. A record may claim
//! nothing that another machine has. More machines than an invite has uses means that its token went astray: none of
//! them is accepted.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    identity::NetworkId,
    roster::{
        address::in_first_subnet,
        entry::{EntryId, InviteEntry, MAX_NAME, MachineEntry, Settings},
        error::MembershipError,
        join::JoinRecord,
    },
};

/// The machine that `record` makes, if `invite` and the machines that are there allow it.
pub(crate) fn admit<'m>(
    network: &NetworkId,
    settings: &Settings,
    invite: &InviteEntry,
    machines: &(impl Iterator<Item = &'m MachineEntry> + Clone),
    record: &JoinRecord,
) -> Result<MachineEntry, MembershipError> {
    let join = record.join();
    if join.invite != invite.id {
        return Err(MembershipError::NoInvite);
    }
    record.verify(network, &invite.key)?;
    if !in_first_subnet(settings.ipv6, join.ipv6) {
        return Err(MembershipError::Taken);
    }
    for machine in machines.clone() {
        let (theirs, ours) = (&machine.identity, &join.identity);
        if theirs.identity == ours.identity {
            return Err(MembershipError::Member);
        }
        let taken = machine.id == join.id
            || machine.ipv6 == join.ipv6
            || theirs.wireguard == ours.wireguard
            || theirs.mailbox == ours.mailbox
            || theirs.sealing == ours.sealing;
        if taken {
            return Err(MembershipError::Taken);
        }
    }
    let wanted = invite.name.as_ref().unwrap_or(&join.name);
    Ok(MachineEntry {
        id: join.id,
        name: free_name(wanted, |name| machines.clone().any(|machine| machine.name == name)),
        identity: join.identity.clone(),
        ipv4: invite.ipv4,
        ipv6: join.ipv6,
        groups: invite.groups.clone(),
        routes: Vec::new(),
        endpoints: Vec::new(),
        invite: Some(invite.id),
    })
}

/// Which invites have more machines in `records` that are not `folded` than they have uses.
pub(super) fn overused<'i>(
    invite: impl Fn(&EntryId) -> Option<&'i InviteEntry>,
    folded: impl Fn(&[u8; 32]) -> bool,
    network: &NetworkId,
    records: &[JoinRecord],
) -> BTreeSet<EntryId> {
    let mut joiners: BTreeMap<EntryId, BTreeSet<[u8; 32]>> = BTreeMap::new();
    for record in records {
        let join = record.join();
        // What the invite did not sign does not count against it.
        let counts = invite(&join.invite).is_some_and(|invite| record.verify(network, &invite.key).is_ok());
        if counts && !folded(&join.identity.identity) {
            joiners.entry(join.invite).or_default().insert(join.identity.identity);
        }
    }
    joiners
        .into_iter()
        .filter(|(id, joiners)| invite(id).is_none_or(|invite| joiners.len() > invite.uses as usize))
        .map(|(id, _)| id)
        .collect()
}

/// `wanted`, or `wanted` with the least number from 2 that makes it free.
pub(super) fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2_u32..)
        .map(|n| {
            // `nas` becomes `nas2`; `cloud-1` does not become `cloud-12`.
            let digits =
                if wanted.ends_with(|c: char| c.is_ascii_digit()) { format!("-{n}") } else { n.to_string() };
            let stem = &wanted[..wanted.len().min(MAX_NAME - digits.len())];
            format!("{stem}{digits}")
        })
        .find(|name| !taken(name))
        .expect("there are fewer machines than numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_next_free_digit_and_stays_a_name() {
        let taken = ["pi", "pi2"];
        assert_eq!(free_name("pi", |name| taken.contains(&name)), "pi3");
        assert_eq!(free_name("nas", |name| taken.contains(&name)), "nas");
        assert_eq!(free_name("pi2", |name| taken.contains(&name)), "pi2-2");
        let long = "a".repeat(MAX_NAME);
        let name = free_name(&long, |name| name == long);
        assert!(name.len() == MAX_NAME && name.ends_with("a2"));
    }
}
