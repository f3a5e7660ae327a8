//! What a roster is made of: machines, invites, relays, settings, policy, DNS.
//!
//! An entry's plaintext is `version, salt, kind, fields, optional fields`. Its id and version stand outside and are
//! bound to it by the seal and by the Merkle leaf. The salt keeps whoever sees a hash from guessing the content. A
//! kind that this program does not know is carried along untouched.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand_core::CryptoRngCore;

use crate::{
    identity::{MachineIdentity, Pin, verifying_bytes},
    metadata::{Endpoint, InnerNet},
    seal::{SealingPublic, random},
    token::{MAX_URL, valid_url},
    wire::{Reader, Wire, WireError, Writer},
};

const VERSION: u8 = 1;
const SALT: usize = 16;

/// Machines in a network, at most.
pub const MAX_MACHINES: usize = 4096;
/// Live invites, at most.
pub const MAX_INVITES: usize = 256;
/// Relays in a network, at most: every machine listens on all of them.
pub const MAX_RELAYS: usize = 4;
/// Entries of all kinds, at most; leaves room for kinds to come.
pub const MAX_ENTRIES: usize = MAX_MACHINES + MAX_INVITES + 64;
/// Bytes of an entry's plaintext, at most.
pub const MAX_ENTRY: usize = 64 << 10;
/// Bytes of a policy or DNS document, at most.
pub const MAX_DOCUMENT: usize = 60 << 10;
/// Groups of one machine or invite, at most.
pub const MAX_GROUPS: usize = 32;
/// Routes of one machine, at most.
pub const MAX_ROUTES: usize = 64;
/// Static endpoints of one machine, at most.
pub const MAX_ENDPOINTS: usize = 8;
/// Uses of one invite, at most.
pub const MAX_USES: u32 = MAX_MACHINES as u32;
/// Pins of the coordinator: the present one and the next.
pub const MAX_PINS: usize = 2;
/// Letters of a name, at most (RFC 1035, section 2.3.4).
pub const MAX_NAME: usize = 63;

const MACHINE: u8 = 1;
const INVITE: u8 = 2;
const RELAYS: u8 = 3;
const SETTINGS: u8 = 4;
const POLICY: u8 = 5;
const DNS: u8 = 6;

/// A roster entry's opaque name: 16 random bytes, the same for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub [u8; 16]);

impl EntryId {
    /// 32 lower-case hexadecimal digits: how a person is shown an invite.
    #[must_use]
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

/// One entry of an opened roster.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A member.
    Machine(MachineEntry),
    /// A live invite.
    Invite(InviteEntry),
    /// The relays, in the order by which machines number them; one such entry at most.
    Relays(Vec<RelayEntry>),
    /// The network itself; exactly one such entry.
    Settings(Settings),
    /// Who may reach whom; one such entry at most.
    Policy(Vec<u8>),
    /// Names beyond those of machines; one such entry at most.
    Dns(Vec<u8>),
    /// A kind from the future, carried along.
    Unknown,
}

/// A member of the network.
#[derive(Clone, PartialEq, Eq)]
pub struct MachineEntry {
    /// The entry's id.
    pub id: EntryId,
    /// Unique in the network.
    pub name: String,
    /// Its public keys.
    pub identity: MachineIdentity,
    /// Its IPv4 address; `None` until a signer has folded the machine in.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// What policies know it by.
    pub groups: Vec<String>,
    /// Further ranges that it forwards to.
    pub routes: Vec<InnerNet>,
    /// Where it can always be reached, signed in by a signer.
    pub endpoints: Vec<Endpoint>,
    /// The invite that it joined by, while that is live.
    pub invite: Option<EntryId>,
}

/// A live invite.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteEntry {
    /// The entry's id, and the opaque id by which the coordinator counts.
    pub id: EntryId,
    /// Ed25519: verifies join records.
    pub key: [u8; 32],
    /// Epoch keys are sealed to it.
    pub sealing: SealingPublic,
    /// The machine that made it and has seen its token; removing that machine removes the invite.
    pub creator: EntryId,
    /// The name that the machine gets; its own choice if `None`.
    pub name: Option<String>,
    /// How many machines may still join by it.
    pub uses: u32,
    /// When it ends, in unix seconds.
    pub expires: u64,
    /// The groups that the machine gets.
    pub groups: Vec<String>,
    /// The address of the one machine that it is for; `None` if it has more uses.
    pub ipv4: Option<Ipv4Addr>,
}

/// A relay.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayEntry {
    /// `https://host[:port]`.
    pub url: String,
    /// Ed25519: the relay's hello is signed by it.
    pub key: [u8; 32],
    /// The UDP port of its STUN server, on the same host.
    pub stun_port: Option<u16>,
}

/// What holds for the whole network.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The network's name.
    pub name: String,
    /// Machines get their IPv4 addresses from here.
    pub ipv4: InnerNet,
    /// The network's random /48 (RFC 4193). Machines' addresses lie in its first /64.
    pub ipv6: InnerNet,
    /// The coordinator's URL.
    pub coordinator: String,
    /// Its present pin and the next one; empty if it has a certificate of the web's.
    pub pins: Vec<Pin>,
}

/// An entry's plaintext as it is sealed and hashed, and what it says.
#[derive(Clone)]
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    pub(super) entry: Entry,
}

impl Entry {
    /// Reads an entry's plaintext.
    ///
    /// # Errors
    /// [`WireError`] if it is not valid.
    pub fn from_plaintext(id: EntryId, bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Plain::parse(id, bytes.to_vec())?.entry)
    }

    fn kind(&self) -> Option<u8> {
        Some(match self {
            Self::Machine(_) => MACHINE,
            Self::Invite(_) => INVITE,
            Self::Relays(_) => RELAYS,
            Self::Settings(_) => SETTINGS,
            Self::Policy(_) => POLICY,
            Self::Dns(_) => DNS,
            Self::Unknown => return None,
        })
    }
}

impl Plain {
    /// The plaintext of a new version of `entry`, freshly salted.
    ///
    /// # Errors
    /// [`WireError`] if the entry breaks a limit of the format.
    pub(super) fn new(id: EntryId, entry: &Entry, rng: &mut dyn CryptoRngCore) -> Result<Self, WireError> {
        let kind = entry.kind().ok_or(WireError::Invalid("kind of entry"))?;
        let mut w = Writer::new();
        w.version(VERSION);
        w.raw(&random::<SALT>(rng));
        w.u8(kind);
        match entry {
            Entry::Machine(machine) => put_machine(machine, &mut w),
            Entry::Invite(invite) => put_invite(invite, &mut w),
            Entry::Relays(relays) => w.list(relays, |w, relay| relay.encode(w)),
            Entry::Settings(settings) => put_settings(settings, &mut w),
            Entry::Policy(document) | Entry::Dns(document) => w.bytes(document),
            Entry::Unknown => {}
        }
        // What we would refuse to read, we refuse to write.
        let plain = Self::parse(id, w.finish())?;
        if plain.entry == *entry { Ok(plain) } else { Err(WireError::Invalid("entry")) }
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`WireError`] if it is not valid.
    pub(super) fn parse(id: EntryId, bytes: Vec<u8>) -> Result<Self, WireError> {
        if bytes.len() > MAX_ENTRY {
            return Err(WireError::TooLong);
        }
        let mut r = Reader::new(&bytes);
        r.version(VERSION)?;
        r.raw(SALT)?;
        let entry = match r.u8()? {
            MACHINE => Entry::Machine(get_machine(id, &mut r)?),
            INVITE => Entry::Invite(get_invite(id, &mut r)?),
            RELAYS => Entry::Relays(r.list(MAX_RELAYS, RelayEntry::decode)?),
            SETTINGS => Entry::Settings(get_settings(&mut r)?),
            POLICY => Entry::Policy(r.bytes(MAX_DOCUMENT)?.to_vec()),
            DNS => Entry::Dns(r.bytes(MAX_DOCUMENT)?.to_vec()),
            _ => return Ok(Self { entry: Entry::Unknown, bytes }),
        };
        skip_optional(&mut r)?;
        Ok(Self { bytes, entry })
    }
}

/// Whether `name` may name a machine, a network or a group: a DNS label of lower-case letters, digits and inner
/// hyphens (RFC 1035, section 2.3.1, digits first allowed by RFC 1123).
#[must_use]
pub fn valid_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn put_machine(machine: &MachineEntry, w: &mut Writer) {
    w.text(&machine.name);
    machine.identity.encode(w);
    w.raw(&machine.ipv6.octets());
    put_groups(&machine.groups, w);
    w.list(&machine.routes, |w, route| route.encode(w));
    w.list(&machine.endpoints, |w, endpoint| endpoint.encode(w));
    put_ipv4(machine.ipv4, w);
    w.u8(u8::from(machine.invite.is_some()));
    if let Some(invite) = machine.invite {
        invite.encode(w);
    }
}

fn get_machine(id: EntryId, r: &mut Reader<'_>) -> Result<MachineEntry, WireError> {
    Ok(MachineEntry {
        id,
        name: get_name(r)?,
        identity: MachineIdentity::decode(r)?,
        ipv6: r.array::<16>()?.into(),
        groups: get_groups(r)?,
        routes: r.list(MAX_ROUTES, InnerNet::decode)?,
        endpoints: r.list(MAX_ENDPOINTS, Endpoint::decode)?,
        ipv4: get_ipv4(r)?,
        invite: if get_flag(r)? { Some(EntryId::decode(r)?) } else { None },
    })
}

fn put_invite(invite: &InviteEntry, w: &mut Writer) {
    w.raw(&invite.key);
    invite.sealing.encode(w);
    invite.creator.encode(w);
    w.u32(invite.uses);
    w.u64(invite.expires);
    put_groups(&invite.groups, w);
    put_ipv4(invite.ipv4, w);
    w.u8(u8::from(invite.name.is_some()));
    if let Some(name) = &invite.name {
        w.text(name);
    }
}

fn get_invite(id: EntryId, r: &mut Reader<'_>) -> Result<InviteEntry, WireError> {
    let invite = InviteEntry {
        id,
        key: verifying_bytes(r.array()?)?,
        sealing: SealingPublic::decode(r)?,
        creator: EntryId::decode(r)?,
        uses: r.u32()?,
        expires: r.u64()?,
        groups: get_groups(r)?,
        ipv4: get_ipv4(r)?,
        name: if get_flag(r)? { Some(get_name(r)?) } else { None },
    };
    if !(1..=MAX_USES).contains(&invite.uses) {
        return Err(WireError::Invalid("uses"));
    }
    Ok(invite)
}

fn put_settings(settings: &Settings, w: &mut Writer) {
    w.text(&settings.name);
    settings.ipv4.encode(w);
    settings.ipv6.encode(w);
    w.text(&settings.coordinator);
    w.list(&settings.pins, |w, pin| pin.encode(w));
}

fn get_settings(r: &mut Reader<'_>) -> Result<Settings, WireError> {
    let name = get_name(r)?;
    let ipv4 = InnerNet::decode(r)?;
    if !ipv4.addr().is_ipv4() || ipv4.prefix_len() < 8 {
        return Err(WireError::Invalid("IPv4 range"));
    }
    let ipv6 = InnerNet::decode(r)?;
    if !ipv6.addr().is_ipv6() || ipv6.prefix_len() != 48 {
        return Err(WireError::Invalid("IPv6 range"));
    }
    let coordinator = get_url(r)?;
    Ok(Settings { name, ipv4, ipv6, coordinator, pins: r.list(MAX_PINS, Pin::decode)? })
}

fn put_groups(groups: &[String], w: &mut Writer) {
    w.list(groups, |w, group| w.text(group));
}

fn get_groups(r: &mut Reader<'_>) -> Result<Vec<String>, WireError> {
    r.list(MAX_GROUPS, get_name)
}

fn put_ipv4(addr: Option<Ipv4Addr>, w: &mut Writer) {
    w.u8(u8::from(addr.is_some()));
    if let Some(addr) = addr {
        w.raw(&addr.octets());
    }
}

fn get_ipv4(r: &mut Reader<'_>) -> Result<Option<Ipv4Addr>, WireError> {
    Ok(if get_flag(r)? { Some(r.array::<4>()?.into()) } else { None })
}

fn get_flag(r: &mut Reader<'_>) -> Result<bool, WireError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Invalid("flag")),
    }
}

pub(super) fn get_name(r: &mut Reader<'_>) -> Result<String, WireError> {
    let name = r.text(MAX_NAME)?;
    if valid_name(name) { Ok(name.to_owned()) } else { Err(WireError::Invalid("name")) }
}

fn get_url(r: &mut Reader<'_>) -> Result<String, WireError> {
    let url = r.text(MAX_URL)?;
    if valid_url(url) { Ok(url.to_owned()) } else { Err(WireError::Invalid("URL")) }
}

/// Steps over optional fields from the future.
pub(super) fn skip_optional(r: &mut Reader<'_>) -> Result<(), WireError> {
    while r.optional()?.is_some() {}
    Ok(())
}

/// 16 bytes.
impl Wire for EntryId {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// URL, key, STUN port (0 for none).
impl Wire for RelayEntry {
    fn encode(&self, w: &mut Writer) {
        w.text(&self.url);
        w.raw(&self.key);
        w.u16(self.stun_port.unwrap_or(0));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let url = get_url(r)?;
        let key = verifying_bytes(r.array()?)?;
        let port = r.u16()?;
        Ok(Self { url, key, stun_port: (port != 0).then_some(port) })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::identity::MachineKeys;

    fn machine() -> MachineEntry {
        MachineEntry {
            id: EntryId([1; 16]),
            name: "laptop".into(),
            identity: MachineKeys::generate(&mut OsRng).public(),
            ipv4: Some(Ipv4Addr::new(10, 9, 8, 7)),
            ipv6: "fd00::1".parse().unwrap(),
            groups: vec!["home".into()],
            routes: vec![InnerNet::new("192.0.2.0".parse().unwrap(), 24).unwrap()],
            endpoints: vec![Endpoint("198.51.100.1:51820".parse().unwrap())],
            invite: Some(EntryId([2; 16])),
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "laptop", "0x", "a-b", &"a".repeat(63)] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", " a", &"a".repeat(64)] {
            assert!(!valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_machine_reads_back_as_it_was_and_two_versions_share_no_salt() {
        let entry = Entry::Machine(machine());
        let one = Plain::new(EntryId([1; 16]), &entry, &mut OsRng).unwrap();
        let two = Plain::new(EntryId([1; 16]), &entry, &mut OsRng).unwrap();
        assert!(Plain::parse(EntryId([1; 16]), one.bytes.clone()).unwrap().entry == entry);
        assert!(one.bytes != two.bytes);
    }

    #[test]
    fn an_entry_that_breaks_a_limit_is_not_written() {
        let mut bad = machine();
        bad.name = "Laptop".into();
        assert!(Plain::new(bad.id, &Entry::Machine(bad.clone()), &mut OsRng).is_err());
        bad = machine();
        bad.groups = vec!["g".into(); MAX_GROUPS + 1];
        assert!(Plain::new(bad.id, &Entry::Machine(bad.clone()), &mut OsRng).is_err());
    }

    #[test]
    fn a_kind_of_the_future_is_carried_and_an_optional_field_ignored() {
        let mut future = vec![VERSION];
        future.extend_from_slice(&[0; SALT]);
        future.push(99);
        future.extend_from_slice(b"anything");
        let plain = Plain::parse(EntryId([0; 16]), future.clone()).unwrap();
        assert!(plain.entry == Entry::Unknown && plain.bytes == future);

        let entry = Entry::Machine(machine());
        let mut w = Writer::new();
        w.raw(&Plain::new(EntryId([1; 16]), &entry, &mut OsRng).unwrap().bytes);
        w.optional(77, b"from the future");
        assert!(Plain::parse(EntryId([1; 16]), w.finish()).unwrap().entry == entry);
    }
}
