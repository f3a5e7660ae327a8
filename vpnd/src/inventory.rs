//! What this machine stores, declared in `inventory.toml`, and what of it is there now.
//!
//! [`record`] reads the state directory as it is on the disk, not what the daemon has in memory. Keys are told by kind
//! and number, never by value.

use std::{collections::BTreeSet, fs, io, path::Path};

use proto::{
    inventory::{Held, Inventory, Item, Record},
    roster::{EntryId, InviteEntry, MachineEntry, RelayEntry, Roster, SignedGeneration},
};

use crate::{
    network::clock,
    state::{Contents, Coordinator, DamagedNetwork, Intent, StateDir, StateError, Stored},
};

const DECLARED: &str = include_str!("../inventory.toml");

/// Bytes of a number or key that tell it apart from others, for people.
const SHORT: usize = 4;

/// What vpnd stores, as declared.
#[must_use]
pub fn declared() -> Inventory {
    toml::from_str(DECLARED).expect("a test reads it")
}

/// Everything in the open state directory, and what does not belong there.
///
/// # Errors
/// [`StateError`] if it cannot be read.
pub fn record(state: &StateDir) -> Result<Record, StateError> {
    let inventory = declared();
    let account = state.account()?;
    let Stored { networks, damaged } = state.networks()?;
    let networks: Vec<Contents> = networks.into_iter().map(|(_, contents)| contents).collect();
    let rosters: Vec<Opened<'_>> = networks.iter().map(Opened::of).collect();
    let undeclared = undeclared(state.path(), &inventory).map_err(|e| StateError::Unreadable(e.kind()))?;
    let items = inventory
        .item
        .into_iter()
        .map(|item| {
            let mut values = values(&item, account.as_ref(), &rosters).unwrap_or_default();
            values.extend(damaged.iter().filter_map(|network| unread(&item, network)));
            Held { item, values }
        })
        .collect();
    let place = state.path().display().to_string();
    Ok(Record { component: inventory.component, place, items, undeclared })
}

/// What is told of an item of a network that cannot be read: that its file is there.
fn unread(item: &Item, network: &DamagedNetwork) -> Option<String> {
    let file = network.folder().join(item.place.strip_prefix("networks/*/")?);
    let len = fs::metadata(file).ok()?.len();
    Some(format!("{}: a file of {len} bytes; the network is damaged and cannot be read", network.name()))
}

/// Which files, and which values in them, no declaration allows.
///
/// # Errors
/// If the directory cannot be read.
pub fn undeclared(state: &Path, inventory: &Inventory) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for place in files(state)? {
        let path = state.join(&place);
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(path)? };
        found.extend(inventory.violations(&place, &bytes, clock::now()));
    }
    Ok(found)
}

/// Every file below `state`, by its path from there; a folder that is empty and not one of vpnd's counts as one.
fn files(state: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let mut empty = true;
        for entry in fs::read_dir(state.join(&folder))? {
            let entry = entry?;
            empty = false;
            let name = entry.file_name().to_string_lossy().into_owned();
            let place = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                folders.push(place);
            } else {
                found.insert(place);
            }
        }
        if empty && !folder.is_empty() && folder != "networks" {
            found.insert(folder);
        }
    }
    Ok(found)
}

/// A network's contents, and its roster if the keys beside it open it.
struct Opened<'a> {
    contents: &'a Contents,
    roster: Option<Roster>,
}

impl<'a> Opened<'a> {
    fn of(contents: &'a Contents) -> Self {
        let (state, key) = (contents.roster.clone(), contents.epochs.present().clone());
        Self { contents, roster: Roster::open(state, key, &contents.settings.network).ok() }
    }

    /// The network's name, for the person to whom the record is shown.
    fn name(&self) -> String {
        let own = self.roster.as_ref().map(|roster| roster.name().to_owned());
        self.contents
            .settings
            .alias
            .clone()
            .or(own)
            .unwrap_or_else(|| self.contents.settings.network.to_hex().chars().take(8).collect())
    }
}

/// What is stored of an item; `None` if this code does not know the item.
fn values(item: &Item, account: Option<&Coordinator>, networks: &[Opened<'_>]) -> Option<Vec<String>> {
    let each = |tell: &dyn Fn(&Opened<'_>) -> Vec<String>| -> Vec<String> {
        let tell = |network| {
            let name = Opened::name(network);
            tell(network).into_iter().map(move |value| format!("{name}: {value}"))
        };
        networks.iter().flat_map(tell).collect()
    };
    let roster =
        |tell: &dyn Fn(&Roster) -> Vec<String>| each(&|n| n.roster.as_ref().map_or(Vec::new(), tell));
    Some(match (item.place.as_str(), item.field.as_str()) {
        ("format", _) => vec!["1 byte".to_owned()],
        ("lock", _) => vec!["0 bytes".to_owned()],
        ("account", _) => account.map(coordinator).into_iter().collect(),
        ("networks/*/keys", _) => each(&|_| vec!["4 secret keys: Ed25519 twice, X25519, X-Wing".to_owned()]),
        ("networks/*/roster", "network: id, generation and version") => each(&|network| {
            let order = network.contents.roster.order();
            let id = network.contents.settings.network.to_hex();
            vec![format!(
                "id {id}, recovery {}, generation {}, version {}",
                order.recovery, order.generation, order.version
            )]
        }),
        ("networks/*/roster", "roster: fresh until") => {
            each(&|network| vec![format!("unix time {}", network.contents.roster.header().not_after)])
        }
        ("networks/*/roster", "roster: name, address ranges and coordinator of the network") => {
            roster(&|roster| {
                let settings = roster.settings();
                let range = |net: proto::metadata::InnerNet| format!("{}/{}", net.addr(), net.prefix_len());
                let (v4, v6) = (range(settings.ipv4), range(settings.ipv6));
                vec![format!("name {}, {v4}, {v6}, coordinator {}", settings.name, settings.coordinator)]
            })
        }
        ("networks/*/roster", "roster: machines") => {
            roster(&|roster| roster.machines().map(machine).collect())
        }
        ("networks/*/roster", "roster: invites") => {
            roster(&|roster| roster.invites().map(|live| invite(live, roster)).collect())
        }
        ("networks/*/roster", "roster: signers by generation") => each(&signers),
        ("networks/*/roster", "roster: relays") => {
            roster(&|roster| roster.relays().iter().map(relay).collect())
        }
        ("networks/*/roster", "epoch keys") => each(&|network| {
            let present = "1 secret key of the present epoch".to_owned();
            let ended = network.contents.epochs.ended().iter();
            let ended = ended.map(|ended| {
                let number = ended.number.map_or_else(String::new, |number| format!(" {number}"));
                format!("1 secret key of epoch{number}, which ended on unix day {}", ended.at / 86_400)
            });
            std::iter::once(present).chain(ended).collect()
        }),
        ("networks/*/settings", "network, and whether it is to be up") => each(&|network| {
            let intent = if network.contents.settings.intent == Intent::Up { "up" } else { "down" };
            vec![format!("id {}, {intent}", network.contents.settings.network.to_hex())]
        }),
        ("networks/*/settings", "the name by which this machine knows the network, if another") => {
            each(&|network| network.contents.settings.alias.clone().into_iter().collect())
        }
        ("networks/*/settings", _) => {
            each(&|network| vec![coordinator(&network.contents.settings.coordinator)])
        }
        ("networks/*/membership", _) => each(&|network| {
            let kept = network.contents.membership.as_ref();
            let tell =
                |m: &crate::state::Membership| format!("1 secret key, 1 record of {} bytes", m.record.len());
            kept.map(tell).into_iter().collect()
        }),
        ("networks/*/credentials", _) => each(&|network| {
            let tell = |c: &proto::relay::Credential| format!("{}-{:02}", c.month() / 12, c.month() % 12 + 1);
            network.contents.credentials.iter().map(tell).collect()
        }),
        _ => return None,
    })
}

fn coordinator(coordinator: &Coordinator) -> String {
    let pin = coordinator.pin.as_ref().map_or("no pin".to_owned(), |pin| format!("pin {}", hex(&pin.0)));
    format!("{}, {pin}", coordinator.url)
}

fn machine(machine: &MachineEntry) -> String {
    let mut text = machine.name.clone();
    if let Some(ipv4) = machine.ipv4 {
        text += &format!(", {ipv4}");
    }
    text += &format!(", {}, 4 public keys", machine.ipv6);
    if !machine.groups.is_empty() {
        text += &format!(", groups {}", machine.groups.join(" "));
    }
    for net in &machine.routes {
        text += &format!(", route {}/{}", net.addr(), net.prefix_len());
    }
    for endpoint in &machine.endpoints {
        text += &format!(", fixed endpoint {}", endpoint.0);
    }
    if let Some(invite) = machine.invite {
        text += &format!(", joined by invite {}", short(&invite));
    }
    text
}

fn invite(invite: &InviteEntry, roster: &Roster) -> String {
    let creator = roster.machine(&invite.creator).map_or("a machine that is gone", |machine| &machine.name);
    let mut text = format!(
        "{}, made by {creator}, 2 public keys, {} left, ends at unix time {}",
        short(&invite.id),
        invite.uses,
        invite.expires
    );
    if let Some(name) = &invite.name {
        text += &format!(", name {name}");
    }
    if let Some(ipv4) = invite.ipv4 {
        text += &format!(", {ipv4}");
    }
    if !invite.groups.is_empty() {
        text += &format!(", groups {}", invite.groups.join(" "));
    }
    text
}

/// Every generation's, by name where the roster still knows it.
fn signers(network: &Opened<'_>) -> Vec<String> {
    let named = |key: &[u8; 32]| {
        let machine = network.roster.as_ref().and_then(|roster| roster.machine_by_identity(key));
        machine.map_or_else(|| hex(&key[..SHORT]), |machine| machine.name.clone())
    };
    let tell = |signed: &SignedGeneration| {
        let generation = signed.generation();
        let all: Vec<String> = generation.signers.iter().map(named).collect();
        format!("generation {}: 1 public key each of {}", generation.number, all.join(" "))
    };
    network.contents.roster.head.chain.generations().iter().map(tell).collect()
}

fn relay(relay: &RelayEntry) -> String {
    let stun = relay.stun_port.map_or_else(String::new, |port| format!(", STUN on UDP port {port}"));
    format!("{}, 1 public key{stun}", relay.url)
}

/// An entry's number as `vpnctl invite list` shows it.
fn short(id: &EntryId) -> String {
    id.to_hex().chars().take(2 * SHORT).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proto::{
        epoch::{EpochKey, EpochKeys},
        identity::{MachineKeys, Pin},
        inventory::matches,
        metadata::InnerNet,
        relay::{CredentialIssuer, month_of},
        roster::{InviteSecret, JoinRecord, NewInvite, NewNetwork},
    };
    use rand_core::OsRng;

    use super::*;
    use crate::state::{Membership, Settings};

    /// A state directory in which everything is stored that ever is.
    fn exercised() -> (tempfile::TempDir, PathBuf) {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state");
        let state = StateDir::open(&path).unwrap();
        let coordinator = Coordinator { url: "https://203.0.113.7".into(), pin: Some(Pin([7; 32])) };
        state.set_account(&coordinator).unwrap();
        state.prepare(&contents(coordinator)).unwrap().commit().unwrap();
        (tmp, path)
    }

    fn contents(coordinator: Coordinator) -> Contents {
        let (rng, now, keys) = (&mut OsRng, clock::now(), MachineKeys::generate(&mut OsRng));
        let new = NewNetwork {
            name: "home".into(),
            machine_name: "first".into(),
            keys: &keys,
            coordinator: coordinator.url.clone(),
            pin: None,
            relays: vec![RelayEntry {
                url: "https://203.0.113.8".into(),
                key: [1; 32],
                stun_port: Some(3_478),
            }],
            ipv4: InnerNet::new("10.77.0.0".parse().unwrap(), 24).unwrap(),
        };
        let (roster, _paper) = Roster::create(new, now, rng).unwrap_or_else(|_| panic!("a network"));
        let expires = (now + 86_400).next_multiple_of(60);
        let wish = NewInvite { name: Some("nas".into()), uses: 1, expires, groups: Vec::new() };
        // It outlives the joiner, who stands in the roster with it.
        let guests = NewInvite { name: None, uses: 2, ..wish.clone() };
        let edit = roster
            .edit(&keys, now, rng, |draft| {
                draft.add_invite(wish)?;
                draft.add_invite(guests)
            })
            .unwrap_or_else(|_| panic!("two invites"));
        let guest = MachineKeys::generate(&mut OsRng);
        let record = JoinRecord::create(&edit.roster, &edit.outcome, &guest, "guest", &mut OsRng)
            .unwrap_or_else(|_| panic!("a record"));
        let edit = edit
            .roster
            .edit(&keys, now, &mut OsRng, |draft| draft.fold_all(&[record]).remove(0).map(drop))
            .unwrap_or_else(|_| panic!("a joiner"));
        let mut epochs = EpochKeys::new(EpochKey::generate(rng));
        epochs.advance(roster.epoch_key().clone(), 0, now);
        let settings = Settings {
            network: roster.network(),
            intent: Intent::Up,
            coordinator,
            alias: Some("work".into()),
        };
        let membership = Some(Membership { secret: InviteSecret::generate(rng), record: vec![9; 80] });
        let credentials = vec![CredentialIssuer::generate(rng).issue(&[1; 32], month_of(20_000))];
        Contents { keys, roster: edit.roster.state().clone(), epochs, settings, membership, credentials }
    }

    #[test]
    fn whatever_is_stored_is_declared_and_whatever_is_declared_is_stored() {
        let (_tmp, path) = exercised();
        let inventory = declared();
        assert_eq!(undeclared(&path, &inventory).unwrap(), Vec::<String>::new());
        let files = files(&path).unwrap();
        for item in &inventory.item {
            assert!(files.iter().any(|file| matches(&item.place, file)), "not stored: {}", item.place);
        }
    }

    #[test]
    fn a_file_an_address_or_a_second_that_is_not_declared_is_found() {
        let (_tmp, path) = exercised();
        let network = fs::read_dir(path.join("networks")).unwrap().next().unwrap().unwrap().path();
        let keys = fs::read(network.join("keys")).unwrap();
        let stray = |place: &Path, content: &[u8]| {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, content).unwrap();
            let found = undeclared(&path, &declared()).unwrap();
            fs::remove_file(place).unwrap();
            found.len()
        };
        assert_eq!(stray(&network.join("endpoints"), b""), 1);
        assert_eq!(stray(&path.join("networks/log"), b""), 1);
        assert_eq!(stray(&network.join("keys"), &[&keys[..], b" 198.51.100.1"].concat()), 1);
        assert_eq!(stray(&network.join("keys"), &[keys, clock::now().to_be_bytes().to_vec()].concat()), 1);
        fs::create_dir(path.join("spool")).unwrap();
        assert_eq!(undeclared(&path, &declared()).unwrap().len(), 1, "an empty folder");
    }

    #[test]
    fn the_record_tells_of_a_damaged_network_that_its_files_are_there() {
        let (_tmp, path) = exercised();
        let network = fs::read_dir(path.join("networks")).unwrap().next().unwrap().unwrap().path();
        fs::write(network.join("keys"), b"?").unwrap();
        let record = record(&StateDir::open(&path).unwrap()).unwrap();
        for held in record.items.iter().filter(|held| held.item.place.starts_with("networks/")) {
            assert!(held.values.iter().any(|value| value.contains("damaged")), "{}", held.item.place);
        }
    }

    #[test]
    fn the_record_tells_every_item_and_no_secret() {
        let (_tmp, path) = exercised();
        let state = StateDir::open(&path).unwrap();
        let record = record(&state).unwrap();
        assert_eq!(record.undeclared, Vec::<String>::new());
        for held in &record.items {
            assert!(!held.values.is_empty(), "{}: {}", held.item.place, held.item.field);
        }
        let told: String = record.items.iter().flat_map(|held| held.values.clone()).collect();
        for known in [
            "first, ",
            "10.77.0.",
            "name nas",
            "made by first, 2 public keys, 1 left",
            "joined by invite ",
            "generation 1: 1 public key each of first",
            "https://203.0.113.8, 1 public key, STUN on UDP port 3478",
        ] {
            assert!(told.contains(known), "{known}: {told}");
        }
        let (_, contents) = state.networks().unwrap().networks.remove(0);
        let secrets = [contents.keys.wireguard().to_bytes(), contents.keys.identity().to_bytes()];
        for secret in secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!told.contains(&hex));
        }
    }
}
