//! Who waits for a network's changes.
//!
//! A watcher that cannot keep up is cut off: it comes back, sees the present head first, and fetches what it missed.
//! So nothing is queued without bound, and nothing is remembered for those who are away.

use std::{
    collections::HashMap,
    convert::Infallible,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use proto::{
    coordinator::{Reason, WatchEvent},
    identity::NetworkId,
};
use tokio::{
    sync::broadcast::{self, Receiver, Sender},
    time::timeout,
};

/// How long a watch may be silent; who opens it says what it wants in between. Less would be work for nothing, and with more a machine
/// that is gone would stay for too long.
const SILENCE: RangeInclusive<Duration> = Duration::from_secs(20)..=Duration::from_secs(300);

/// Changes that may wait for a slow watcher.
const BEHIND: usize = 32;

/// Watchers of one network at most: each of its machines once, and some that have not noticed yet that they are gone.
const WATCHERS: usize = 4096;

/// An event on its way to the watchers of a network.
#[derive(Clone)]
struct Sent {
    frame: Bytes,
    /// Whether the watch ends with it.
    last: bool,
}

/// All watches.
#[derive(Default)]
pub(super) struct Hub(Mutex<HashMap<NetworkId, Sender<Sent>>>);

/// One watch.
pub(super) struct Watching(Receiver<Sent>);

impl Hub {
    /// Begins a watch.
    ///
    /// # Errors
    /// [`Reason::TooMany`].
    pub(super) fn watch(&self, network: NetworkId) -> Result<Watching, Reason> {
        let mut networks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        networks.retain(|_, sender| sender.receiver_count() > 0);
        let sender = networks.entry(network).or_insert_with(|| broadcast::channel(BEHIND).0);
        if sender.receiver_count() >= WATCHERS {
            return Err(Reason::TooMany);
        }
        Ok(Watching(sender.subscribe()))
    }

    /// Tells a network's watchers. With `last`, their watches end.
    pub(super) fn tell(&self, network: NetworkId, event: &WatchEvent, last: bool) {
        let mut networks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = networks.get(&network) else {
            return;
        };
        // An error says that nobody watches any more.
        let _ = sender.send(Sent { frame: event.to_frame().into(), last });
        if last {
            networks.remove(&network);
        }
    }

    /// Ends every watch.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Watching {
    /// The stream of events that begins with `head`, and says that it lives wherever there are none for as long as `silence`.
    pub(super) fn into_body(self, head: Vec<u8>, silence: Duration) -> UnsyncBoxBody<Bytes, Infallible> {
        let silence = bounded(silence);
        let first = Bytes::from(WatchEvent::Head(head).to_frame());
        let events = unfold((Some(first), Some(self.0)), move |(first, receiver)| async move {
            if let Some(first) = first {
                return Some((Ok(Frame::data(first)), (None, receiver)));
            }
            let mut receiver = receiver?;
            match timeout(silence, receiver.recv()).await {
                Ok(Ok(Sent { frame, last })) => {
                    Some((Ok(Frame::data(frame)), (None, (!last).then_some(receiver))))
                }
                // Too far behind, or the coordinator stops.
                Ok(Err(_)) => None,
                Err(_) => {
                    Some((Ok(Frame::data(WatchEvent::Alive.to_frame().into())), (None, Some(receiver))))
                }
            }
        });
        StreamBody::new(events).boxed_unsync()
    }
}

fn bounded(silence: Duration) -> Duration {
    silence.clamp(*SILENCE.start(), *SILENCE.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = *SILENCE.start();
    const NETWORK: NetworkId = NetworkId([1; 32]);

    #[tokio::test]
    async fn a_watch_brings_the_head_then_events_and_ends_with_the_last() {
        let hub = Hub::default();
        let body = hub.watch(NETWORK).unwrap().into_body(b"head".to_vec(), QUIET);
        hub.tell(NETWORK, &WatchEvent::Delta(b"one".to_vec()), false);
        hub.tell(NETWORK, &WatchEvent::Delta(b"two".to_vec()), true);
        hub.tell(NETWORK, &WatchEvent::Delta(b"of the next epoch".to_vec()), false);
        let mut bytes = body.collect().await.unwrap().to_bytes();
        let mut events = Vec::new();
        while let Some((event, len)) = WatchEvent::from_frame(&bytes).unwrap() {
            events.push(event);
            bytes = bytes.slice(len..);
        }
        let expected = [
            WatchEvent::Head(b"head".to_vec()),
            WatchEvent::Delta(b"one".to_vec()),
            WatchEvent::Delta(b"two".to_vec()),
        ];
        assert!(events == expected);
    }

    #[test]
    fn a_silence_is_as_long_as_is_wanted_within_bounds() {
        for (wanted, given) in [(0, 20), (50, 50), (150, 150), (u16::MAX.into(), 300)] {
            assert_eq!(bounded(Duration::from_secs(wanted)), Duration::from_secs(given));
        }
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_cut_off_and_others_hear_nothing_of_it() {
        let hub = Hub::default();
        let body = hub.watch(NETWORK).unwrap().into_body(Vec::new(), QUIET);
        for _ in 0..=BEHIND {
            hub.tell(NETWORK, &WatchEvent::Delta(vec![0; 100]), false);
        }
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), WatchEvent::Head(Vec::new()).to_frame().len());
    }

    #[tokio::test]
    async fn another_networks_events_do_not_come() {
        let hub = Hub::default();
        let body = hub.watch(NETWORK).unwrap().into_body(Vec::new(), QUIET);
        let _other = hub.watch(NetworkId([2; 32])).unwrap();
        hub.tell(NetworkId([2; 32]), &WatchEvent::Delta(vec![0; 100]), false);
        hub.close();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), WatchEvent::Head(Vec::new()).to_frame().len());
    }
}
