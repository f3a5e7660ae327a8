//! A port of the router's outer address that leads to this machine's data path, so that peers behind the strictest NATs
//! reach it directly.
//!
//! The router is the one that packets go to by default; nobody else is asked or believed. It is asked by PCP and NAT-PMP
//! at once, and by UPnP where it knows neither ([`proto::gateway`]). What it grants is renewed at half of its time, which
//! also brings it back after a restart of the router, and given back when the network goes down. A machine whose
//! own address is public is behind no NAT, and asks nobody. Nothing of it is stored.

mod pmp;
mod question;
mod upnp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use netio::netlink::Netlink;
use proto::{
    gateway::{Granted, PORT},
    metadata::Endpoint,
};
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::question::{Asked, ask};

/// What is asked for. A router that was restarted has the mapping back within half of it, and one whose machine has vanished
/// keeps it no longer than that.
const LIFETIME: Duration = Duration::from_secs(1_200);

/// Between two looks at a mapping that the router ends sooner, or never.
const RENEW: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// Between two tries at a router that grants nothing: it may be starting; then nobody will change its settings soon.
const RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3_600));

/// Routes change in bursts; the last change counts.
const SETTLE: Duration = Duration::from_millis(500);

/// A mapping that was granted just now is not asked for again because something else came up with it.
const FRESH: Duration = Duration::from_secs(10);

/// For giving a mapping back, when the network goes down.
const GOODBYE: Duration = Duration::from_secs(1);

/// The task that keeps a mapping. It ends when this is dropped, and the mapping by itself then.
pub(crate) struct Mapper {
    look: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A router, and this machine's address towards it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    router: Ipv4Addr,
    own: Ipv4Addr,
}

/// A mapping, and how it was had.
struct Held {
    place: Place,
    means: Means,
    granted: Granted,
    at: Instant,
}

enum Means {
    Pmp(pmp::Session),
    Upnp(upnp::Control),
}

struct Keeper {
    netlink: Netlink,
    /// The network's own interface, beyond which no router of the underlay is.
    link: u32,
    /// The data path's port.
    port: u16,
    told: Option<Endpoint>,
    events: mpsc::Sender<Option<Endpoint>>,
    held: Option<Held>,
    /// Where nothing was granted, how often in a row, and when it is asked again.
    refused: Option<(Place, u32, Instant)>,
}

impl Mapper {
    /// Starts to keep a mapping for this UDP port; each one that leads here, or none, is told.
    pub(crate) fn start(
        netlink: Netlink,
        link: u32,
        port: u16,
        events: mpsc::Sender<Option<Endpoint>>,
    ) -> Self {
        let look = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { netlink, link, port, told: None, events, held: None, refused: None };
        let task = tokio::spawn(keeper.run(Arc::clone(&look), stopped));
        Self { look, stop, task }
    }

    /// Something around us has changed: the router may be another one, or may have forgotten.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Gives the mapping back.
    pub(crate) async fn stop(mut self) {
        let (stop, _) = oneshot::channel();
        let _ = std::mem::replace(&mut self.stop, stop).send(());
        let _ = timeout(GOODBYE, &mut self.task).await;
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    async fn run(mut self, look: Arc<Notify>, mut stopped: oneshot::Receiver<()>) {
        loop {
            let next = tokio::select! {
                next = self.keep() => next,
                _ = &mut stopped => return self.give_back().await,
            };
            tokio::select! {
                () = sleep(next) => {}
                () = look.notified() => sleep(SETTLE).await,
                _ = &mut stopped => return self.give_back().await,
            }
        }
    }

    /// Makes or renews the mapping; when to look again.
    async fn keep(&mut self) -> Duration {
        let place = place(&self.netlink, Some(self.link)).await;
        // One at another router cannot be given back from here; it ends by itself.
        self.held = self.held.take().filter(|held| Some(held.place) == place);
        let Some(place) = place else {
            self.tell(None).await;
            return RETRY.1;
        };
        match self.renewed().await {
            Some(true) => return self.told_and_next().await,
            Some(false) => {}
            None => {
                if let Some((_, _, due)) = self.refused.filter(|(refused, _, _)| *refused == place)
                    && due > Instant::now()
                {
                    return due - Instant::now();
                }
            }
        }
        self.held = make(place, self.port).await;
        if self.held.is_some() {
            self.refused = None;
            return self.told_and_next().await;
        }
        let times = self.refused.filter(|(refused, _, _)| *refused == place).map_or(0, |(_, times, _)| times);
        let pause = RETRY.0.saturating_mul(4u32.saturating_pow(times)).min(RETRY.1);
        self.refused = Some((place, times + 1, Instant::now() + pause));
        self.tell(None).await;
        pause
    }

    /// Renews what is held: whether that went well. `None` if nothing is held.
    async fn renewed(&mut self) -> Option<bool> {
        let port = self.port;
        let held = self.held.as_mut()?;
        if held.at.elapsed() < FRESH {
            return Some(true);
        }
        let lifetime = LIFETIME.as_secs() as u32;
        let granted = match &mut held.means {
            Means::Pmp(session) => session.map(held.place, port, Some(held.granted), lifetime).await,
            Means::Upnp(control) => control.map(held.place, port, Some(held.granted), lifetime).await,
        };
        let renewed = granted.is_some();
        if let Some(granted) = granted {
            (held.granted, held.at) = (granted, Instant::now());
        }
        Some(renewed)
    }

    /// Tells what is held; when it is to be renewed.
    async fn told_and_next(&mut self) -> Duration {
        let Some(held) = &self.held else { return RETRY.1 };
        let (external, lifetime) = (held.granted.external, held.granted.lifetime);
        self.tell(Some(external)).await;
        let half = Duration::from_secs(u64::from(lifetime) / 2);
        if lifetime == 0 { RENEW.1 } else { half.clamp(RENEW.0, RENEW.1) }
    }

    async fn tell(&mut self, endpoint: Option<Endpoint>) {
        if self.told != endpoint {
            self.told = endpoint;
            // Whoever listens outlives this task.
            let _ = self.events.send(endpoint).await;
        }
    }

    async fn give_back(&mut self) {
        let Some(held) = self.held.take() else { return };
        match held.means {
            Means::Pmp(mut session) => session.give_back(held.place, self.port, held.granted).await,
            Means::Upnp(control) => control.give_back(held.place, held.granted).await,
        }
    }
}

/// Asks a router in all the ways that there are.
async fn make(place: Place, port: u16) -> Option<Held> {
    let lifetime = LIFETIME.as_secs() as u32;
    let mut session = pmp::Session::default();
    if let Some(granted) = session.map(place, port, None, lifetime).await {
        return Some(Held { place, means: Means::Pmp(session), granted, at: Instant::now() });
    }
    let mut control = upnp::Control::find(place).await?;
    let granted = control.map(place, port, None, lifetime).await?;
    Some(Held { place, means: Means::Upnp(control), granted, at: Instant::now() })
}

/// The router, and our address towards it; `None` where there is none, or no NAT between.
async fn place(netlink: &Netlink, except: Option<u32>) -> Option<Place> {
    let router = netlink.gateway(except).await.ok().flatten()?;
    let socket = socket_to(router).await?;
    let IpAddr::V4(own) = socket.local_addr().ok()?.ip() else { return None };
    is_translated(own).then_some(Place { router, own })
}

/// A socket that hears the router's port for mappings and nobody else.
async fn socket_to(router: Ipv4Addr) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(SocketAddr::from((router, PORT))).await.ok()?;
    Some(socket)
}

/// Whether packets from this address are translated on their way out: those of RFC 1918, RFC 6598 and no others.
fn is_translated(own: Ipv4Addr) -> bool {
    let [first, second, ..] = own.octets();
    own.is_private() || (first == 100 && second & 0xc0 == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_behind_a_nat_is_anybody_asked() {
        for inside in ["10.1.2.3", "172.31.0.1", "192.168.1.10", "100.64.0.2", "100.127.255.254"] {
            assert!(is_translated(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["203.0.113.9", "172.32.0.1", "100.128.0.1", "127.0.0.1", "169.254.0.1"] {
            assert!(!is_translated(outside.parse().unwrap()), "{outside}");
        }
    }
}
