//! Every format of the state directory, as the version that introduced it wrote it: `vpnd/tests/formats/N`.
//!
//! Whoever changes what is stored meets these tests: a directory of each format must still be read, and what is read of the
//! present one must be written again byte for byte. Another way of writing is another format: add a step to
//! [`STEPS`], write the new fixture (`TACET_WRITE_FORMAT=1` and this test), and leave those of before alone.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use proto::{
    epoch::EpochKeys,
    identity::Pin,
    relay::{Credential, CredentialIssuer},
    roster::{JoinRecord, Roster},
    wire::Wire,
};
use rand_core::OsRng;

use super::{
    Contents, Coordinator, Intent, Membership, Settings, StateDir,
    migrate::{STEPS, newest},
};
use crate::network::sample;

fn fixture(format: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format.to_string())
}

/// Copies a folder, for its owner alone: git does not keep that.
fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &there);
        } else {
            fs::copy(path, &there).unwrap();
            fs::set_permissions(there, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn coordinator() -> Coordinator {
    Coordinator { url: "https://c.example".into(), pin: Some(Pin([7; 32])) }
}

/// A directory with every file that there can be.
fn write(path: &Path) {
    let state = StateDir::open(path).unwrap();
    state.set_account(&coordinator()).unwrap();
    let (roster, keys, secret) = sample::network(1);
    let issuer = CredentialIssuer::generate(&mut OsRng);
    let contents = Contents {
        epochs: EpochKeys::new(roster.epoch_key().clone()),
        membership: Some(Membership { record: sample::record(&roster, &secret).to_bytes(), secret }),
        roster: roster.state().clone(),
        settings: Settings {
            network: roster.network(),
            intent: Intent::Down,
            coordinator: coordinator(),
            alias: Some("work".into()),
        },
        keys,
        credentials: [680, 681].map(|month| issuer.issue(&roster.network().0, month)).into(),
    };
    state.prepare(&contents).unwrap().commit().unwrap();
    fs::remove_file(path.join("lock")).unwrap();
}

#[test]
fn a_directory_of_every_format_that_there_was_is_read() {
    let present = fixture(newest(STEPS));
    if std::env::var_os("TACET_WRITE_FORMAT").is_some() && !present.exists() {
        fs::create_dir_all(present.parent().unwrap()).unwrap();
        write(&present);
    }
    for format in 1..=newest(STEPS) {
        assert!(fixture(format).exists(), "format {format} has no fixture");
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state");
        copy(&fixture(format), &path);

        let state = StateDir::open(&path).unwrap();

        assert!(state.account().unwrap() == Some(coordinator()), "format {format}");
        let stored = state.networks().unwrap();
        assert_eq!((stored.networks.len(), stored.damaged.len()), (1, 0), "format {format}");
        let contents = &stored.networks[0].1;
        let settings = &contents.settings;
        assert!(settings.intent == Intent::Down && settings.coordinator == coordinator(), "format {format}");
        assert_eq!(settings.alias.as_deref(), Some("work"));
        let key = contents.epochs.present().clone();
        let roster = Roster::open(contents.roster.clone(), key, &settings.network).unwrap();
        assert_eq!(roster.name(), "home");
        let machine = roster.machines().next().unwrap();
        assert!(machine.name == "first" && machine.identity == contents.keys.public(), "format {format}");
        let membership = contents.membership.as_ref().unwrap();
        assert!(JoinRecord::from_bytes(&membership.record).is_ok(), "format {format}");
        assert_eq!(contents.credentials.iter().map(Credential::month).collect::<Vec<_>>(), [680, 681]);
    }
}

#[test]
fn what_is_written_today_is_the_present_format_byte_for_byte() {
    let fixture = fixture(newest(STEPS));
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("state");
    copy(&fixture, &path);
    let state = StateDir::open(&path).unwrap();
    state.set_account(&state.account().unwrap().unwrap()).unwrap();
    let (folder, contents) = state.networks().unwrap().networks.remove(0);
    let here = folder.path().strip_prefix(&path).unwrap();
    let there = fixture.join(here);
    let files = contents.files();
    assert_eq!(files.len(), fs::read_dir(&there).unwrap().count());
    for (name, bytes) in files {
        assert!(
            fs::read(there.join(name)).unwrap() == *bytes,
            "{name} is written in another way than it was"
        );
    }
    for name in ["account", "format"] {
        assert!(fs::read(fixture.join(name)).unwrap() == fs::read(path.join(name)).unwrap(), "{name}");
    }
}
