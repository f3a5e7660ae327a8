//! A machine whose disk is full, or can only be read: the network stays up, and what it hears is stored once it can be.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use tests::{Lab, Node, process::Process, wait};

use crate::world::{FIRST_ANSWER, World};

/// The machine in question is at home.
const TOPOLOGY: &str = "cloud=none:v6=1,home=easy";
const MACHINE: &str = "home-1";

/// Bytes of its disk: some of what a machine stores, and room to fill.
const DISK: &str = "256k";

/// For what could not be stored to be tried again, and for a change to be heard.
const TRIED: Duration = Duration::from_secs(15);

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network in which the state directory of [`MACHINE`] is a small disk. It goes with the laboratory's folder.
fn with_small_disk() -> World {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let host = lab.host(MACHINE);
    host.run("true", &[]).unwrap(); // makes its folders
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=700"), "tacet"])
        .arg(host.folder().join("var/lib/tacet")));
    let world = World::of(lab, &["cloud-1", MACHINE]);
    world.all_reach_all(FIRST_ANSWER);
    world
}

/// Pings to the machine, ten a second, until they are asked.
struct Stream(Process);

impl Stream {
    fn begin(world: &World) -> Self {
        let (from, to) = (world.node("cloud-1"), world.node(MACHINE));
        let mut command = from.host().command("ping").unwrap();
        command.args(["-n", "-q", "-i", "0.1", "-W", "2", &to.address("ipv4").unwrap()]);
        Self(Process::start("ping", &mut command, from.host().folder().join("stream.log")).unwrap())
    }

    /// All came back, but for the last, which may be on its way.
    fn lost_none(mut self) {
        // However quick the rest was, and also after it.
        std::thread::sleep(Duration::from_millis(1_500));
        let ping = nix::unistd::Pid::from_raw(self.0.pid().cast_signed());
        nix::sys::signal::kill(ping, nix::sys::signal::Signal::SIGINT).unwrap();
        self.0.ended(wait::SOON).unwrap();
        let printed = self.0.printed();
        let summary = printed.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let mut numbers = summary.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (sent, received) = (numbers.next().unwrap(), numbers.next().unwrap());
        assert!(sent > 10 && sent - received <= 1, "{summary}");
    }
}

/// A command that has to store something says that it cannot, why, and what to do, and nothing is changed.
fn refuses(node: &Node, arguments: &[&str], why: &str) {
    let said = node.vpnctl(arguments).unwrap();
    let error = &said.json["error"];
    assert_eq!((said.code, &error["code"]), (1, &Value::from("storage")), "{arguments:?}: {}", said.text);
    assert!(error["why"].as_str().unwrap().contains(why), "{}", said.text);
    assert!(
        error["next"].as_str().unwrap().contains("disk") || error["next"].as_str().unwrap().contains("space")
    );
    assert_eq!(node.status().unwrap()["state"], "up", "{arguments:?} took the network down");
}

/// A signer renames the machine, which hears of it, warns that it cannot store it, and stays up.
fn hears(world: &World, name: &str) {
    let node = world.node(MACHINE);
    let old = node.status().unwrap()["machine"]["name"].as_str().unwrap().to_owned();
    world.node("cloud-1").ask(&["machines", "rename", &old, name]).unwrap();
    wait::until("it hears of a change", TRIED, || {
        let status = node.status().unwrap();
        status["machine"]["name"] == name && status["state"] == "up" && warns(&status)
    })
    .unwrap();
}

fn warns(status: &Value) -> bool {
    status["warnings"].as_array().is_some_and(|all| all.contains(&Value::from("state_not_writable")))
}

/// Once it can, the machine stores what it heard: it knows it after a start without anybody who could tell.
fn stores(mut world: World, name: &str) {
    wait::until("it is stored", TRIED, || !warns(&world.node(MACHINE).status().unwrap())).unwrap();
    world.coordinator.kill();
    world.node_mut("cloud-1").kill();
    let node = world.node_mut(MACHINE);
    node.kill();
    node.start_again().unwrap();
    let status = node.status().unwrap();
    assert_eq!((&status["machine"]["name"], &status["state"]), (&Value::from(name), &Value::from("up")));
    let folder = fs::read_dir(node.state("networks")).unwrap().next().unwrap().unwrap().path();
    let left: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_none()), "{left:?}");
}

/// `kill -9` and another start; it reaches the others as before.
fn survives_a_kill(world: &mut World, name: &str) {
    let address = world.node("cloud-1").address("ipv4").unwrap();
    let node = world.node_mut(MACHINE);
    node.kill();
    node.start_again().unwrap();
    node.reaches(&address, FIRST_ANSWER).unwrap();
    wait::until("it has heard of the change again", TRIED, || {
        let status = node.status().unwrap();
        status["machine"]["name"] == name && status["state"] == "up" && warns(&status)
    })
    .unwrap();
}

/// A token of another network, by which the machine might join that too.
fn token_of_another(world: &World) -> String {
    let other = Node::start(&world.lab.host("srv")).unwrap();
    other.create_account("bob", &world.coordinator.enrol().unwrap()).unwrap();
    other.create_network("work").unwrap();
    other.invite(&[]).unwrap()
}

#[test]
fn a_full_disk_keeps_no_machine_from_its_network_and_what_it_hears_is_stored_once_there_is_room() {
    let mut world = with_small_disk();
    let pings = Stream::begin(&world);
    let ballast = world.node(MACHINE).state("ballast");
    let mut filler = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut filler, &[7; 512]).is_ok() {}
    hears(&world, "attic");
    refuses(world.node(MACHINE), &["join", &token_of_another(&world)], "full");
    pings.lost_none();
    survives_a_kill(&mut world, "attic");
    hears(&world, "cellar");
    drop(filler);
    fs::remove_file(ballast).unwrap();
    stores(world, "cellar");
}

#[test]
fn a_disk_that_can_only_be_read_keeps_no_machine_from_its_network_not_even_at_its_start() {
    let mut world = with_small_disk();
    let pings = Stream::begin(&world);
    let node = world.node_mut(MACHINE);
    let process = node.process().unwrap().pid().to_string();
    // Beneath the running vpnd alone: a file system on which it holds its lock cannot be made so.
    run(Command::new("nsenter")
        .args(["-t", &process, "-m", "sh", "-c"])
        .arg("mount --bind /var/lib/tacet /var/lib/tacet && mount -o remount,bind,ro /var/lib/tacet"));
    hears(&world, "attic");
    refuses(world.node(MACHINE), &["leave", "--yes"], "read-only");
    refuses(world.node(MACHINE), &["join", &token_of_another(&world)], "read-only");
    pings.lost_none();

    // And from the start.
    let disk = world.node(MACHINE).state("");
    world.node_mut(MACHINE).kill();
    wait::until("nothing holds it", wait::SOON, || {
        Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).output().unwrap().status.success()
    })
    .unwrap();
    world.node_mut(MACHINE).start_again().unwrap();
    survives_a_kill(&mut world, "attic");
    refuses(world.node(MACHINE), &["leave", "--yes"], "read-only");
    hears(&world, "cellar");
    run(Command::new("mount").args(["-o", "remount,rw"]).arg(&disk));
    // It was mounted where vpnd sees it as it was then.
    let process = world.node_mut(MACHINE).process().unwrap().pid().to_string();
    run(Command::new("nsenter").args([
        "-t",
        &process,
        "-m",
        "mount",
        "-o",
        "remount,bind,rw",
        "/var/lib/tacet",
    ]));
    stores(world, "cellar");
}

#[test]
fn a_start_on_a_disk_that_was_never_written_says_that_it_cannot() {
    let lab = Lab::up("cloud=none").unwrap();
    let mut node = Node::prepare(&lab.host("cloud-1"));
    let fresh = "umount /var/lib/tacet && mount -t tmpfs -o mode=700 tacet /var/lib/tacet";
    for (line, why) in [
        (format!("{fresh} && mount -o remount,ro /var/lib/tacet"), "cannot be written (read-only"),
        (format!("{fresh} -o nr_inodes=2 "), "is full"),
    ] {
        node.before(&line);
        let (code, said) = node.fails_to_start().unwrap();
        assert!(code.is_some_and(|code| code != 0) && said.contains(why), "{code:?} {said}");
        assert!(said.contains("disk"), "{said}");
    }
}
