//! The relays' STUN servers: each is asked several times, for single datagrams get lost.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use proto::{
    roster::RelayEntry,
    stun::{TransactionId, read_answer, request},
};
use rand_core::{OsRng, RngCore};
use tokio::{
    net::{UdpSocket, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::patience::Patience;

/// How long a name may take to be resolved.
const NAME_WITHIN: Duration = Duration::from_millis(2_000);

/// When the servers that have not answered are asked again, from the first question on, and when it is over: a round trip
/// of a bad link, and longer each time.
const ROUNDS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1_100),
    Duration::from_millis(1_700),
    Duration::from_millis(2_600),
];

/// The rounds that follow while the patience lasts, where others answer by the same family: packets that were lost.
const MORE: Duration = Duration::from_millis(900);

/// Addresses taken of one relay's name, for all families together.
const ADDRESSES: usize = 4;

/// Longer than any answer of a STUN server of ours.
const ANSWER_MAX: usize = 1_024;

/// Who was asked, and who answered.
#[derive(Default)]
pub(super) struct Heard {
    /// The relays' URLs and where their STUN servers are.
    pub(super) asked: Vec<(String, SocketAddr)>,
    /// What they said, each server once.
    pub(super) answers: Vec<Answer>,
    /// The port that IPv4 was asked from.
    pub(super) port: Option<u16>,
    /// Where other machines answered directly, which were asked because no server did.
    pub(super) direct: Vec<SocketAddr>,
}

/// What a server saw.
pub(super) struct Answer {
    pub(super) server: SocketAddr,
    pub(super) mapped: SocketAddr,
    pub(super) rtt: Duration,
}

/// Asks the STUN servers of these relays.
pub(super) async fn ask(relays: &[&RelayEntry], patience: &Patience) -> Heard {
    let found = join_all(relays.iter().map(|relay| addresses(relay))).await;
    let mut asked: Vec<(String, SocketAddr)> = found.into_iter().flatten().collect();
    asked.sort_unstable();
    asked.dedup();
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = {
        let mut servers: Vec<SocketAddr> = asked.iter().map(|(_, server)| *server).collect();
        servers.sort_unstable();
        servers.dedup();
        servers.into_iter().partition(SocketAddr::is_ipv4)
    };
    let besides = next_ports(&v4);
    let ((port, mut answers), (_, others)) = tokio::join!(
        from(Ipv4Addr::UNSPECIFIED.into(), &v4, &besides, patience),
        from(Ipv6Addr::UNSPECIFIED.into(), &v6, &[], patience)
    );
    answers.extend(others);
    Heard { asked, answers, port, direct: Vec::new() }
}

async fn addresses(relay: &RelayEntry) -> Vec<(String, SocketAddr)> {
    let (Some(port), Some((host, _))) = (relay.stun_port, super::servers::host_and_port(&relay.url)) else {
        return Vec::new();
    };
    let Ok(Ok(found)) = timeout(NAME_WITHIN, lookup_host((host, port))).await else { return Vec::new() };
    found.take(ADDRESSES).map(|server| (relay.url.clone(), server)).collect()
}

/// Relays answer on the next port too, unless a firewall or another program has it: one relay suffices to tell whether a NAT
/// maps each port that is sent to by another of its own.
fn next_ports(servers: &[SocketAddr]) -> Vec<SocketAddr> {
    let next = |server: &SocketAddr| match server.port() {
        0 => None,
        port => Some(SocketAddr::new(server.ip(), port.checked_add(1)?)),
    };
    servers.iter().filter_map(next).filter(|next| !servers.contains(next)).collect()
}

/// Asks servers of one family, from one socket: its port, and what they said. Once all `servers` have answered, `besides` are
/// waited for no longer than the round lasts.
async fn from(
    any: IpAddr,
    servers: &[SocketAddr],
    besides: &[SocketAddr],
    patience: &Patience,
) -> (Option<u16>, Vec<Answer>) {
    let mut answers: Vec<Answer> = Vec::new();
    if servers.is_empty() {
        return (None, answers);
    }
    let Ok(socket) = UdpSocket::bind((any, 0)).await else { return (None, answers) };
    let began = Instant::now();
    let mut questions: HashMap<TransactionId, (SocketAddr, Instant)> = HashMap::new();
    // Those that a question could be sent to: where there is no route, nothing is waited for.
    let mut reachable: HashSet<SocketAddr> = HashSet::new();
    let mut rounds = ROUNDS.into_iter().map(|round| began + round);
    let mut over = began;
    loop {
        over = match rounds.next() {
            Some(round) => round,
            None if !answers.is_empty() && over < patience.end() => patience.end().min(over + MORE),
            None => break,
        };
        for server in
            servers.iter().chain(besides).filter(|server| !answers.iter().any(|a| a.server == **server))
        {
            let mut id = [0; 12];
            OsRng.fill_bytes(&mut id);
            let id = TransactionId(id);
            questions.insert(id, (*server, Instant::now()));
            if socket.send_to(&request(id), server).await.is_ok() {
                reachable.insert(*server);
            }
        }
        let mut buffer = [0; ANSWER_MAX];
        while answers.len() < reachable.len() {
            let Ok(received) = timeout_at(over, socket.recv_from(&mut buffer)).await else { break };
            // An error is an ICMP message's, of a server that is not there: others may answer.
            let Ok((len, _)) = received else { continue };
            let Ok((id, mapped)) = read_answer(&buffer[..len]) else { continue };
            let Some((server, asked)) = questions.remove(&id) else { continue };
            patience.answered(asked.elapsed());
            if !answers.iter().any(|answer| answer.server == server) {
                answers.push(Answer { server, mapped: mapped.0, rtt: asked.elapsed() });
            }
        }
        let answered = |server: &SocketAddr| answers.iter().any(|answer| answer.server == *server);
        if servers.iter().all(|server| answered(server) || !reachable.contains(server)) {
            break;
        }
    }
    (socket.local_addr().ok().map(|own| own.port()), answers)
}

#[cfg(test)]
mod tests {
    use proto::{metadata::Endpoint, stun::answer};

    use super::{super::patience::SHORT, *};

    fn relay(port: u16) -> RelayEntry {
        RelayEntry { url: "https://127.0.0.1".into(), key: [0; 32], stun_port: Some(port) }
    }

    #[tokio::test]
    async fn the_next_port_is_asked_too_and_one_that_is_silent_costs_one_round() {
        loop {
            let first = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = first.local_addr().unwrap().port();
            let Ok(next) = UdpSocket::bind(("127.0.0.1", port.wrapping_add(1).max(1))).await else {
                continue;
            };
            let answers = |socket: UdpSocket, seen: &'static str| async move {
                let mut buffer = [0; 64];
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let said = answer(&buffer[..len], Endpoint(seen.parse().unwrap())).unwrap();
                socket.send_to(&said, from).await.unwrap();
                socket
            };
            let (one, two) = (answers(first, "203.0.113.9:4000"), answers(next, "203.0.113.9:4001"));
            let relay = relay(port);
            let relays = [&relay];
            let patience = Patience::begin();
            let (heard, first, next) = tokio::join!(ask(&relays, &patience), one, two);
            let mapped: HashSet<u16> = heard.answers.iter().map(|answer| answer.mapped.port()).collect();
            assert!(mapped == HashSet::from([4_000, 4_001]) && heard.asked.len() == 1);

            let began = Instant::now();
            let (heard, _) = tokio::join!(ask(&relays, &patience), answers(first, "203.0.113.9:4000"));
            assert!(heard.answers.len() == 1 && began.elapsed() < ROUNDS[1]);
            drop(next);
            return;
        }
    }

    #[tokio::test]
    async fn what_cannot_even_be_sent_to_is_not_waited_for() {
        // The kernel sends nothing to port 0.
        let nowhere = relay(0);
        let began = Instant::now();
        let heard = ask(&[&nowhere], &Patience::begin()).await;
        assert!((heard.asked.len(), heard.answers.len()) == (1, 0) && began.elapsed() < ROUNDS[0]);
    }

    #[tokio::test]
    async fn a_server_that_loses_the_first_question_is_asked_again_and_one_that_is_silent_is_given_up() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (port, other) = (server.local_addr().unwrap().port(), silent.local_addr().unwrap().port());
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            server.recv_from(&mut buffer).await.unwrap();
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            let seen = Endpoint("203.0.113.9:4000".parse().unwrap());
            server.send_to(&answer(&buffer[..len], seen).unwrap(), from).await.unwrap();
        });
        let (answering, silent) = (relay(port), relay(other));
        let began = Instant::now();
        let heard = ask(&[&answering, &silent, &answering], &Patience::begin()).await;
        assert!(began.elapsed() < SHORT + Duration::from_secs(1));
        assert_eq!(heard.asked.len(), 2, "each server once");
        assert_eq!(heard.answers.len(), 1);
        assert_eq!(heard.answers[0].mapped, "203.0.113.9:4000".parse().unwrap());
        assert!(heard.answers[0].rtt < ROUNDS[0], "of the question that was answered, not of the first");
        assert!(heard.port.is_some());
    }

    #[tokio::test]
    async fn where_another_answers_late_a_server_is_asked_more_often() {
        let (far, lossy) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let relays = [&far, &lossy].map(|socket| relay(socket.local_addr().unwrap().port()));
        // Answers the question after those that it loses, late.
        let answering = |socket: UdpSocket, lost: usize, late: Duration| async move {
            let mut buffer = [0; 64];
            for _ in 0..lost {
                socket.recv_from(&mut buffer).await.unwrap();
            }
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            tokio::time::sleep(late).await;
            let seen = Endpoint("203.0.113.9:4000".parse().unwrap());
            socket.send_to(&answer(&buffer[..len], seen).unwrap(), from).await.unwrap();
        };
        tokio::spawn(answering(far, 0, Duration::from_millis(400)));
        tokio::spawn(answering(lossy, ROUNDS.len(), Duration::ZERO));
        let heard = ask(&[&relays[0], &relays[1]], &Patience::begin()).await;
        assert_eq!(heard.answers.len(), 2);
    }
}
