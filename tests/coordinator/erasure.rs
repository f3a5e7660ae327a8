//! What is deleted is gone from the disk: the raw image is searched for it, free blocks and journals and all.

use std::{
    fs::{self, File},
    io::Write,
};

use proto::{
    coordinator::{Auth, Join, Reason},
    identity::MachineKeys,
    roster::{Draft, Head, JoinRecord, NewInvite, PublicState},
    wire::Wire,
};
use rand_core::{OsRng, RngCore};
use vpnd::coordinator::{Client, Error};

use crate::{
    house::{Network, PASSWORD, name, now, password, refused},
    image::{Image, available, write_and_remove},
    program::{Program, account, command, free_port, json, keys, network},
};

/// Bytes of an image; a journal of the file system takes some of it.
const SIZE: u64 = 24 << 20;

/// What is looked for of a row: bytes from its middle, past what is the same in every row.
const PIECE: usize = 32;

type Needles = Vec<(&'static str, Vec<u8>)>;

#[tokio::test]
async fn a_deleted_account_network_or_invite_and_older_rosters_are_nowhere_on_the_disk() {
    if !available() {
        return;
    }
    let image = Image::mounted(SIZE);
    let (directory, port) = (image.directory(), free_port());
    let program = Program::start(&directory, port).await;
    let goes = random_name("goes");
    let mut needles: Needles = vec![("the account's name", goes.clone().into_bytes())];

    // An account that is to go, with a network that goes with it, and one whose network alone goes.
    let (client, session) = account(&directory, &goes).await;
    let with_account = network(&client, &session).await;
    needles.extend(of_state(with_account.roster.state()));
    let (client, session) = account(&directory, "stays").await;
    let alone = network(&client, &session).await;
    needles.extend(of_state(alone.roster.state()));

    // A network that stays, with older versions, an invite that is revoked, and one that is used up.
    let mut stays = network(&client, &session).await;
    needles.extend(of_header(stays.roster.state()));
    let revoked = invited(&mut stays, &client, &mut needles).await;
    stays.publish(&client, |draft| draft.remove_invite(&revoked.invite)).await;
    let used = invited(&mut stays, &client, &mut needles).await;
    let opened = stays.roster.open_join(&used.record).unwrap_or_else(|_| panic!("a record"));
    needles.extend(of_header(stays.roster.state()));
    let (roster, delta, _) = stays.edit(|draft| draft.fold(&opened));
    client.push(&stays.id(), &stays.member(), delta.to_bytes(), vec![used.id()]).await.unwrap();
    stays.roster = roster;

    // The search can find: the keys of the rows that are there now, and what an ordinary program leaves.
    let control = random_name("control").repeat(8).into_bytes();
    write_and_remove(&image.place().join("control"), &control);
    let url = format!("https://127.0.0.1:{port}").into_bytes();
    let mut controls: Needles = vec![("a removed file", control), ("what is open to see", url)];
    controls.extend(keys(&directory).into_iter().map(|key| ("a key", key)));
    drop(program);
    image.unmount();
    assert_eq!(image.find(&controls), ["a key", "a removed file", "what is open to see"]);
    image.mount();

    // Beside a coordinator that serves, and without one.
    let before = keys(&directory);
    let program = Program::start(&directory, port).await;
    json(&directory, &["accounts", "remove", &goes, "--yes"]);
    let login = refused(client.login(&name(&goes), password(PASSWORD)).await);
    assert!(!matches!(login, Error::Unreachable(_)), "{login}");
    drop(program);
    json(&directory, &["networks", "remove", &alone.id().to_hex(), "--yes"]);
    json(&directory, &["check"]);
    let after = keys(&directory);
    let erased = before.into_iter().filter(|key| !after.contains(key)).map(|key| ("an erased key", key));
    needles.extend(erased);

    image.unmount();
    let found = image.find(&needles);
    assert!(found.is_empty(), "of {} things that are gone the disk still holds: {found:?}", needles.len());
    assert!(needles.iter().any(|(what, _)| *what == "an erased key"));

    // And what is not deleted is all there.
    image.mount();
    let program = Program::start(&directory, port).await;
    let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
    assert!(state == stays.roster.state().to_bytes());
    let state = stays.roster.state();
    assert_eq!(keys(&directory).len(), 2 + state.entries().len() + state.slots().len());
    drop(program);
    println!("{} pieces looked for", needles.len());
}

#[tokio::test]
async fn a_power_cut_takes_back_neither_a_change_nor_an_erasure() {
    if !available() {
        return;
    }
    let image = Image::mounted(SIZE);
    let (directory, port) = (image.directory(), free_port());
    let mut program = Program::start(&directory, port).await;
    let (client, session) = account(&directory, "stays").await;
    let mut stays = network(&client, &session).await;
    drop(session);
    for round in 0..4 {
        // Sessions do not outlive the coordinator.
        let session = client.login(&name("stays"), password(PASSWORD)).await.unwrap();
        let mut needles = of_header(stays.roster.state());
        let before = keys(&directory);
        stays
            .publish(&client, |draft| {
                let id = draft.machines().next().unwrap().id;
                draft.rename_machine(&id, &format!("name-{round}"))
            })
            .await;
        let erased = if round % 2 == 0 {
            let goes = network(&client, &session).await;
            let id = goes.id().to_hex();
            needles.extend(of_state(goes.roster.state()));
            let before = keys(&directory);
            json(&directory, &["networks", "remove", &id, "--yes"]);
            before
        } else {
            before
        };

        let there = keys(&directory);
        let erased = erased.into_iter().filter(|key| !there.contains(key));
        needles.extend(erased.map(|key| ("an erased key", key)));
        assert!(needles.iter().any(|(what, _)| *what == "an erased key"));

        // A change that erases nothing, whose keys nothing else brings to the disk.
        let last = network(&client, &session).await;

        image.cut_power();
        drop(program);
        image.unmount();
        // Before a start could make up for it.
        assert_eq!(image.find(&needles), [""; 0], "in round {round}");
        image.mount();

        program = Program::start(&directory, port).await;
        json(&directory, &["check"]);
        let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
        assert!(state == stays.roster.state().to_bytes(), "in round {round}");
        let state = client.state(&last.id(), &Auth::Member(&last.member())).await.unwrap();
        assert!(state == last.roster.state().to_bytes(), "in round {round}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_changes_loses_nothing_and_lets_what_is_there_be_removed_once_there_is_room() {
    if !available() {
        return;
    }
    let image = Image::mounted(SIZE);
    let (directory, port) = (image.directory(), free_port());
    let program = Program::start(&directory, port).await;
    let (client, session) = account(&directory, "stays").await;
    let stays = network(&client, &session).await;
    let before = keys(&directory).len();
    fill(&image);

    let new = Network::new("https://127.0.0.1");
    // The file system may have some blocks left for one change more.
    let refused = client.create_network(&session, new.roster.state().to_bytes()).await;
    assert!(refused.is_err());
    let enrol = command(&directory, &["enrol"]).output().unwrap();
    let why = String::from_utf8_lossy(&enrol.stderr).into_owned();
    assert!(!enrol.status.success() && why.contains("disk is full"), "{why}");
    let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
    assert!(state == stays.roster.state().to_bytes());

    fs::remove_file(image.place().join("filler")).unwrap();
    File::open(image.place()).unwrap().sync_all().unwrap();
    json(&directory, &["enrol"]);
    client.create_network(&session, new.roster.state().to_bytes()).await.unwrap();
    json(&directory, &["networks", "remove", &new.id().to_hex(), "--yes"]);
    assert_eq!(keys(&directory).len(), before + 1, "a code is more");
    json(&directory, &["check"]);
    drop(program);
}

#[tokio::test]
async fn a_disk_that_can_only_be_read_refuses_changes_loses_nothing_and_is_named_at_the_next_start() {
    if !available() {
        return;
    }
    let image = Image::mounted(SIZE);
    let (directory, port) = (image.directory(), free_port());
    let program = Program::start(&directory, port).await;
    let (client, session) = account(&directory, "stays").await;
    let mut stays = network(&client, &session).await;
    image.fail();

    let (_, delta) = stays.renamed("lost");
    let pushed = client.push(&stays.id(), &stays.member(), delta.to_bytes(), Vec::new()).await;
    let refusal = refused(pushed);
    assert!(matches!(refusal, Error::Refused(Reason::Storage)), "{refusal}");
    let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
    assert!(state == stays.roster.state().to_bytes());
    drop(program);
    let url = format!("https://127.0.0.1:{port}");
    for arguments in
        [&["enrol"][..], &["serve", "--no-relay", "--listen", "127.0.0.1:0", "--public-url", &url]]
    {
        let output = command(&directory, arguments).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && why.contains("can only be read"), "{arguments:?}: {why}");
    }

    image.unmount();
    image.mount();
    let program = Program::start(&directory, port).await;
    json(&directory, &["check"]);
    let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
    assert!(state == stays.roster.state().to_bytes());
    let rename = |draft: &mut Draft<'_>| {
        let id = draft.machines().next().unwrap().id;
        draft.rename_machine(&id, "goes-on")
    };
    stays.publish(&client, rename).await;
    drop(program);
}

/// Writes until nothing more goes in.
fn fill(image: &Image) {
    let mut filler = File::create(image.place().join("filler")).unwrap();
    for piece in [1 << 20, 1 << 12, 1] {
        while filler.write_all(&vec![7; piece]).is_ok() && filler.sync_all().is_ok() {}
    }
}

/// Makes an invite, and a record that uses it; notes what is to be gone once the invite is.
async fn invited(network: &mut Network, client: &Client, needles: &mut Needles) -> Join {
    let before = network.roster.state().clone();
    let new = NewInvite { name: None, uses: 1, expires: now() + 3600, groups: Vec::new() };
    let secret = network.publish(client, |draft| draft.add_invite(new)).await;
    let state = network.roster.state();
    needles.push(("an invite's public key", secret.signing().verifying_key().to_bytes().to_vec()));
    needles.push(("an invite's id", secret.id().0.to_vec()));
    needles.extend(of_header(&before));
    let rows = of_rows(state);
    let older = of_rows(&before);
    needles.extend(rows.into_iter().filter(|row| !older.contains(row)));
    let machine = MachineKeys::generate(&mut OsRng);
    let record = JoinRecord::create(&network.roster, &secret, &machine, "joiner", &mut OsRng);
    let record = record.unwrap_or_else(|_| panic!("a record"));
    let join = Join { invite: secret.id(), record: network.roster.seal_join(&record, &mut OsRng) };
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    client.append_join(&network.id(), &auth, &join).await.unwrap();
    needles.push(("a join record", piece(&join.record)));
    needles.push(("a join record's hash", join.id().to_vec()));
    join
}

/// Everything of a network.
fn of_state(state: &PublicState) -> Needles {
    let mut needles = vec![("a network's id", state.header().network.0.to_vec())];
    needles.extend(of_header(state));
    needles.extend(of_rows(state));
    needles
}

/// What only this version of a network has.
fn of_header(state: &PublicState) -> Needles {
    let head = state.head.to_bytes();
    assert!(Head::from_bytes(&head).is_ok());
    vec![("a header's signature", head[head.len() - PIECE..].to_vec())]
}

fn of_rows(state: &PublicState) -> Needles {
    let entries = state.entries().iter();
    let entries = entries
        .flat_map(|entry| [("an entry", piece(&entry.to_bytes())), ("an entry's id", entry.id.0.to_vec())]);
    let slots = state.slots().iter();
    let slots = slots.flat_map(|key| [("a sealed key", piece(&key.sealed)), ("a slot", key.slot.0.to_vec())]);
    entries.chain(slots).collect()
}

fn piece(bytes: &[u8]) -> Vec<u8> {
    let from = bytes.len() - PIECE;
    bytes[from..].to_vec()
}

fn random_name(text: &str) -> String {
    format!("{text}-{:016x}", OsRng.next_u64())
}
