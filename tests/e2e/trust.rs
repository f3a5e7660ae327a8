//! Who is taken out: removal, revocation, leaving.

use std::{fs, time::Duration};

use tests::{Lab, wait};

use crate::world::{FIRST_ANSWER, THREE, THREE_HOSTS, World};

/// For a change to reach a machine that watches the coordinator, and for its data path to follow.
const AT_ONCE: Duration = Duration::from_secs(3);

#[test]
fn a_removed_machine_is_cut_off_everywhere_says_so_and_stays_out() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let [cloud, flat] = ["cloud-1", "flat-1"].map(|name| world.node(name).address("ipv4").unwrap());
    let home = world.node("home-1").address("ipv4").unwrap();

    let said = world.node("flat-1").vpnctl(&["machines", "remove", "home-1", "--yes"]).unwrap();
    assert_eq!(said.code, 5, "only a signer may: {}", said.text);
    let said = world.node("cloud-1").vpnctl(&["machines", "remove", "cloud-1", "--yes"]).unwrap();
    assert_eq!(said.code, 2, "not itself: {}", said.text);
    assert_eq!(world.node("cloud-1").vpnctl(&["machines", "remove", "nobody", "--yes"]).unwrap().code, 2);
    let epoch = world.node("cloud-1").status().unwrap()["epoch"].as_u64().unwrap();

    world.node("cloud-1").ask(&["machines", "remove", "home-1", "--yes"]).unwrap();
    wait::until("home-1 knows that it was removed", AT_ONCE, || {
        world.node("home-1").status().is_ok_and(|status| status["state"] == "removed")
    })
    .unwrap();
    let up = world.node("home-1").vpnctl(&["up"]).unwrap();
    assert_eq!((up.code, &up.json["networks"][0]["state"]), (1, &"removed".into()), "{}", up.text);
    wait::until("flat-1 knows home-1 no more", AT_ONCE, || world.node("flat-1").peer("home-1").is_err())
        .unwrap();
    for _ in 0..3 {
        assert!(!world.node("home-1").pings(&cloud) && !world.node("home-1").pings(&flat));
    }
    for name in ["cloud-1", "flat-1"] {
        assert!(!world.node(name).pings(&home), "{name} sends to it still");
        let status = world.node(name).status().unwrap();
        assert_eq!((status["epoch"].as_u64(), &status["state"]), (Some(epoch + 1), &"up".into()));
    }
    world.node("flat-1").reaches(&cloud, AT_ONCE).unwrap();

    // What it kept opens nothing either. It starts while nobody can tell it, and complains of nothing else once it is told.
    world.node_mut("home-1").kill();
    world.coordinator.kill();
    world.node_mut("home-1").start_again().unwrap();
    wait::until("home-1 misses the coordinator", wait::SOON, || {
        let status = world.node("home-1").status().unwrap_or_default();
        status["warnings"].as_array().is_some_and(|all| all.contains(&"coordinator_unreachable".into()))
    })
    .unwrap();
    world.coordinator.start_again().unwrap();
    wait::until("home-1 is told once more", wait::SOON, || {
        world.node("home-1").status().is_ok_and(|status| {
            status["state"] == "removed"
                && !status["warnings"].to_string().contains("coordinator_unreachable")
        })
    })
    .unwrap();
    assert!(!world.node("home-1").pings(&cloud) && !world.node("home-1").pings(&flat));
    let said = world.node("home-1").vpnctl(&["machines", "rename", "flat-1", "mine"]).unwrap();
    assert_eq!(said.code, 5, "{}", said.text);
}

#[test]
fn a_revoked_invite_lets_nobody_in_and_whom_it_let_in_stays() {
    let world = World::of(Lab::alone(THREE).unwrap(), &["cloud-1", "home-1"]);
    let signer = world.node("cloud-1");
    let made = signer.ask(&["invite", "create", "--uses", "3"]).unwrap();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let flat = crate::world::fresh(&world.lab.host("flat-1"));
    flat.join(token).unwrap();
    wait::until("flat-1 is taken in", wait::SOON, || {
        signer.ask(&["machines", "list"]).is_ok_and(|list| {
            let machines = list["machines"].as_array().unwrap();
            machines.len() == 3 && machines.iter().all(|machine| machine["provisional"] == false)
        })
    })
    .unwrap();

    assert_eq!(world.node("home-1").vpnctl(&["invite", "revoke", id]).unwrap().code, 5);
    let said = signer.ask(&["invite", "revoke", &id[..8]]).unwrap();
    assert_eq!((&said["id"], &said["taken_in"], &said["dropped"]), (&id.into(), &0.into(), &0.into()));
    assert_eq!(signer.vpnctl(&["invite", "revoke", &id[..8]]).unwrap().code, 2);

    let late = crate::world::fresh(&world.lab.host("home-2"));
    let said = late.vpnctl(&["join", token]).unwrap();
    assert_eq!(said.json["error"]["code"], "token_used_up", "{}", said.text);
    flat.reaches(&signer.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    assert_eq!(flat.status().unwrap()["epoch"], signer.status().unwrap()["epoch"]);
}

#[test]
fn leaving_erases_what_was_kept_and_the_name_is_free_once_a_signer_removed_it() {
    let world = World::of(Lab::alone(THREE).unwrap(), &["cloud-1", "home-1"]);
    let (signer, leaver) = (world.node("cloud-1"), world.node("home-1"));
    let said = signer.vpnctl(&["leave", "--yes"]).unwrap();
    assert_eq!(said.code, 5, "the only signer: {}", said.text);
    assert_eq!(signer.status().unwrap()["state"], "up");

    let said = leaver.ask(&["leave", "--yes"]).unwrap();
    assert_eq!(
        (&said["network"], &said["machine"], &said["listed"]),
        (&"home".into(), &"home-1".into(), &true.into())
    );
    assert_eq!(fs::read_dir(leaver.state("networks")).unwrap().count(), 0);
    assert_eq!(leaver.vpnctl(&["up"]).unwrap().json["error"]["code"], "no_network");
    assert!(!leaver.pings(&signer.address("ipv4").unwrap()));

    signer.ask(&["machines", "remove", "home-1", "--yes"]).unwrap();
    leaver.join(&signer.invite(&[]).unwrap()).unwrap();
    leaver.reaches(&signer.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    assert_eq!(leaver.status().unwrap()["machine"]["name"], "home-1");

    signer.ask(&["leave", "--yes", "--force"]).unwrap();
    assert_eq!(fs::read_dir(signer.state("networks")).unwrap().count(), 0);
}
