//! Nothing is written while a network is used. Every call that could write is traced, and every inode is compared: those of
//! the folders that are Tacet's, and, by a layer over all else, whatever else on the file system a program touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tests::{
    Lab, Node,
    host::changed_by,
    inodes::{Change, Fate, Inodes},
    strace::{self, Call, Mark, Trace},
    wait,
};

use crate::life::{LOOK_UPS, Life, TOPOLOGY};

/// How many seconds of life are watched: 120 unless this variable says otherwise.
const SECONDS: &str = "TACET_SILENCE";

/// A network is settled when nothing of it was written for so long.
const SETTLED: Duration = Duration::from_secs(4);

/// What was seen of one part of a network's life.
#[derive(Default)]
struct Seen {
    /// Calls that could have written, wherever to.
    calls: usize,
    /// Those that did, on a file system.
    marks: Vec<Mark>,
    /// Inodes that are not what they were, in Tacet's folders and elsewhere.
    changes: Vec<Change>,
    elsewhere: Vec<PathBuf>,
    /// Unix sockets that were spoken to, which may belong to a log.
    spoken_to: Vec<String>,
    /// Sentences on standard error, by program.
    said: Vec<String>,
}

impl Seen {
    fn bytes(&self) -> u64 {
        self.marks.iter().map(|mark| mark.bytes).sum()
    }

    fn inodes(&self) -> usize {
        self.changes.len() + self.elsewhere.len()
    }

    fn row(&self, part: &str) -> String {
        format!(
            "{part:<46}{:>8}{:>9}{:>8}{:>8}{:>6}",
            self.calls,
            self.marks.len(),
            self.bytes(),
            self.inodes(),
            self.said.len()
        )
    }

    /// Bytes by file, and what became of each inode.
    fn details(&self) -> String {
        let mut files: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for mark in &self.marks {
            let file = files.entry(&mark.path).or_default();
            *file = (file.0 + 1, file.1 + mark.bytes);
        }
        let mut text = String::new();
        for (path, (calls, bytes)) in files {
            text += &format!("    {calls:>4} calls {bytes:>8} bytes  {path}\n");
        }
        for change in &self.changes {
            text += &format!("    {change}\n");
        }
        for path in &self.elsewhere {
            text += &format!("    elsewhere: {}\n", path.display());
        }
        for name in &self.spoken_to {
            text += &format!("    a datagram or connection to {name}\n");
        }
        for sentence in &self.said {
            text += &format!("    said: {sentence}\n");
        }
        text
    }

    fn assert_nothing_written(&self, part: &str) {
        assert!(
            self.marks.is_empty() && self.inodes() == 0 && self.spoken_to.is_empty(),
            "{part} wrote:\n{}",
            self.details()
        );
    }
}

/// The folders that hold what Tacet's programs may write to a disk.
fn folders(life: &Life) -> Vec<PathBuf> {
    let hosts = life.world.nodes.iter().map(Node::host);
    let hosts = hosts.chain([life.world.coordinator.host(), life.relay.host()]);
    hosts.map(|host| host.folder().join("var")).collect()
}

/// What each program printed so far, line by line.
fn printed(life: &mut Life) -> Vec<String> {
    let mut texts =
        vec![life.world.coordinator.process().unwrap().printed(), life.relay.process().unwrap().printed()];
    texts.extend(life.world.nodes.iter_mut().map(|node| node.process().unwrap().printed()));
    texts.iter().flat_map(|text| text.lines().map(str::to_owned)).collect()
}

/// Watches all processes while `part` happens.
fn watched(life: &mut Life, part: impl FnOnce(&mut Life, &mut Vec<Call>)) -> Seen {
    let processes = life.processes();
    let folder = life.world.lab.folder().to_owned();
    let said = printed(life);
    let folders = folders(life);
    let inodes = Inodes::before(&folders).unwrap();
    assert!(inodes.count() > folders.len(), "there are files to watch");
    let mut hosts: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (host, process) in &processes {
        hosts.entry(host).or_default().push(*process);
    }
    let traces: Vec<Trace> = hosts
        .iter()
        .map(|(host, processes)| Trace::attach(processes, &folder.join(format!("{host}.strace"))).unwrap())
        .collect();
    let mut calls = Vec::new();
    part(life, &mut calls);
    for trace in traces {
        calls.extend(trace.end().unwrap());
    }
    let mut sentences = printed(life);
    for sentence in &said {
        if let Some(at) = sentences.iter().position(|other| other == sentence) {
            sentences.remove(at);
        }
    }
    let ours: Vec<u32> = life.processes().into_iter().map(|(_, process)| process).collect();
    // What is said goes to standard error, here a file beside the folders. What is beneath /run is in memory: the socket.
    let mut marks: Vec<Mark> = calls.iter().filter_map(Call::mark).collect();
    marks.retain(|mark| !mark.path.ends_with(".log") && !mark.path.starts_with("/run/"));
    let mut spoken_to: Vec<String> = calls.iter().filter_map(Call::speaks_to).collect();
    // Tells the service manager that it is ready; a client asks vpnd.
    spoken_to.retain(|name| !name.ends_with(".notify") && name != "/run/tacet/vpnd.sock");
    Seen {
        calls: calls.len(),
        marks,
        changes: inodes.changes(&Inodes::after(&folders).unwrap()),
        // Control and data path of a machine share their layers.
        elsewhere: ours
            .iter()
            .flat_map(|process| changed_by(*process).unwrap())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        spoken_to,
        said: sentences,
    }
}

/// Waits until nothing of the network was written for a while.
fn settle(life: &Life) {
    let folders = folders(life);
    let mut last = Vec::new();
    let settled = wait::until("nothing is written any more", Duration::from_secs(60), || {
        let before = Inodes::after(&folders).unwrap();
        std::thread::sleep(SETTLED);
        last = before.changes(&Inodes::after(&folders).unwrap());
        last.is_empty()
    });
    assert!(settled.is_ok(), "it goes on: {last:?}");
}

/// A client that is traced too.
fn look_up(node: &Node, arguments: &[&str], calls: &mut Vec<Call>) {
    let record = "vpnctl.strace";
    let mut command = node.host().command("strace").unwrap();
    command.args(strace::OPTIONS).args([strace::CALLS, "-o", record, "vpnctl", "--json"]).args(arguments);
    let mut said = String::new();
    // A ping may be lost while a path changes.
    let answered = wait::until("vpnctl is answered", wait::SOON, || {
        let output = command.output().unwrap();
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success()
    });
    assert!(answered.is_ok(), "{arguments:?}: {said}");
    let traced = strace::calls(&std::fs::read_to_string(node.host().folder().join(record)).unwrap());
    assert!(traced.iter().any(|call| call.name == "connect"), "{arguments:?} is traced");
    // What it answers goes to its standard output, here a pipe.
    calls.extend(traced);
}

#[test]
fn nothing_is_written_while_a_network_is_used() {
    let seconds = env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let lab = Lab::up(TOPOLOGY).unwrap();
    lab.keep_changes_apart();
    let mut life = Life::begin(lab);
    life.world.becomes_direct("home-1", "cloud-1", Duration::from_secs(20));
    life.talk();
    assert_eq!(life.world.node("home-1").peer("office-1").unwrap()["path"], "relay");
    settle(&life);
    let mut rows =
        vec![format!("{:<46}{:>8}{:>9}{:>8}{:>8}{:>6}", "", "calls", "writing", "bytes", "inodes", "said")];

    let used = watched(&mut life, |life, calls| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            life.talk();
            life.roam();
            for node in &life.world.nodes {
                for arguments in LOOK_UPS.iter().filter(|arguments| arguments.get(1) != Some(&node.name())) {
                    look_up(node, arguments, calls);
                }
            }
        }
    });
    rows.push(used.row(&format!("connecting, traffic, roaming, look-ups, {seconds} s")));

    let broken = watched(&mut life, |life, _| {
        life.lose_a_peer();
        life.lose_connections();
        life.talk();
    });
    rows.push(broken.row("an uplink and all connections to servers lost"));

    let killed = watched(&mut life, |life, _| {
        tests::process::kill_process(life.world.node_mut("home-1").data_path().unwrap()).unwrap();
        life.talk();
    });
    rows.push(killed.row("a data path killed"));

    let restarted = watched(&mut life, |life, calls| {
        let node = life.world.node_mut("home-1");
        node.before(&strace::from_birth("born.strace"));
        node.stop().unwrap();
        node.start_again().unwrap();
        life.restart_servers();
        life.talk();
        let record = life.world.node("home-1").host().folder().join("born.strace");
        calls.extend(strace::calls(&std::fs::read_to_string(record).unwrap()));
    });
    rows.push(restarted.row("vpnd stopped and started, servers killed"));

    println!("\n{}", rows.join("\n"));
    for seen in [&used, &broken, &killed, &restarted] {
        print!("{}", seen.details());
    }
    assert!(used.calls > 0, "programs that are used make calls");
    used.assert_nothing_written("a network that is used");
    assert_eq!(used.said, Vec::<String>::new(), "nothing is said while a network is used");
    broken.assert_nothing_written("a network whose connections break");
    assert_eq!(broken.said, Vec::<String>::new(), "when a machine was away is said to nobody");
    killed.assert_nothing_written("a data path that is killed");
    restarted.assert_nothing_written("starting again");
    let catalogue = include_str!("../../docs/messages.md");
    for sentence in &killed.said {
        assert!(catalogue.contains(sentence.as_str()), "docs/messages.md does not have: {sentence}");
    }

    what_changes_a_network_is_written(&mut life);
}

/// Watches what is meant to write. Looking whether the network is settled reads folders: not that.
fn written(life: &mut Life, part: impl FnOnce(&mut Life, &mut Vec<Call>)) -> Seen {
    let mut seen = watched(life, part);
    seen.changes.retain(|change| change.fate != Fate::Read);
    seen
}

/// What is written by intent, file by file: that the watching above would have seen it.
fn what_changes_a_network_is_written(life: &mut Life) {
    let show = |part: &str, seen: &Seen| {
        println!("\n{part}: {} bytes, {} inodes\n{}", seen.bytes(), seen.inodes(), seen.details());
    };
    let wrote = |seen: &Seen, host: &str, file: &str| {
        seen.changes.iter().any(|change| {
            let path = change.path.to_string_lossy();
            change.fate != Fate::Read && path.contains(&format!("/{host}/")) && path.ends_with(file)
        })
    };

    let intent = written(life, |life, _| {
        life.world.node("office-1").ask(&["down"]).unwrap();
        life.world.node("office-1").ask(&["up"]).unwrap();
    });
    show("down and up", &intent);
    assert!(intent.bytes() > 0 && wrote(&intent, "office-1", "settings"), "the intent is stored");
    assert!(!wrote(&intent, "srv", "coordinator.db"), "and nobody else is told");

    let renamed = written(life, |life, _| {
        life.world.node("cloud-1").ask(&["machines", "rename", "office-1", "attic"]).unwrap();
        wait::until("the new name is everywhere", wait::SOON, || {
            life.world.nodes.iter().all(|node| node.peer("attic").is_ok() || node.name() == "office-1")
        })
        .unwrap();
        settle(life);
    });
    show("a rename", &renamed);
    for (host, file) in
        [("srv", "coordinator.db"), ("cloud-1", "roster"), ("home-1", "roster"), ("office-1", "roster")]
    {
        assert!(wrote(&renamed, host, file), "{file} on {host} is seen to change");
    }
    assert!(renamed.bytes() > 0);

    let joiner = Node::start(&life.world.lab.host("flat-1")).unwrap();
    life.world.nodes.push(joiner);
    let joined = written(life, |life, _| {
        let token = life.world.node("cloud-1").invite(&[]).unwrap();
        life.world.node("flat-1").join(&token).unwrap();
        settle(life);
    });
    show("an invite and a join", &joined);
    for (host, file) in [("srv", "coordinator.db"), ("flat-1", "roster"), ("home-1", "roster")] {
        assert!(wrote(&joined, host, file), "{file} on {host} is seen to change");
    }

    let removed = written(life, |life, _| {
        life.world.node("cloud-1").ask(&["machines", "remove", "flat-1", "--yes"]).unwrap();
        life.world.nodes.pop();
        settle(life);
    });
    show("a removal", &removed);
    for (host, file) in [("srv", "coordinator.db"), ("cloud-1", "roster"), ("home-1", "roster")] {
        assert!(wrote(&removed, host, file), "{file} on {host} is seen to change");
    }

    // Outside of Tacet's folders too: a file made in the place of a program.
    let process = life.world.node_mut("home-1").process().unwrap().pid().to_string();
    let made =
        Command::new("nsenter").args(["-t", &process, "-m", "touch", "/var/log/strange"]).status().unwrap();
    assert!(made.success());
    let seen = watched(life, |_, _| {});
    assert_eq!(seen.elsewhere, [PathBuf::from("/var/log/strange")]);
}
