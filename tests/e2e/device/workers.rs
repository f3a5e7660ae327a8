//! An interface whose peers several workers share: to `wg` and to its peers it is one.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use tests::{
    Lab,
    process::{kill_process, shortest_slice},
    wait,
};

use super::house::{IF, Kind, PORT, Side, Terms};

/// What goes each way at once between the interface and each peer, in bytes.
const STREAM: usize = 6 << 20;

#[test]
fn peers_that_four_workers_share_see_one_interface_and_so_do_those_of_two() {
    let lab = Lab::up("a=none:4,b=none").unwrap();
    let mut one = Side::sharing(&lab, "a-1", 1, 4);
    let others = [2, 3, 4].map(|n| Side::new(&lab, &format!("a-{n}"), n, Kind::Tacet));
    meet(&one, &others);
    assert_eq!(threads_behind_walls(&mut one), 4);
    streams(&one, &others);

    // All workers end with one of them, and others take their place.
    let before = data_path(&mut one);
    kill_process(before).unwrap();
    others.iter().for_each(|other| one.reaches(other, wait::SOON));
    assert_ne!(data_path(&mut one), before);

    // One goes to another network, one to another port, and then so does the interface itself.
    lab.natlab(&["roam", "a-2", "b"]).unwrap();
    others[1].wg(&["set", IF, "listen-port", "51999"]);
    others.iter().for_each(|other| other.reaches(&one, wait::SOON));
    assert!(one.shows("endpoints", &others[1]).ends_with(":51999"));
    one.wg(&["set", IF, "listen-port", "51998"]);
    others.iter().for_each(|other| one.reaches(other, wait::SOON));
    assert!(others[0].shows("endpoints", &one).ends_with(":51998"));

    one.ip(&["link", "set", IF, "down"]);
    wait::until("the port is free", wait::SOON, || one.host.run("ss", &["-Huln"]).unwrap().is_empty())
        .unwrap();

    one.stop();
    one.workers = Some(2);
    one.start();
    meet(&one, &others);
    assert_eq!(threads_behind_walls(&mut one), 2);
    streams(&one, &others);
}

/// Everybody knows where everybody is, and some begin themselves.
fn meet(one: &Side, others: &[Side]) {
    for (n, other) in others.iter().enumerate() {
        let (here, there) = (one.at(false), other.at(false));
        let there = there
            .replace(&format!(":{PORT}"), &format!(":{}", other.wg(&["show", IF, "listen-port"]).trim()));
        one.meets(other, &Terms { endpoint: Some(&there), ..Terms::default() });
        other.meets(one, &Terms { endpoint: Some(&here), ..Terms::default() });
        if n % 2 == 0 { other.reaches(one, wait::SOON) } else { one.reaches(other, wait::SOON) }
    }
}

/// Streams with all peers at once, both ways, compared byte by byte; and what is counted is told of all.
fn streams(one: &Side, others: &[Side]) {
    let ends = others.iter().enumerate().map(|(n, other)| {
        let listener = other.host.inside(|| TcpListener::bind((other.inner_v4(), 7_000)).unwrap()).unwrap();
        let near = one.host.inside(|| TcpStream::connect((other.inner_v4(), 7_000)).unwrap()).unwrap();
        (n as u8, near, listener.accept().unwrap().0)
    });
    let ends: Vec<_> = ends.collect();
    thread::scope(|scope| {
        for (n, near, far) in &ends {
            for (end, says, hears) in [(near, *n, n + 100), (far, n + 100, *n)] {
                scope.spawn(move || {
                    let mut end = end;
                    end.write_all(&bytes(says)).unwrap();
                    end.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let (mut end, mut heard) = (end, Vec::new());
                    end.set_read_timeout(Some(wait::SOON)).unwrap();
                    end.read_to_end(&mut heard).unwrap();
                    assert!(heard == bytes(hears), "stream {hears} was changed on the way");
                });
            }
        }
    });
    for other in others {
        let (rx, tx) = one.transfer(other);
        assert!(rx > STREAM as u64 && tx > STREAM as u64);
    }
}

fn bytes(of: u8) -> Vec<u8> {
    (0..STREAM).map(|at| (at / 251 + at) as u8 ^ of).collect()
}

fn data_path(side: &mut Side) -> u32 {
    let control = side.process().pid();
    let children = fs::read_to_string(format!("/proc/{control}/task/{control}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// How many threads carry packets; all must be confined, and ask for as long a slice as `netio::slice` says.
fn threads_behind_walls(side: &mut Side) -> usize {
    let process = data_path(side);
    assert!(shortest_slice(process).unwrap().is_none_or(|slice| slice == 4_000_000));
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let walls = ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"];
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            walls.iter().for_each(|wall| assert!(status.contains(wall), "{status}"));
        })
        .count()
}
