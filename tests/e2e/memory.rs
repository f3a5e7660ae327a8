//! How much the processes hold when nothing happens.

use std::fs;

use tests::Lab;

use crate::world::{FIRST_ANSWER, THREE, THREE_HOSTS, World};

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn idle_processes_are_small() {
    let mut world = World::of(Lab::up(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let home = world.node_mut("home-1");
    let (control, data_path) = (resident(home.process().unwrap().pid()), resident(home.data_path().unwrap()));
    let coordinator = resident(world.coordinator.process().unwrap().pid());
    println!("resident, KiB: control {control}, data path {data_path}, coordinator with relay {coordinator}");
    assert!(control < 15 * 1024, "control: {control} KiB");
    assert!(data_path < 8 * 1024, "data path: {data_path} KiB");
    assert!(coordinator < 25 * 1024, "coordinator with relay: {coordinator} KiB");
}
