//! Test vectors: what other programs, and later versions of this one, must compute and read.
//!
//! Each file in `vectors/` holds inputs and outputs in hexadecimal. A test recomputes the outputs from the inputs and
//! reads them back. Where randomness goes in, it is the stream of [`cast::Repeatable`]. After a deliberate change of a
//! format (and of its version byte), `TACET_WRITE_VECTORS=1 cargo test -p proto --test vectors` writes them anew.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cast;

use std::{env, fs, path::PathBuf};

use cast::{NOW, Repeatable, relay};
use data_encoding::HEXLOWER;
use proto::{
    beacon::Beacon,
    epoch::{EpochKey, EpochKeys, slot},
    identity::{MachineKeys, NetworkId, Pin, RootKeys, RootSeed},
    introduction::{INITIATION, Introduction},
    metadata::{Endpoint, InnerNet},
    roster::{Delta, Floor, InviteSecret, JoinRecord, NewInvite, NewNetwork, Order, PublicState, Roster},
    seal::{SealingSecret, derive, hash, lock, open, seal, unlock},
    token::{EnrolCode, EnrolToken, InviteToken, RecoveryKey, Token},
    wire::Wire,
};
use serde_json::{Map, Value};

#[test]
fn hashes_derivations_and_seals() {
    let mut v = Vector::of("seal");
    let key: [u8; 32] = v.given("key", &[0x11; 32]);
    v.is("hash", &hash("example", &[b"first", b"second"]));
    v.is("derived", &derive(&key, "example", b"context")[..]);
    let locked = lock(&key, b"aad", b"content", &mut Repeatable::new(1));
    v.is("locked", &locked);
    assert_eq!(&unlock(&key, b"aad", &v.stored("locked")).unwrap()[..], b"content");

    let secret = SealingSecret::from_seed(v.given("sealing secret", &[0x22; 32]));
    v.is("sealing public", secret.public().as_bytes());
    v.is("sealed", &seal(&secret.public(), b"info", b"aad", b"content", &mut Repeatable::new(2)));
    assert_eq!(&open(&secret, b"info", b"aad", &v.stored("sealed")).unwrap()[..], b"content");
    v.done();
}

#[test]
fn identities() {
    let mut v = Vector::of("identity");
    let keys = MachineKeys::generate(&mut Repeatable::new(3));
    v.is("machine keys", &keys.to_bytes());
    v.is("machine identity", &keys.public().to_bytes());
    assert!(MachineKeys::from_bytes(&v.stored("machine keys")).unwrap().public() == keys.public());
    let root = RootKeys::from_seed(&RootSeed(v.given("root seed", &[0x33; 32])));
    v.is("root public", &root.public().to_bytes());
    v.is("network", &root.public().network_id().0);
    let invite = InviteSecret::from_bytes(&v.given::<32>("invite secret", &[0x44; 32])).unwrap();
    v.is("invite id", &invite.id().0);
    v.is("invite key", invite.signing().verifying_key().as_bytes());
    v.is("invite sealing", invite.sealing().public().as_bytes());
    v.done();
}

#[test]
fn epochs() {
    let mut v = Vector::of("epoch");
    let key = EpochKey::from_bytes(&v.given::<32>("epoch key", &[0x55; 32])).unwrap();
    v.is("name", &key.name().0);
    v.is("roster key", key.roster_key().as_bytes());
    v.is("mailbox key", &key.mailbox_key()[..]);
    v.is("beacon key", &key.beacon_key()[..]);
    v.is("member key", key.member_key().verifying_key().as_bytes());
    v.is("pre-shared key of 01… and 02…", &key.pairing_psk(&[1; 32], &[2; 32])[..]);
    let secret = SealingSecret::from_seed([0x22; 32]);
    v.is("slot", &slot(&secret.public(), &key.name()).0);
    let network = NetworkId([0x66; 32]);
    v.is("sealed epoch key", &key.seal_to(&secret.public(), &network, &mut Repeatable::new(4)));
    assert!(
        EpochKey::open(&secret, &network, &key.name(), &v.stored("sealed epoch key")) == Some(key.clone())
    );
    let mut keys = EpochKeys::new(key);
    keys.advance(EpochKey::from_bytes(&[0x56; 32]).unwrap(), 4, NOW);
    v.is("epoch keys", &keys.to_bytes());
    let mut without_numbers = keys.to_bytes();
    without_numbers.truncate(without_numbers.len() - 8);
    without_numbers[0] = 1;
    v.is("epoch keys, version 1", &without_numbers);
    assert!(EpochKeys::from_bytes(&v.stored("epoch keys, version 1")).unwrap().present() == keys.present());
    assert!(EpochKeys::from_bytes(&v.stored("epoch keys")).unwrap().to_bytes() == keys.to_bytes());
    v.done();
}

#[test]
fn beacons() {
    let mut v = Vector::of("beacon");
    let key = v.given::<32>("beacon key", &[0x77; 32]);
    for (n, (what, from, wanted)) in (5..).zip([
        ("looking for two machines, over IPv4", "192.168.1.20:51820", vec![[1; 8], [2; 8]]),
        ("looking for nobody, over IPv6", "[fd00::20]:51821", vec![]),
    ]) {
        let from = Endpoint(from.parse().unwrap());
        let beacon = Beacon { time: NOW, from, sender: [0x78; 32], wanted };
        v.is(what, &beacon.seal(&key, &mut Repeatable::new(n)));
        assert!(Beacon::open(&v.stored(what), &key) == Some(beacon), "{what}");
    }
    v.done();
}

#[test]
fn tokens() {
    let mut v = Vector::of("token");
    let url = "https://vpn.example.org".to_owned();
    let (pin, network) = (Some(Pin([0x77; 32])), NetworkId([0x66; 32]));
    let floor = Floor { order: Order { recovery: 0, generation: 2, version: 9 }, header: [0x88; 32] };
    let secret = InviteSecret::from_bytes(&[0x44; 32]).unwrap();
    let invite = InviteToken { url: url.clone(), pin, network, floor, secret };
    let enrol = EnrolToken { url: url.clone(), pin: None, code: EnrolCode(vec![0x99; 16]) };
    let paper = RecoveryKey { url, pin, network, seed: RootSeed([0x33; 32]) };
    v.text("invite", &invite.to_text());
    v.text("enrol", &enrol.to_text());
    v.text("recovery", &paper.to_text());
    assert!(InviteToken::from_text(&v.stored_text("invite")) == Ok(invite));
    assert!(EnrolToken::from_text(&v.stored_text("enrol")) == Ok(enrol));
    assert!(RecoveryKey::from_text(&v.stored_text("recovery")) == Ok(paper));
    v.done();
}

#[test]
fn rosters() {
    let mut v = Vector::of("roster");
    let rng = &mut Repeatable::new(5);
    let (keys, joiner) = (MachineKeys::generate(rng), MachineKeys::generate(rng));
    v.is("founder's keys", &keys.to_bytes());
    let new = NewNetwork {
        name: "home".into(),
        machine_name: "server".into(),
        keys: &keys,
        coordinator: "https://vpn.example.org".into(),
        pin: Some(Pin([0x77; 32])),
        relays: vec![relay(1)],
        ipv4: InnerNet::new("10.71.0.0".parse().unwrap(), 16).unwrap(),
    };
    let (first, paper) = Roster::create(new, NOW, rng).unwrap();
    v.text("recovery key", &paper.to_text());
    v.is("epoch key", &first.epoch_key().to_bytes());
    v.is("first state", &first.state().to_bytes());

    let one_use = NewInvite { name: None, uses: 1, expires: NOW + 1, groups: vec!["guests".into()] };
    let invited = first.edit(&keys, NOW, rng, |draft| draft.add_invite(one_use)).unwrap();
    v.is("invite added", &invited.delta.to_bytes());
    let record = JoinRecord::create(&invited.roster, &invited.outcome, &joiner, "laptop", rng).unwrap();
    v.is("join record", &record.to_bytes());
    v.is("join record, sealed", &invited.roster.seal_join(&record, rng));
    let introduction = Introduction::new(&invited.roster, &record, &[0xaa; INITIATION]).unwrap();
    v.is("introduction", &introduction.to_bytes());
    v.is("introduction, sealed", &introduction.seal(first.epoch_key(), rng).unwrap());
    let folded = invited.roster.edit(&keys, NOW, rng, |draft| draft.fold(&record)).unwrap();
    v.is("joiner folded", &folded.delta.to_bytes());
    let renewed = folded
        .roster
        .edit(&keys, NOW, rng, |draft| {
            draft.new_epoch();
            let all: Vec<_> = draft.machines().map(|machine| machine.id).collect();
            draft.set_signers(&all)
        })
        .unwrap();
    v.is("new epoch and generation", &renewed.delta.to_bytes());
    v.is("last state", &renewed.roster.state().to_bytes());
    v.is("last header's hash", &renewed.roster.head().header.hash());

    // From here on only what is stored counts.
    let keys = MachineKeys::from_bytes(&v.stored("founder's keys")).unwrap();
    let network = RecoveryKey::from_text(&v.stored_text("recovery key")).unwrap().network;
    let state = PublicState::from_bytes(&v.stored("first state")).unwrap();
    let mut roster = Roster::open(state.clone(), state.open_key(keys.sealing()).unwrap(), &network).unwrap();
    let introduction =
        Introduction::open(&v.stored("introduction, sealed"), &network, roster.epoch_key()).unwrap();
    assert!(introduction.to_bytes() == v.stored("introduction"));
    assert_eq!(introduction.check(&roster).unwrap().name, "laptop");
    for delta in ["invite added", "joiner folded", "new epoch and generation"] {
        let delta = Delta::from_bytes(&v.stored(delta)).unwrap();
        roster = roster.apply(&delta, delta.open_key(keys.sealing())).unwrap();
        if roster.invites().next().is_some() {
            let sealed = v.stored("join record, sealed");
            assert!(roster.open_join(&sealed).unwrap().to_bytes() == v.stored("join record"));
        }
    }
    assert!(roster.state().to_bytes() == v.stored("last state"));
    let names: Vec<_> = ["server", "laptop"].map(|name| roster.machine_by_name(name).is_some()).into();
    assert_eq!(names, [true, true]);
    assert_eq!(roster.head().chain.generations().len(), 2);
    v.done();
}

/// One file of vectors.
struct Vector {
    path: PathBuf,
    stored: Map<String, Value>,
    computed: Map<String, Value>,
    writing: bool,
}

impl Vector {
    fn of(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{name}.json"));
        let writing = env::var_os("TACET_WRITE_VECTORS").is_some();
        let stored = if writing {
            Map::new()
        } else {
            serde_json::from_str(&fs::read_to_string(&path).expect("the vectors are in the tree")).unwrap()
        };
        Self { path, stored, computed: Map::new(), writing }
    }

    /// An input.
    fn given<const N: usize>(&mut self, name: &str, bytes: &[u8; N]) -> [u8; N] {
        self.is(name, bytes);
        self.stored(name).try_into().unwrap()
    }

    /// An output.
    fn is(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, &HEXLOWER.encode(bytes));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.computed.insert(name.into(), text.into());
        if self.writing {
            self.stored.insert(name.into(), text.into());
        }
        assert_eq!(self.stored.get(name), self.computed.get(name), "{name}");
    }

    fn stored(&self, name: &str) -> Vec<u8> {
        HEXLOWER.decode(self.stored_text(name).as_bytes()).unwrap()
    }

    fn stored_text(&self, name: &str) -> String {
        self.stored[name].as_str().unwrap().to_owned()
    }

    fn done(self) {
        if self.writing {
            let text = serde_json::to_string_pretty(&self.computed).unwrap();
            fs::create_dir_all(self.path.parent().unwrap()).unwrap();
            fs::write(&self.path, text + "\n").unwrap();
        }
        assert_eq!(self.stored.len(), self.computed.len(), "a vector that nobody computes");
    }
}
