//! One network's folder.

use std::path::Path;

use proto::{
    epoch::EpochKeys,
    identity::{MachineKeys, NetworkId},
    relay::Credential,
    roster::{InviteSecret, PublicState, Roster, RosterError, valid_name},
    wire::{Reader, Wire, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{Coordinator, Folder, StateError, folder::Retired};

/// Longest join record that is kept: what the coordinator takes.
const MAX_RECORD: usize = 16 << 10;

/// Credentials kept: this month, the next two, and one that has just ended.
const MAX_CREDENTIALS: usize = 4;

/// The optional field of the settings that holds the alias.
const ALIAS: u8 = 1;

const KEYS: &str = "keys";
const ROSTER: &str = "roster";
const SETTINGS: &str = "settings";
const MEMBERSHIP: &str = "membership";
const CREDENTIALS: &str = "credentials";

/// Where one network's state is kept.
pub struct NetworkFolder(Folder);

/// All that is kept of one network.
pub struct Contents {
    /// The machine's keys.
    pub keys: MachineKeys,
    /// The last roster, sealed.
    pub roster: PublicState,
    /// The keys that open it, and those of epochs that ended in the last month.
    pub epochs: EpochKeys,
    /// The rest.
    pub settings: Settings,
    /// How the machine joined, while no signer has folded it in.
    pub membership: Option<Membership>,
    /// Admission to the relays.
    pub credentials: Vec<Credential>,
}

/// What the person at this machine decided.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The network.
    pub network: NetworkId,
    /// Up or down.
    pub intent: Intent,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// The name by which this machine knows it, if it is not the network's own.
    pub alias: Option<String>,
}

/// Whether a network is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Up, at every start.
    Up,
    /// A member still, but not connected.
    Down,
}

/// A membership that stands on an invite alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// The invite's secret: epochs to come are sealed to it until the machine is folded in.
    pub secret: InviteSecret,
    /// The join record, as signed.
    pub record: Vec<u8>,
}

impl Contents {
    /// The files of a new network's folder.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, Zeroizing<Vec<u8>>)> {
        let mut files = vec![
            (KEYS, Zeroizing::new(self.keys.to_bytes())),
            (ROSTER, roster_file(&self.roster, &self.epochs)),
            (SETTINGS, Zeroizing::new(self.settings.to_bytes())),
        ];
        if let Some(membership) = &self.membership {
            files.push((MEMBERSHIP, Zeroizing::new(membership.to_bytes())));
        }
        if !self.credentials.is_empty() {
            files.push((CREDENTIALS, credentials_file(&self.credentials)));
        }
        files
    }
}

impl NetworkFolder {
    /// The network kept in `folder`.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        Self(folder)
    }

    /// The network kept at `path`.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Folder::open(path).map(Self)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its name, as far as that can be read, whatever else cannot.
    pub(super) fn name(&self) -> Option<String> {
        let settings = self.0.read(SETTINGS).ok().flatten().and_then(|b| Settings::from_bytes(&b).ok());
        if let Some(alias) = settings.and_then(|settings| settings.alias) {
            return Some(alias);
        }
        let (state, epochs) = read_roster(&self.0.read(ROSTER).ok()??).ok()?;
        let network = state.header().network;
        Some(Roster::open(state, epochs.present().clone(), &network).ok()?.name().to_owned())
    }

    /// Removes what an interrupted change left here.
    pub(super) fn remove_unfinished(&self) -> Result<(), StateError> {
        self.0.remove_unfinished()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// [`StateError`]: unreadable, damaged, or of a newer version.
    pub fn load(&self) -> Result<Contents, StateError> {
        let parsing = |file| move |e: WireError| StateError::parsing(&e, &self.0.file(file));
        let keys = MachineKeys::from_bytes(&self.need(KEYS)?).map_err(parsing(KEYS))?;
        let (roster, epochs) = read_roster(&self.need(ROSTER)?).map_err(parsing(ROSTER))?;
        let settings = Settings::from_bytes(&self.need(SETTINGS)?).map_err(parsing(SETTINGS))?;
        let membership = self.0.read(MEMBERSHIP)?;
        let membership =
            membership.map(|b| Membership::from_bytes(&b).map_err(parsing(MEMBERSHIP))).transpose()?;
        let credentials = match self.0.read(CREDENTIALS)? {
            None => Vec::new(),
            Some(b) => read_credentials(&b).map_err(parsing(CREDENTIALS))?,
        };
        Ok(Contents { keys, roster, epochs, settings, membership, credentials })
    }

    /// What it means that the roster was read and does not open.
    pub(crate) fn unopened(&self, error: &RosterError) -> StateError {
        match error {
            RosterError::Format(e) => StateError::parsing(e, &self.0.file(ROSTER)),
            _ => StateError::Damaged(self.0.file(ROSTER)),
        }
    }

    /// What it means that some of this machine's keys are those of a machine of the roster, and others are not.
    pub(crate) fn mixed_keys(&self) -> StateError {
        StateError::Damaged(self.0.file(KEYS))
    }

    /// What it means that the record of how the machine joined does not read.
    pub(crate) fn unreadable_record(&self, error: &WireError) -> StateError {
        StateError::parsing(error, &self.0.file(MEMBERSHIP))
    }

    /// Keeps a newer roster with the keys that open it.
    ///
    /// # Errors
    /// [`StateError`]; the older one stands.
    pub fn save_roster(&self, roster: &PublicState, epochs: &EpochKeys) -> Result<(), StateError> {
        self.0.replace(ROSTER, &roster_file(roster, epochs))
    }

    /// Keeps what the person decided.
    ///
    /// # Errors
    /// [`StateError`]; the older decision stands.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), StateError> {
        self.0.replace(SETTINGS, &settings.to_bytes())
    }

    /// Forgets the invite: a signer has folded the machine in.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget_membership(&self) -> Result<(), StateError> {
        self.0.remove(MEMBERSHIP)
    }

    /// Keeps the admission credentials.
    ///
    /// # Errors
    /// [`StateError`]; the older ones stand.
    pub fn save_credentials(&self, credentials: &[Credential]) -> Result<(), StateError> {
        self.0.replace(CREDENTIALS, &credentials_file(credentials))
    }

    /// Gives the network up: it is not there any more at the next start.
    ///
    /// # Errors
    /// [`StateError`]; it stands then.
    pub fn retire(&self) -> Result<Retired, StateError> {
        self.0.retire()
    }

    fn need(&self, file: &'static str) -> Result<Zeroizing<Vec<u8>>, StateError> {
        self.0.read(file)?.ok_or_else(|| StateError::Damaged(self.0.file(file)))
    }
}

/// Version, the epoch keys as a byte string, the sealed roster to the end.
fn roster_file(roster: &PublicState, epochs: &EpochKeys) -> Zeroizing<Vec<u8>> {
    let mut w = Writer::new();
    w.version(1);
    w.bytes(&Zeroizing::new(epochs.to_bytes()));
    w.bytes(&roster.to_bytes());
    Zeroizing::new(w.finish())
}

fn read_roster(bytes: &[u8]) -> Result<(PublicState, EpochKeys), WireError> {
    let mut r = Reader::new(bytes);
    r.version(1)?;
    let epochs = EpochKeys::from_bytes(r.bytes(usize::MAX)?)?;
    let roster = PublicState::from_bytes(r.bytes(usize::MAX)?)?;
    skip_optional(&mut r)?;
    Ok((roster, epochs))
}

/// Version, list of credentials.
fn credentials_file(credentials: &[Credential]) -> Zeroizing<Vec<u8>> {
    let mut w = Writer::new();
    w.version(1);
    w.list(&credentials[..credentials.len().min(MAX_CREDENTIALS)], |w, credential| credential.encode(w));
    Zeroizing::new(w.finish())
}

fn read_credentials(bytes: &[u8]) -> Result<Vec<Credential>, WireError> {
    let mut r = Reader::new(bytes);
    r.version(1)?;
    let credentials = r.list(MAX_CREDENTIALS, Credential::decode)?;
    skip_optional(&mut r)?;
    Ok(credentials)
}

/// Version, network, intent (1 up, 0 down), coordinator; optional: 1 alias.
impl Wire for Settings {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        self.network.encode(w);
        w.u8(u8::from(self.intent == Intent::Up));
        self.coordinator.encode(w);
        if let Some(alias) = &self.alias {
            w.optional(ALIAS, alias.as_bytes());
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let network = NetworkId::decode(r)?;
        let intent = match r.u8()? {
            0 => Intent::Down,
            1 => Intent::Up,
            _ => return Err(WireError::Invalid("intent")),
        };
        let coordinator = Coordinator::decode(r)?;
        let mut alias = None;
        while let Some((tag, bytes)) = r.optional()? {
            if tag == ALIAS {
                let text = std::str::from_utf8(bytes).ok().filter(|text| valid_name(text));
                alias = Some(text.ok_or(WireError::Invalid("alias"))?.to_owned());
            }
        }
        Ok(Self { network, intent, coordinator, alias })
    }
}

/// Version, the invite's secret, the record.
impl Wire for Membership {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        self.secret.encode(w);
        w.bytes(&self.record);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (secret, record) = (InviteSecret::decode(r)?, r.bytes(MAX_RECORD)?.to_vec());
        skip_optional(r)?;
        Ok(Self { secret, record })
    }
}

/// A field that a later version added is not ours to judge.
fn skip_optional(r: &mut Reader<'_>) -> Result<(), WireError> {
    while r.optional()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{network::sample, state::StateDir};

    #[test]
    fn what_is_kept_of_a_network_reads_back() {
        let (_tmp, state, contents) = network();
        let folder = NetworkFolder::new(state.prepare(&contents).unwrap().commit().unwrap());
        let back = folder.load().unwrap();
        assert!(back.keys.to_bytes() == contents.keys.to_bytes());
        assert!(back.roster == contents.roster && back.epochs.to_bytes() == contents.epochs.to_bytes());
        assert!(back.settings == contents.settings && back.membership == contents.membership);

        folder.save_settings(&Settings { intent: Intent::Down, ..back.settings }).unwrap();
        folder.forget_membership().unwrap();
        let listed = state.networks().unwrap().networks;
        assert_eq!(listed.len(), 1);
        assert!(listed[0].1.settings.intent == Intent::Down && listed[0].1.membership.is_none());
    }

    #[test]
    fn a_file_that_is_cut_is_damaged_and_one_from_the_future_is_newer() {
        let (_tmp, state, contents) = network();
        let folder = NetworkFolder::new(state.prepare(&contents).unwrap().commit().unwrap());
        let roster = roster_file(&contents.roster, &contents.epochs);

        folder.0.replace(ROSTER, &roster[..roster.len() - 1]).unwrap();
        assert_eq!(folder.load().err(), Some(StateError::Damaged(folder.0.file(ROSTER))));

        let mut future = roster.to_vec();
        future[0] = 9;
        folder.0.replace(ROSTER, &future).unwrap();
        assert_eq!(folder.load().err(), Some(StateError::NewerFile(folder.0.file(ROSTER))));

        folder.0.replace(ROSTER, &roster).unwrap();
        assert!(folder.load().is_ok());
        folder.0.remove(KEYS).unwrap();
        assert_eq!(folder.load().err(), Some(StateError::Damaged(folder.0.file(KEYS))));
    }

    #[test]
    fn a_damaged_network_is_named_keeps_no_other_from_being_read_and_is_left_as_it_is() {
        let (_tmp, state, contents) = network();
        let keep = |contents: &Contents| state.prepare(contents).unwrap().commit().unwrap();
        let folder = keep(&contents);
        let (_other_tmp, _, other) = network();
        keep(&other);
        for file in [KEYS, ROSTER, SETTINGS, MEMBERSHIP] {
            let good = folder.read(file).unwrap().unwrap();
            let bad = &good[..good.len() / 2];
            folder.replace(file, bad).unwrap();
            let stored = state.networks().unwrap();
            assert_eq!((stored.networks.len(), stored.damaged.len()), (1, 1), "{file}");
            let damaged = &stored.damaged[0];
            assert_eq!(damaged.folder(), state.network(&contents.settings.network));
            assert!(damaged.why().contains(folder.file(file).to_str().unwrap()), "{}", damaged.why());
            assert!(damaged.next().contains(folder.path().to_str().unwrap()), "{}", damaged.next());
            assert_eq!(damaged.name(), if file == SETTINGS { "home" } else { "work" });
            assert!(*folder.read(file).unwrap().unwrap() == *bad, "changed");
            folder.replace(file, &good).unwrap();
        }
        assert_eq!(state.networks().unwrap().networks.len(), 2);

        for file in [ROSTER, SETTINGS] {
            folder.replace(file, b"").unwrap();
        }
        let digits = &folder.path().file_name().unwrap().to_str().unwrap()[..8];
        assert_eq!(state.networks().unwrap().damaged[0].name(), digits);
    }

    #[test]
    fn a_copy_of_a_network_under_another_name_is_no_network() {
        let (_tmp, state, contents) = network();
        let folder = state.prepare(&contents).unwrap().commit().unwrap();
        let copy = state.path().join("networks/copy");
        std::fs::rename(folder.path(), &copy).unwrap();
        state.prepare(&contents).unwrap().commit().unwrap();
        let stored = state.networks().unwrap();
        assert_eq!((stored.networks.len(), stored.damaged.len()), (1, 1));
        assert!(stored.damaged[0].why().contains(copy.to_str().unwrap()), "{}", stored.damaged[0].why());
    }

    #[test]
    fn an_unknown_optional_field_of_a_file_is_passed_over() {
        let (_tmp, _, contents) = network();
        let mut w = Writer::new();
        contents.settings.encode(&mut w);
        w.optional(77, b"from a later version");
        assert!(Settings::from_bytes(&w.finish()).is_ok_and(|read| read == contents.settings));
    }

    fn network() -> (tempfile::TempDir, StateDir, Contents) {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("state")).unwrap();
        let (roster, keys, secret) = sample::network(1);
        let contents = Contents {
            epochs: EpochKeys::new(roster.epoch_key().clone()),
            roster: roster.state().clone(),
            settings: Settings {
                network: roster.network(),
                intent: Intent::Up,
                coordinator: Coordinator { url: "https://c.example".into(), pin: None },
                alias: Some("work".into()),
            },
            keys,
            membership: Some(Membership { secret, record: vec![1, 2] }),
            credentials: Vec::new(),
        };
        (tmp, state, contents)
    }
}
