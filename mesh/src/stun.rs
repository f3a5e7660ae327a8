//! What addresses the outside sees our sockets at.
//!
//! Each socket asks each server of its family, from the very port that carries the tunnels. The answers become
//! reflexive candidates. They are asked again while any peer has data, so that a mapping which changed is noticed and
//! one in use is kept; an idle machine asks nobody.
//!
//! Of several workers the first asks, for answers come to its socket; the others have copies of what it learned, and tell it when
//! there is data or doubt.
//!
//! Servers that see one socket at different endpoints tell that a NAT gives each destination another ([`Stun::varies`]).

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use proto::{
    metadata::Endpoint,
    stun::{TransactionId, read_answer, request},
};
use rand_core::CryptoRngCore;

use crate::{batch::Outbox, out::To, path::is_private};

/// How often a server is asked while there is data: within the shortest life of a NAT mapping (30 s with common
/// routers).
const REFRESH: Duration = Duration::from_secs(25);
/// When an unanswered question is repeated; RFC 8489 (section 6.2.1) starts at 500 ms, but we have no answer to lose
/// by asking early, and a connection to win.
const RETRY: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
];
/// An answer that is younger is not doubted: many peers fall silent at once.
const DOUBT_AFTER: Duration = Duration::from_secs(2);
/// How often a port is asked that never answered while another of its host did: one that a firewall closes, say.
const RARELY: Duration = Duration::from_secs(300);
/// Answers believed for this long without a new one.
const VALID: Duration = Duration::from_secs(60);

/// One question for each pair of socket and server.
#[derive(Default)]
pub(crate) struct Stun {
    questions: Vec<Question>,
    /// When the first of them is due: asked after every call, and changed by few.
    next: Option<Instant>,
    /// Another worker asks.
    elsewhere: bool,
    /// What other workers have copies of has changed.
    changed: bool,
    /// Answers are doubted.
    doubted: bool,
}

#[derive(Clone)]
pub(crate) struct Question {
    socket: u8,
    server: SocketAddr,
    id: TransactionId,
    due: Option<Instant>,
    /// It is repeated because there is data.
    again: bool,
    tries: usize,
    answer: Option<(Instant, SocketAddr)>,
    /// Since when it is that.
    since: Option<Instant>,
}

impl Question {
    /// The answer, as long as it is believed.
    fn seen(&self, now: Instant) -> Option<SocketAddr> {
        self.answer.filter(|(at, _)| now < *at + VALID || self.due.is_none()).map(|(_, seen)| seen)
    }
}

impl Stun {
    /// Another worker asks, from now on.
    pub(crate) fn asks_nobody(&mut self) {
        self.elsewhere = true;
        self.look();
    }

    /// What other workers are to know, if it is something new.
    pub(crate) fn news(&mut self) -> Option<Vec<Question>> {
        std::mem::take(&mut self.changed).then(|| self.questions.clone())
    }

    /// Takes what the worker that asks has learned; whether it changed what we look like.
    pub(crate) fn learn(&mut self, now: Instant, questions: Vec<Question>) -> bool {
        let before = std::mem::replace(&mut self.questions, questions);
        let known = |q: &Question| before.iter().find(|b| (b.socket, b.server) == (q.socket, q.server));
        self.questions
            .iter()
            .any(|q| q.seen(now).is_some_and(|seen| known(q).and_then(|known| known.seen(now)) != Some(seen)))
    }

    /// Whether answers were doubted since the last call.
    pub(crate) fn doubted(&mut self) -> bool {
        std::mem::take(&mut self.doubted)
    }

    /// Replaces the servers, and asks the new ones at once.
    pub(crate) fn set_servers(&mut self, now: Instant, servers: &[Endpoint], sockets: &[SocketAddr]) {
        let mut questions = Vec::new();
        for &Endpoint(server) in servers {
            let Some(socket) = sockets.iter().position(|s| s.is_ipv4() == server.is_ipv4()) else { continue };
            let socket = socket as u8;
            let known = self.questions.iter().position(|q| q.socket == socket && q.server == server);
            questions.push(match known {
                Some(at) => self.questions.swap_remove(at),
                None => Question {
                    socket,
                    server,
                    id: TransactionId([0; 12]),
                    due: Some(now),
                    again: false,
                    tries: 0,
                    answer: None,
                    since: None,
                },
            });
        }
        self.questions = questions;
        self.look();
    }

    /// Asks again: our addresses changed (`changed`: the old answers are void), or there is data after a silence.
    pub(crate) fn ask(&mut self, now: Instant, changed: bool) {
        for question in &mut self.questions {
            (question.due, question.again, question.tries) = (Some(now), false, 0);
            if changed {
                question.answer = None;
            }
        }
        self.look();
    }

    /// Asks those that answered before again: a direct path fell silent, so a mapping may be gone.
    pub(crate) fn doubt(&mut self, now: Instant) {
        for question in self.questions.iter_mut().filter(|q| q.tries == 0) {
            if question.answer.is_some_and(|(at, _)| now >= at + DOUBT_AFTER) {
                question.due = Some(now);
                self.doubted = true;
            }
        }
        self.look();
    }

    /// Sends what is due. Questions are asked again only while `active`.
    pub(crate) fn send(&mut self, now: Instant, active: bool, rng: &mut dyn CryptoRngCore, out: &mut Outbox) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        for at in 0..self.questions.len() {
            if self.questions[at].due.is_none_or(|due| due > now) {
                continue;
            }
            let silent = self.is_silent(at);
            let question = &mut self.questions[at];
            if question.tries == 0 && !active && (question.again || question.answer.is_some()) {
                question.due = None;
                self.changed = true;
                continue;
            }
            if question.tries == 0 {
                rng.fill_bytes(&mut question.id.0);
            }
            question.due = match RETRY.get(question.tries) {
                Some(&wait) => {
                    out.push(
                        To::Udp { socket: question.socket, dst: question.server },
                        &request(question.id),
                    );
                    question.tries += 1;
                    Some(now + wait)
                }
                None => {
                    (question.tries, question.again) = (0, true);
                    self.changed = true;
                    active.then_some(now + if silent { RARELY } else { REFRESH })
                }
            };
        }
        self.look();
    }

    /// Whether the one at this place never answered though its host does, by another port. (That another host answers says
    /// nothing: this one may not have been there.)
    fn is_silent(&self, at: usize) -> bool {
        let question = &self.questions[at];
        let host = question.server.ip();
        question.answer.is_none()
            && self.questions.iter().any(|other| other.server.ip() == host && other.answer.is_some())
    }

    /// Takes an answer; whether it changed what we look like.
    pub(crate) fn answered(&mut self, now: Instant, active: bool, src: SocketAddr, datagram: &[u8]) -> bool {
        let Ok((id, Endpoint(seen))) = read_answer(datagram) else { return false };
        let asked = self.questions.iter_mut().find(|q| q.tries > 0 && q.id == id && q.server == src);
        let Some(question) = asked else { return false };
        // An answer that was believed no more was not told, so the same one again is news.
        let before = question.seen(now);
        question.tries = 0;
        question.due = active.then_some(now + REFRESH);
        question.answer = Some((now, seen));
        question.since = question.since.filter(|_| before == Some(seen)).or(Some(now));
        self.changed = true;
        self.look();
        before != Some(seen)
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Some question is due at another time.
    fn look(&mut self) {
        self.next = self.questions.iter().filter(|_| !self.elsewhere).filter_map(|q| q.due).min();
    }

    /// Our reflexive endpoints, without repetitions.
    pub(crate) fn seen(&self, now: Instant) -> impl Iterator<Item = SocketAddr> + '_ {
        self.questions.iter().enumerate().filter_map(move |(at, question)| {
            let seen = question.seen(now)?;
            let repeated = self.questions[..at].iter().any(|earlier| earlier.seen(now) == Some(seen));
            (!repeated).then_some(seen)
        })
    }

    /// What of that is worth telling peers: behind a NAT that gives each destination another port the newest for each address. (None
    /// of the ports is theirs; and where only some answers are old, the newest is right.)
    pub(crate) fn worth_telling(&self, now: Instant) -> impl Iterator<Item = SocketAddr> + '_ {
        let varies = self.varies(now);
        let since = move |addr: SocketAddr| {
            self.questions.iter().filter(|q| q.seen(now) == Some(addr)).filter_map(|q| q.since).max()
        };
        self.seen(now).filter(move |addr| {
            let newer = |other: SocketAddr| other.ip() == addr.ip() && since(other) > since(*addr);
            let first = self.seen(now).find(|other| other.ip() == addr.ip() && since(*other) == since(*addr));
            !varies || addr.is_ipv6() || (!self.seen(now).any(newer) && first == Some(*addr))
        })
    }

    /// Whether the outside sees one of our IPv4 sockets at an endpoint that depends on who looks: what one server saw tells
    /// nobody else where to send to. A server on our side of the NAT says nothing about that.
    pub(crate) fn varies(&self, now: Instant) -> bool {
        let outside = |q: &Question| q.seen(now).filter(|seen| seen.is_ipv4() && !is_private(seen.ip()));
        let mut all = self.questions.iter().filter_map(|q| Some((q.socket, outside(q)?)));
        let Some((socket, first)) = all.next() else { return false };
        all.any(|(other, seen)| other == socket && seen != first)
    }

    /// Whether we are seen at this address.
    pub(crate) fn is_seen_at(&self, addr: IpAddr) -> bool {
        self.questions.iter().any(|q| q.answer.is_some_and(|(_, seen)| seen.ip() == addr))
    }
}

#[cfg(test)]
mod tests {
    use proto::stun::{answer, is_stun};
    use rand_core::OsRng;

    use super::*;

    const SEEN: &str = "198.51.100.7:40000";

    fn asked(stun: &mut Stun, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Outbox::default();
        stun.send(now, true, &mut OsRng, &mut out);
        std::iter::from_fn(|| out.poll().map(|t| t.data.to_vec())).collect()
    }

    fn stun(now: Instant) -> (Stun, SocketAddr) {
        let server: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        let mut stun = Stun::default();
        stun.set_servers(now, &[Endpoint(server)], &["0.0.0.0:51820".parse().unwrap()]);
        (stun, server)
    }

    #[test]
    fn an_unanswered_question_is_repeated_and_an_answer_is_believed_from_its_server_alone() {
        let now = Instant::now();
        let (mut stun, server) = stun(now);
        let first = asked(&mut stun, now).pop().unwrap();
        assert!(is_stun(&first) && asked(&mut stun, now).is_empty());
        assert_eq!(asked(&mut stun, now + RETRY[0]), std::slice::from_ref(&first));

        let reply = answer(&first, Endpoint(SEEN.parse().unwrap())).unwrap();
        assert!(!stun.answered(now, true, "192.0.2.9:3478".parse().unwrap(), &reply));
        assert!(stun.seen(now).next().is_none());
        assert!(stun.answered(now, true, server, &reply));
        assert!(stun.seen(now).collect::<Vec<_>>() == [SEEN.parse::<SocketAddr>().unwrap()]);
        assert!(!stun.answered(now, true, server, &reply), "an answer counts once");
    }

    #[test]
    fn an_answer_that_was_believed_no_more_is_news_when_it_comes_again() {
        let now = Instant::now();
        let (mut stun, server) = stun(now);
        let question = asked(&mut stun, now).pop().unwrap();
        let reply = answer(&question, Endpoint(SEEN.parse().unwrap())).unwrap();
        assert!(stun.answered(now, true, server, &reply));
        let later = now + VALID;
        assert!(stun.seen(later).next().is_none());
        let question = asked(&mut stun, later).pop().unwrap();
        let reply = answer(&question, Endpoint(SEEN.parse().unwrap())).unwrap();
        assert!(stun.answered(later, true, server, &reply));
    }

    #[test]
    fn another_worker_knows_what_was_seen_and_asks_nobody() {
        let now = Instant::now();
        let (mut first, server) = stun(now);
        let (mut other, _) = stun(now);
        other.asks_nobody();
        assert!(asked(&mut other, now).is_empty() && other.deadline().is_none());
        let question = asked(&mut first, now).pop().unwrap();
        assert!(first.news().is_none());
        assert!(first.answered(
            now,
            true,
            server,
            &answer(&question, Endpoint(SEEN.parse().unwrap())).unwrap()
        ));
        let news = first.news().unwrap();
        assert!(first.news().is_none() && other.learn(now, news.clone()));
        assert!(
            other.seen(now).eq(first.seen(now)) && other.is_seen_at(SEEN.parse::<SocketAddr>().unwrap().ip())
        );
        assert!(!other.learn(now, news.clone()), "it is known");
        other.ask(now, true);
        assert!(other.learn(now, news), "it was void");
        other.doubt(now);
        assert!(!other.doubted(), "it is fresh");
        other.doubt(now + DOUBT_AFTER);
        assert!(other.doubted() && !other.doubted() && other.deadline().is_none());
    }

    /// What servers saw, in this order, all of one socket.
    fn told(seen: &[&str]) -> (Stun, Instant) {
        let now = Instant::now();
        let server = |n: usize| SocketAddr::from(([192, 0, 2, 1 + n as u8], 3_478));
        let servers: Vec<_> = (0..seen.len()).map(|n| Endpoint(server(n))).collect();
        let mut stun = Stun::default();
        stun.set_servers(now, &servers, &["0.0.0.0:51820".parse().unwrap()]);
        for (n, (question, seen)) in asked(&mut stun, now).into_iter().zip(seen).enumerate() {
            let reply = answer(&question, Endpoint(seen.parse().unwrap())).unwrap();
            assert!(stun.answered(now, true, server(n), &reply));
        }
        (stun, now)
    }

    #[test]
    fn of_the_ports_that_a_hard_nat_gives_one_is_told_and_it_is_the_newest() {
        let all = ["198.51.100.7:1025", "198.51.100.7:1026", "203.0.113.9:1027", "192.168.7.1:51820"];
        let (mut stun, now) = told(&all);
        let worth = |stun: &Stun, now| stun.worth_telling(now).map(|addr| addr.port()).collect::<Vec<_>>();
        assert_eq!(worth(&stun, now), [1_025, 1_027, 51_820], "one for each address");
        let (first, _) = told(&all[..1]);
        assert_eq!(worth(&first, now), [1_025]);
        // The router gives the second server's mapping another port; the others' answers stay what they were.
        let later = now + REFRESH;
        for (n, question) in asked(&mut stun, later).into_iter().enumerate() {
            let seen = if n == 1 { "198.51.100.7:2000" } else { all[n] };
            let reply = answer(&question, Endpoint(seen.parse().unwrap())).unwrap();
            let server = SocketAddr::from(([192, 0, 2, 1 + n as u8], 3_478));
            assert_eq!(stun.answered(later, true, server, &reply), n == 1);
        }
        assert_eq!(worth(&stun, later), [2_000, 1_027, 51_820]);
    }

    #[test]
    fn who_is_seen_at_two_endpoints_is_behind_a_nat_that_gives_each_destination_its_own() {
        for (seen, varies) in [
            (&[SEEN][..], false),
            (&[SEEN, SEEN], false),
            (&[SEEN, "198.51.100.7:40001"], true),
            (&[SEEN, "198.51.100.8:40000"], true),
            (&["192.168.1.2:51820", SEEN], false),
            (&["192.168.1.2:51820", SEEN, "198.51.100.7:40001"], true),
        ] {
            let (stun, now) = told(seen);
            assert_eq!(stun.varies(now), varies, "{}", seen.len());
            assert!(!stun.varies(now + VALID));
        }
    }

    #[test]
    fn a_server_that_never_answers_is_asked_rarely_once_another_has() {
        let now = Instant::now();
        let (mut stun, server) = stun(now);
        let silent = "192.0.2.1:3479".parse().unwrap();
        stun.set_servers(now, &[Endpoint(server), Endpoint(silent)], &["0.0.0.0:51820".parse().unwrap()]);
        let question = asked(&mut stun, now).swap_remove(0);
        let reply = answer(&question, Endpoint(SEEN.parse().unwrap())).unwrap();
        assert!(stun.answered(now, true, server, &reply));
        let mut questions = 0;
        for second in 0..55 {
            questions += asked(&mut stun, now + Duration::from_secs(second)).len();
        }
        // The silent one's first tries, and at 25 s those of the one that did answer.
        assert_eq!(questions, RETRY.len() - 1 + RETRY.len());
    }

    #[test]
    fn an_idle_machine_asks_nobody_again() {
        let now = Instant::now();
        let (mut stun, server) = stun(now);
        let first = asked(&mut stun, now).pop().unwrap();
        let reply = answer(&first, Endpoint(SEEN.parse().unwrap())).unwrap();
        stun.answered(now, false, server, &reply);
        assert!(stun.deadline().is_none());
        stun.answered(now, true, server, &reply);
        stun.ask(now, false);
        let mut out = Outbox::default();
        stun.send(now, false, &mut OsRng, &mut out);
        assert!(out.poll().is_none() && stun.deadline().is_none());
        stun.ask(now, false);
        assert_eq!(asked(&mut stun, now).len(), 1, "with data again it asks");
    }

    #[test]
    fn a_question_that_nobody_answered_is_asked_no_more_once_the_data_ended() {
        let now = Instant::now();
        let (mut stun, _) = stun(now);
        let all = |stun: &mut Stun, active: bool| {
            let mut out = Outbox::default();
            (0..60_000).step_by(100).for_each(|ms| {
                stun.send(now + Duration::from_millis(ms), active, &mut OsRng, &mut out);
            });
            std::iter::from_fn(|| out.poll().map(|t| t.datagrams().count())).sum::<usize>()
        };
        let mut idle = all(&mut stun, false);
        assert_eq!(idle, RETRY.len(), "the first time whether there is data or not");
        stun.ask(now, false);
        let mut out = Outbox::default();
        (0..5_000)
            .step_by(100)
            .for_each(|ms| stun.send(now + Duration::from_millis(ms), true, &mut OsRng, &mut out));
        idle = all(&mut stun, false);
        assert_eq!(idle, 0);
        assert!(stun.deadline().is_none());
    }

    #[test]
    fn an_answer_of_some_age_is_doubted_once_when_a_path_falls_silent() {
        let now = Instant::now();
        let (mut stun, server) = stun(now);
        stun.doubt(now);
        let first = asked(&mut stun, now).pop().unwrap();
        let reply = answer(&first, Endpoint(SEEN.parse().unwrap())).unwrap();
        stun.answered(now, true, server, &reply);
        stun.doubt(now + DOUBT_AFTER / 2);
        assert!(asked(&mut stun, now + DOUBT_AFTER / 2).is_empty(), "it is young");
        let later = now + DOUBT_AFTER;
        stun.doubt(later);
        assert_eq!(asked(&mut stun, later).len(), 1);
        stun.doubt(later);
        assert!(asked(&mut stun, later).is_empty(), "it is asked already");
    }
}
