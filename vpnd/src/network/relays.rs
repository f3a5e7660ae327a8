//! The connections to the network's relays.
//!
//! Each relay has a number, which the data path knows it by, for as long as it stands in the roster as it is: a relay that
//! is added or removed beside it costs it nothing. A number that was given up is not given to the next one at once: what
//! came from the former one may still be on its way.

use std::time::{Duration, Instant};

use proto::{
    epoch::{EpochKey, EpochKeys},
    identity::MachineKeys,
    mailbox::MailboxSecret,
    pipe::MAX_RELAYS,
    relay::{Credential, To},
    roster::{self, RelayEntry},
};
use tokio::sync::{mpsc, watch};

use crate::{
    dial::{ProxyFault, Way},
    relay::{Listen, RelayClient, RelayEvent},
};

/// A relay that was lost is back within this, most often: nobody need hear of it.
const PATIENCE: Duration = Duration::from_secs(5);

const _: () = assert!(
    MAX_RELAYS as usize >= 2 * roster::MAX_RELAYS,
    "a list of other relays has numbers beside those of the former list"
);

/// The relay clients, by number.
pub(super) struct Relays {
    relays: [Option<Relay>; MAX_RELAYS as usize],
    way: Way,
    /// When one came up or went down last.
    since: Instant,
    events: mpsc::Sender<RelayEvent>,
    credentials: watch::Sender<Vec<Credential>>,
    mailboxes: watch::Sender<Vec<Listen>>,
}

struct Relay {
    entry: RelayEntry,
    /// `None` where a URL that is none stands in the roster by a signer's mistake; the other relays serve.
    client: Option<RelayClient>,
    /// Whether the data path sends on it.
    up: bool,
    /// It said that it is about to stop.
    leaving: bool,
    /// What the proxy said, where it is why the relay cannot be reached.
    fault: Option<ProxyFault>,
}

impl Relays {
    pub(super) fn new(way: Way, credentials: Vec<Credential>, events: mpsc::Sender<RelayEvent>) -> Self {
        Self {
            relays: Default::default(),
            way,
            since: Instant::now(),
            events,
            credentials: watch::Sender::new(credentials),
            mailboxes: watch::Sender::new(Vec::new()),
        }
    }

    /// Follows a roster's list of relays: ends the connections to those that it has no more, and begins those that are new.
    /// Returns the numbers that name nothing any more; `None` if nothing changed.
    pub(super) fn follow(&mut self, entries: &[RelayEntry]) -> Option<Vec<u8>> {
        let before = self.relays.each_ref().map(|relay| relay.as_ref().map(|relay| &relay.entry));
        let after = number(&before, entries);
        if before == after {
            return None;
        }
        let after = after.map(Option::<&RelayEntry>::cloned);
        let mut gone = Vec::new();
        for (number, entry) in (0u8..).zip(after) {
            let place = usize::from(number);
            if self.relays[place].as_ref().map(|relay| &relay.entry) == entry.as_ref() {
                continue;
            }
            if self.relays[place].take().is_some() {
                gone.push(number);
            }
            self.relays[place] = entry.map(|entry| self.begin(number, entry));
        }
        self.since = Instant::now();
        self.appoint();
        Some(gone)
    }

    fn begin(&self, number: u8, entry: RelayEntry) -> Relay {
        let client = RelayClient::spawn(
            number,
            &entry,
            self.way.clone(),
            self.credentials.subscribe(),
            self.mailboxes.subscribe(),
            self.events.clone(),
        );
        Relay { entry, client: client.ok(), up: false, leaving: false, fault: None }
    }

    /// Follows the epochs: mailboxes of the present one and of those that ended are listened to.
    pub(super) fn listen(&self, keys: &MachineKeys, epochs: &EpochKeys) {
        let all = std::iter::once(epochs.present()).chain(epochs.ended().iter().map(|ended| &ended.key));
        let listen = |key: &EpochKey| Listen {
            epoch: key.name(),
            secret: MailboxSecret::new(keys.mailbox(), &key.mailbox_key()),
        };
        self.mailboxes.send_replace(all.map(listen).collect());
    }

    /// Shows the relays these credentials from now on.
    pub(super) fn admit(&self, credentials: Vec<Credential>) {
        self.credentials.send_replace(credentials);
    }

    /// The network around us changed.
    pub(super) fn retry(&self) {
        self.all().filter_map(|(_, relay)| relay.client.as_ref()).for_each(RelayClient::retry);
    }

    /// Keeps whether a relay can be sent to; false if there is none of that number any more.
    pub(super) fn set_up(&mut self, number: u8, up: bool) -> bool {
        let Some(relay) = self.get_mut(number) else { return false };
        (relay.up, relay.leaving, relay.fault) = (up, false, None);
        self.since = Instant::now();
        self.appoint();
        true
    }

    /// Keeps that a relay is about to stop.
    pub(super) fn set_leaving(&mut self, number: u8) {
        if let Some(relay) = self.get_mut(number) {
            relay.leaving = true;
        }
        self.appoint();
    }

    /// The first relay that is up and stays speaks for the others: it is the same one for most machines of a network, and so the
    /// one where they are heard first.
    fn appoint(&self) {
        let first = self.all().find(|(_, relay)| relay.up && !relay.leaving).map(|(number, _)| number);
        for (number, relay) in self.all() {
            if let Some(client) = &relay.client {
                client.set_spare(first.is_some_and(|first| first != number));
            }
        }
    }

    /// The relays that are about to stop and can be done without: nothing is to be sent on them from now on. While there
    /// is no other, they serve to the end.
    pub(super) fn abandon(&mut self) -> Vec<u8> {
        if !self.all().any(|(_, relay)| relay.up && !relay.leaving) {
            return Vec::new();
        }
        let leaving = |relay: &Relay| relay.up && relay.leaving;
        let numbers = self.all().filter(|(_, relay)| leaving(relay)).map(|(number, _)| number).collect();
        self.relays.iter_mut().flatten().filter(|relay| leaving(relay)).for_each(|relay| relay.up = false);
        numbers
    }

    /// Keeps what the proxy says of a relay.
    pub(super) fn set_fault(&mut self, number: u8, fault: Option<ProxyFault>) {
        if let Some(relay) = self.get_mut(number) {
            relay.fault = fault;
        }
    }

    /// What the proxy says of the relays that cannot be reached.
    pub(super) fn faults(&self) -> impl Iterator<Item = ProxyFault> + '_ {
        self.all().filter_map(|(_, relay)| relay.fault)
    }

    /// The relays that can be sent to.
    pub(super) fn ups(&self) -> impl Iterator<Item = u8> + '_ {
        self.all().filter(|(_, relay)| relay.up).map(|(number, _)| number)
    }

    /// Whether the network has relays and none could be reached for a while.
    pub(super) fn all_down(&self) -> bool {
        self.all().next().is_some() && self.ups().next().is_none() && self.since.elapsed() >= PATIENCE
    }

    /// A bit for each relay's number.
    pub(super) fn bits(&self) -> u8 {
        self.all().fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// The key of a relay.
    pub(super) fn key(&self, number: u8) -> Option<&[u8; 32]> {
        self.relays.get(usize::from(number))?.as_ref().map(|relay| &relay.entry.key)
    }

    /// Sends a payload, or drops it.
    pub(super) fn send(&self, number: u8, to: To, payload: &[u8]) -> bool {
        let relay = self.relays.get(usize::from(number)).and_then(Option::as_ref);
        let client = relay.and_then(|relay| relay.client.as_ref());
        client.is_some_and(|client| client.try_send(to, payload))
    }

    fn all(&self) -> impl Iterator<Item = (u8, &Relay)> {
        (0u8..).zip(&self.relays).filter_map(|(number, relay)| Some((number, relay.as_ref()?)))
    }

    fn get_mut(&mut self, number: u8) -> Option<&mut Relay> {
        self.relays.get_mut(usize::from(number))?.as_mut()
    }
}

/// Numbers what is wanted: what has a number keeps it, what is new gets one that nothing had.
fn number<'a, T: PartialEq, const N: usize>(
    before: &[Option<&'a T>; N],
    wanted: &'a [T],
) -> [Option<&'a T>; N] {
    let mut after = before.map(|known| known.filter(|known| wanted.contains(known)));
    let mut free = (0..N).filter(|place| before[*place].is_none());
    for new in wanted.iter().filter(|wanted| !before.contains(&Some(wanted))) {
        if let Some(place) = free.next() {
            after[place] = Some(new);
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_relay_keeps_its_number_while_others_come_and_go() {
        let mut numbers: [Option<&char>; 8] = [None; 8];
        let mut follow = |wanted: &'static [char]| {
            numbers = number(&numbers, wanted);
            numbers.iter().map(|known| known.copied().unwrap_or('-')).collect::<String>()
        };
        assert_eq!(follow(&['a', 'b']), "ab------");
        assert_eq!(follow(&['b', 'a', 'c']), "abc-----");
        assert_eq!(follow(&['c', 'd', 'e', 'b']), "-bcde---");
        assert_eq!(follow(&['f', 'g', 'h', 'i']), "f----ghi");
        assert_eq!(follow(&[]), "--------");
    }
}
