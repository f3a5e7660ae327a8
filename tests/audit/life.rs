//! What happens in a house: the machines join, talk directly and over the relay, look up names, move, talk again.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use tests::{Host, Node, Result, Trouble, wait};

use crate::{
    house::{House, PATIENCE},
    plan::{CLOUD, FLAT, Flow, HOME, MACHINES, Member, Plan},
};

/// How long a datagram is waited for.
const SOON: Duration = Duration::from_millis(500);

/// Makes the network and brings every machine in.
///
/// # Errors
/// What went wrong, in the words of whoever said it.
pub(crate) fn join(house: &House) -> Result<Vec<Member>> {
    let [first, others @ ..] = house.nodes.as_slice() else { return Ok(Vec::new()) };
    first.create_account("ann", &house.coordinator.enrol()?)?;
    first.create_network("home")?;
    for other in others {
        other.join(&first.invite(&[])?)?;
    }
    wake(house)?;
    house
        .nodes
        .iter()
        .map(|node| {
            let addresses = ["ipv4", "ipv6"].map(|family| parsed(&node.address(family)?));
            Ok(Member {
                name: node.name().to_owned(),
                addresses: addresses.into_iter().collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// Waits until every machine knows every other as a member, and the coordinator has nothing left to do.
///
/// # Errors
/// If that does not come.
pub(crate) fn wake(house: &House) -> Result<()> {
    for node in &house.nodes {
        wait::until(&format!("{} sees nobody provisional", node.name()), PATIENCE, || {
            node.ask(&["machines", "list"]).is_ok_and(|list| {
                let machines = list["machines"].as_array().into_iter().flatten();
                machines.filter(|machine| machine["provisional"] == false).count() == MACHINES.len()
            })
        })?;
        for other in house.nodes.iter().filter(|other| other.name() != node.name()) {
            wait::until("all know all addresses", PATIENCE, || {
                node.peer(other.name()).is_ok_and(|peer| peer["ipv4"].is_string())
            })?;
        }
    }
    Ok(())
}

/// One life. The roster is the same after it.
///
/// # Errors
/// If the network does not do what it is for.
pub(crate) fn live(house: &House, plan: &Plan) -> Result<()> {
    let [cloud, home, flat] = [CLOUD, HOME, FLAT].map(|machine| &house.nodes[machine]);

    // Kept from each other, two machines talk over the relay.
    house.lab.natlab(&["cut", "home", "flat"])?;
    becomes(home, cloud, "direct")?;
    becomes(cloud, flat, "direct")?;
    becomes(home, flat, "relay")?;
    exchange(home, flat, &plan.relayed)?;
    house.lab.natlab(&["heal"])?;

    becomes(home, flat, "direct")?;
    exchange(home, flat, &plan.direct)?;

    look_up(house, plan)?;

    // A router gets a new public address; then the machine behind it goes to a café.
    house.lab.natlab(&["wan-ip", "flat"])?;
    becomes(flat, cloud, "direct")?;
    house.lab.natlab(&["roam", MACHINES[FLAT], "cafe"])?;
    becomes(flat, cloud, "direct")?;
    becomes(home, cloud, "direct")?;
    exchange(cloud, flat, &plan.roamed)?;
    exchange(home, cloud, &plan.roamed)?;
    // What a person looks at.
    for node in [cloud, home, flat] {
        node.ask(&["status"])?;
    }
    Ok(())
}

/// Uses a path until it is of that kind.
fn becomes(from: &Node, to: &Node, path: &str) -> Result<()> {
    let address = to.address("ipv4")?;
    wait::until(&format!("{} reaches {} by {path}", from.name(), to.name()), PATIENCE, || {
        from.pings(&address) && from.peer(to.name()).is_ok_and(|peer| peer["path"] == path)
    })
    .map(drop)
}

/// Names, by every way there is: Tacet's own, and the system's with a name server on another machine.
fn look_up(house: &House, plan: &Plan) -> Result<()> {
    let [cloud, home, flat] = [CLOUD, HOME, FLAT].map(|machine| &house.nodes[machine]);
    for node in [home, flat] {
        node.ask(&["ip", cloud.name()])?;
        node.ask(&["ping", cloud.name(), "-c", "2", "-i", "200ms"])?;
        node.ask(&["status"])?;
    }
    let server: IpAddr = parsed(&cloud.address("ipv4")?)?;
    let socket = cloud.host().inside(|| UdpSocket::bind((server, 53)))??;
    socket.set_read_timeout(Some(SOON))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&socket, &plan.lookup, &done));
        let found = getent(home.host(), server, &plan.lookup);
        let unknown = getent(home.host(), server, &plan.unknown);
        done.store(true, Ordering::Relaxed);
        let answered = answering.join().unwrap_or(0);
        match (found?, unknown?) {
            (true, false) if answered > 0 => Ok(()),
            _ => Err(Trouble::new("the name server on a machine did not answer as it should")),
        }
    })
}

/// Asks for a name as every program of a host does.
fn getent(host: &Host, server: IpAddr, name: &str) -> Result<bool> {
    let resolver = format!(
        "echo 'nameserver {server}' >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf"
    );
    Ok(host.command_after(&resolver, "getent")?.args(["ahostsv4", name]).output()?.status.success())
}

/// A name server that knows one name (RFC 1035, section 4). Returns how many questions it answered.
fn answer(socket: &UdpSocket, known: &str, done: &AtomicBool) -> usize {
    let wanted: Vec<u8> = known
        .split('.')
        .flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes()))
        .chain([0])
        .collect();
    let mut answered = 0;
    let mut question = [0; 512];
    while !done.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
        let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
        let Some(asked) = question.get(..end.min(length)) else { continue };
        let mut reply = asked.to_vec();
        let knows = asked[12..].starts_with(&wanted) && asked[end - 4..end - 2] == [0, 1];
        // A response, authoritative; no such name (3) or none of that type.
        reply[2] = 0x84;
        reply[3] = if asked[12..].starts_with(&wanted) { 0 } else { 3 };
        reply[4..12].copy_from_slice(&[0, 1, 0, u8::from(knows), 0, 0, 0, 0]);
        if knows {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
        answered += usize::from(socket.send_to(&reply, from).is_ok() && knows);
    }
    answered
}

/// A flow between two machines and back, by UDP and TCP, over both families.
fn exchange(from: &Node, to: &Node, flow: &Flow) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        let addresses = (parsed(&from.address(family)?)?, parsed(&to.address(family)?)?);
        by_udp(from.host(), to.host(), addresses, flow)?;
        by_tcp(from.host(), to.host(), addresses.1, flow)?;
    }
    Ok(())
}

fn by_udp(from: &Host, to: &Host, (source, target): (IpAddr, IpAddr), flow: &Flow) -> Result<()> {
    let server = to.inside(|| UdpSocket::bind((target, flow.to_port)))??;
    let client = from.inside(|| UdpSocket::bind((source, flow.from_port)))??;
    server.set_read_timeout(Some(SOON))?;
    client.set_read_timeout(Some(SOON))?;
    let content = flow.bytes.repeat(20);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut datagram = [0; 2_048];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = server.recv_from(&mut datagram) {
                    let _ = server.send_to(&datagram[..length], from);
                }
            }
        });
        let mut came_back = 0;
        let mut datagram = [0; 2_048];
        for _ in 0..flow.times / 20 {
            client.send_to(&content, (target, flow.to_port))?;
            came_back += usize::from(client.recv(&mut datagram).is_ok_and(|length| length == content.len()));
        }
        done.store(true, Ordering::Relaxed);
        if came_back == 0 { Err(Trouble::new("no datagram came back")) } else { Ok(()) }
    })
}

fn by_tcp(from: &Host, to: &Host, target: IpAddr, flow: &Flow) -> Result<()> {
    let target = SocketAddr::new(target, flow.to_port);
    let listener = to.inside(|| TcpListener::bind(target))??;
    let content = flow.bytes.repeat(flow.times);
    thread::scope(|scope| {
        let echoing = scope.spawn(|| {
            let (mut stream, _) = listener.accept()?;
            let mut writer = stream.try_clone()?;
            std::io::copy(&mut stream, &mut writer)?;
            writer.shutdown(Shutdown::Write)
        });
        let mut stream = from.inside(|| TcpStream::connect_timeout(&target, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let sending = scope.spawn(move || {
            writer.write_all(&flow.bytes.repeat(flow.times))?;
            writer.shutdown(Shutdown::Write)
        });
        let mut came_back = Vec::new();
        stream.read_to_end(&mut came_back)?;
        for end in [sending.join(), echoing.join()] {
            end.map_err(|_| Trouble::new("a thread of a transfer failed"))??;
        }
        if came_back == content { Ok(()) } else { Err(Trouble::new("TCP changed the content")) }
    })
}

fn parsed(address: &str) -> Result<IpAddr> {
    address.parse().map_err(|_| Trouble::new(format!("{address} is no address")))
}
