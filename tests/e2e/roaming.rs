//! A machine that moves from network to network.

use std::time::Duration;

use tests::{Lab, wait};

use crate::life::{Life, TOPOLOGY};

/// How long traffic over the relay may be away after a move. A dead connection takes the kernel 15 s to give up.
const BACK: Duration = Duration::from_secs(2);

/// Moves in a row: enough for a pause between attempts that grows with each to be seen.
const MOVES: usize = 6;

#[test]
fn a_machine_that_moves_again_and_again_is_reached_over_the_relay_each_time() {
    let life = Life::begin(Lab::up(TOPOLOGY).unwrap());
    let home = life.world.node("home-1");
    let office = life.world.node("office-1").address("ipv4").unwrap();
    home.reaches(&office, wait::SOON).unwrap();
    assert_eq!(home.peer("office-1").unwrap()["path"], "relay");
    let mut times = Vec::new();
    for site in ["flat", "home"].iter().cycle().take(MOVES) {
        life.world.lab.natlab(&["roam", "home-1", site]).unwrap();
        times.push(home.reaches(&office, wait::SOON).unwrap());
    }
    println!(
        "over the relay again: median {:?}, worst {:?}",
        wait::median(&times),
        times.iter().max().unwrap()
    );
    assert!(wait::median(&times) < BACK, "{times:?}");
}

#[test]
fn a_machine_that_has_moved_hears_of_changes_at_once() {
    let life = Life::begin(Lab::up(TOPOLOGY).unwrap());
    life.move_home_to("flat");
    life.world.node("cloud-1").ask(&["machines", "rename", "office-1", "attic"]).unwrap();
    wait::until("home-1 knows the new name", wait::SOON, || life.world.node("home-1").peer("attic").is_ok())
        .unwrap();
}
