//! How long a connection may be silent until the relay is given a sign, and which sign.
//!
//! A sign serves three things. It keeps the connection in the memory of the routers on the way; it tells the relay that this machine is
//! there; and it finds out that the way is gone, after which the machine connects anew and can be reached again. For the last one, one
//! relay speaks for all: a router that forgot everything, or has another address outside, took every connection away, and as soon as
//! the first relay is lost the next one takes its place and is given the sign that it lacks. (Whoever calls a machine that sleeps asks
//! at every relay from the second time on.) So only the first relay is given one every [`ASK_FIRST_AFTER`], and the others, which need
//! no more than to be remembered, every [`ASK_SPARE_AFTER`].

use std::time::Duration;

use proto::relay::Frame;
use tokio::sync::watch;

/// Silence after which the relay is asked whether it is there, while it carries something: a connection that died without
/// a word is noticed soon.
const ASK_AFTER: Duration = Duration::from_secs(20);

/// The same for the first relay while it carries nothing: so long may a machine be out of reach behind a router that forgot
/// everything. (And less than any known router forgets a quiet connection in.)
const ASK_FIRST_AFTER: Duration = Duration::from_secs(50);

/// The same for the others. RFC 5382 (REQ-5) has routers remember a connection for over two hours; some firewalls are set to two minutes.
/// A router that starts anew and takes up connections that it finds under way lets the first relay's sign pass, and nobody hears
/// that it forgot the others: until their own signs the machine is out of reach for who has none but these. (The relay bears twice
/// the silence, its `limits`.)
const ASK_SPARE_AFTER: Duration = Duration::from_secs(110);

/// A network that takes the connection away in such a long silence so many times, one after the other, is one with a shorter memory:
/// each time costs as much as many signs. (Once, it was a router or a relay that started anew.)
const TOO_LONG: u32 = 2;

/// Of so many signs to the first relay while it carries nothing, one is a question. In place of the others goes what needs no answer: the
/// kernel's acknowledgement says that the way is there, and costs two thirds. (A proxy acknowledges for itself alone: then
/// each is a question. So is one after a long silence.)
const ASK_ONE_OF: u32 = 4;

/// The pace of the connections to one relay.
pub(super) struct Pace {
    /// Whether another relay speaks for this one.
    spare: watch::Receiver<bool>,
    /// How often its silence has ended.
    turn: u32,
    /// The silence now may be long.
    rests: bool,
    /// How many long silences the connection did not survive, one after the other.
    cut: u32,
}

impl Pace {
    pub(super) fn new(spare: watch::Receiver<bool>) -> Self {
        Self { spare, turn: 0, rests: false, cut: 0 }
    }

    /// Resolves when the relay's part becomes another one.
    pub(super) async fn changed(&mut self) {
        if self.spare.changed().await.is_err() {
            // It will not: whoever gives the parts is gone, and this connection about to end.
            std::future::pending::<()>().await;
        }
    }

    /// How long the relay may be silent from now on. `carries`: it carries something; `proxied`: by a proxy, whose patience
    /// nobody knows.
    pub(super) fn patience(&mut self, carries: bool, proxied: bool) -> Duration {
        self.rests = !carries && !proxied && *self.spare.borrow_and_update() && self.cut < TOO_LONG;
        match (carries, self.rests) {
            (true, _) => ASK_AFTER,
            (false, true) => ASK_SPARE_AFTER,
            (false, false) => ASK_FIRST_AFTER,
        }
    }

    /// What ends the silence.
    pub(super) fn sign(&mut self, carries: bool, proxied: bool) -> Frame<'static> {
        self.turn = self.turn.wrapping_add(1);
        let asks = carries || proxied || self.rests || self.turn.is_multiple_of(ASK_ONE_OF);
        if asks { Frame::Ping } else { Frame::Pong }
    }

    /// The relay said something after so long a silence.
    pub(super) fn survived(&mut self, silence: Duration) {
        if self.rests && silence > ASK_FIRST_AFTER {
            self.cut = 0;
        }
    }

    /// The connection was lost after so long a silence.
    pub(super) fn lost(&mut self, silence: Duration) {
        if self.rests && silence > ASK_FIRST_AFTER {
            self.cut += 1;
        }
    }

    /// The network around us is another one, with another memory.
    pub(super) fn moved(&mut self) {
        self.cut = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(spare: bool) -> (watch::Sender<bool>, Pace) {
        let (sender, receiver) = watch::channel(spare);
        (sender, Pace::new(receiver))
    }

    fn asked(pace: &mut Pace, carries: bool, proxied: bool) -> usize {
        (0..72).filter(|_| pace.sign(carries, proxied) == Frame::Ping).count()
    }

    #[test]
    fn an_idle_first_relay_is_asked_now_and_then_and_one_that_carries_something_each_time() {
        let (_sender, mut pace) = pace(false);
        assert_eq!(pace.patience(false, false), ASK_FIRST_AFTER);
        assert_eq!((asked(&mut pace, false, false), asked(&mut pace, true, false)), (18, 72));
        assert_eq!((pace.patience(false, true), asked(&mut pace, false, true)), (ASK_FIRST_AFTER, 72));
    }

    #[test]
    fn a_spare_relay_is_asked_rarely_unless_it_carries_something_or_a_proxy_is_between() {
        let (_sender, mut pace) = pace(true);
        assert_eq!((pace.patience(false, false), asked(&mut pace, false, false)), (ASK_SPARE_AFTER, 72));
        assert_eq!(pace.patience(true, false), ASK_AFTER);
        assert_eq!(pace.patience(false, true), ASK_FIRST_AFTER);
    }

    #[tokio::test]
    async fn a_spare_relay_that_becomes_the_first_has_the_firsts_patience() {
        let (sender, mut pace) = pace(true);
        assert_eq!(pace.patience(false, false), ASK_SPARE_AFTER);
        sender.send_replace(false);
        pace.changed().await;
        assert_eq!(pace.patience(false, false), ASK_FIRST_AFTER);
    }

    #[test]
    fn a_network_that_forgets_in_long_silences_is_given_short_ones_until_it_is_another() {
        let (_sender, mut pace) = pace(true);
        let long = ASK_SPARE_AFTER;
        let lost = |pace: &mut Pace| {
            let allowed = pace.patience(false, false);
            pace.lost(allowed);
        };
        lost(&mut pace);
        // Once is a router that started anew: the next long silence is survived.
        assert_eq!(pace.patience(false, false), long);
        pace.survived(long);
        lost(&mut pace);
        assert_eq!(pace.patience(false, false), long);
        lost(&mut pace);
        assert_eq!(pace.patience(false, false), ASK_FIRST_AFTER);
        // What becomes of short silences says nothing of long ones.
        pace.survived(ASK_FIRST_AFTER);
        assert_eq!(pace.patience(false, false), ASK_FIRST_AFTER);
        pace.moved();
        assert_eq!(pace.patience(false, false), long);
    }

    #[test]
    fn a_connection_that_is_lost_while_it_speaks_says_nothing_of_long_silences() {
        let (_sender, mut pace) = pace(true);
        for _ in 0..2 * TOO_LONG {
            pace.patience(false, false);
            pace.lost(Duration::from_secs(1));
            pace.patience(true, false);
            pace.lost(ASK_SPARE_AFTER);
        }
        assert_eq!(pace.patience(false, false), ASK_SPARE_AFTER);
    }
}
