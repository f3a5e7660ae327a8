//! UPnP: the search for the router, its description, its actions.
//!
//! Anybody on the LAN may answer a search, and a description may name any URL. So answers count from the router's
//! address alone, and nothing else is connected to, whatever they say.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use proto::{
    gateway::{
        Granted,
        upnp::{
            CONFLICT, ONLY_PERMANENT, SEARCH_GROUP, SEARCH_PORT, Service, TEXT_MAX, address, error, location,
            search, services,
        },
    },
    metadata::Endpoint,
};
use rand_core::{OsRng, RngCore};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use url::{Host, Url};

use super::Place;

/// How long the router may take to answer a search that only it hears, and then one that all devices hear: these wait a
/// random part of a second first (the search's `MX`).
const SEARCHES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Answers that are looked at in one search.
const ANSWERS: usize = 16;

/// For one request over HTTP.
const REQUEST: Duration = Duration::from_secs(3);

/// Outer ports that are tried before giving up: others may be taken.
const PORTS: usize = 4;

/// Outer ports that are tried when the wanted one is taken (RFC 6335, section 6: dynamic ports).
const FIRST_PORT: u16 = 49_152;

/// Where a router takes its actions.
pub(super) struct Control {
    url: Url,
    service: Service,
    /// Whether it knows mappings for ever alone.
    permanent: bool,
}

/// A body that was answered, and whether it tells of success.
struct Said {
    success: bool,
    text: String,
}

impl Control {
    /// Finds a service of the router that maps ports and has an outer address.
    pub(super) async fn find(place: Place) -> Option<Self> {
        let description = searched(place).await?;
        let said = request(place, &description, Method::GET, None, String::new()).await?;
        for service in services(&said.text).into_iter().filter(|_| said.success) {
            let Some(url) = description.join(&service.control).ok().filter(|url| is_at(url, place.router))
            else {
                continue;
            };
            let control = Self { url, service, permanent: false };
            if control.address(place).await.is_some() {
                return Some(control);
            }
        }
        None
    }

    /// Asks for a mapping, or to keep the one that is held.
    pub(super) async fn map(
        &mut self,
        place: Place,
        port: u16,
        held: Option<Granted>,
        lifetime: u32,
    ) -> Option<Granted> {
        let address = self.address(place).await?;
        let mut external = held.map_or(port, |held| held.external.0.port());
        for _ in 0..PORTS {
            let lease = if self.permanent { 0 } else { lifetime };
            let body = self.service.ask_mapping(external, port, place.own, lease);
            let said = self.act(place, "AddPortMapping", body).await?;
            if said.success {
                let external = Endpoint((address, external).into());
                return Some(Granted { external, lifetime: lease });
            }
            match error(&said.text)? {
                ONLY_PERMANENT if !self.permanent => self.permanent = true,
                CONFLICT => external = other_port(),
                _ => return None,
            }
        }
        None
    }

    /// Gives the mapping back.
    pub(super) async fn give_back(&self, place: Place, held: Granted) {
        let body = self.service.give_back(held.external.0.port());
        let _ = self.act(place, "DeletePortMapping", body).await;
    }

    async fn address(&self, place: Place) -> Option<Ipv4Addr> {
        let said = self.act(place, "GetExternalIPAddress", self.service.ask_address()).await?;
        address(&said.text).filter(|_| said.success)
    }

    async fn act(&self, place: Place, action: &str, body: String) -> Option<Said> {
        request(place, &self.url, Method::POST, Some(self.service.soap_action(action)), body).await
    }
}

/// Any of the ports that belong to nobody.
fn other_port() -> u16 {
    FIRST_PORT + (OsRng.next_u32() % u32::from(u16::MAX - FIRST_PORT)) as u16
}

/// The URL of the router's description: first only it is asked, then the group that all devices of the LAN are in.
async fn searched(place: Place) -> Option<Url> {
    let socket = UdpSocket::bind((place.own, 0)).await.ok()?;
    for (to, wait) in [place.router, SEARCH_GROUP].into_iter().zip(SEARCHES) {
        let _ = socket.send_to(search(), (to, SEARCH_PORT)).await;
        if let Ok(Some(url)) = timeout(wait, answer(&socket, place.router)).await {
            return Some(url);
        }
    }
    None
}

async fn answer(socket: &UdpSocket, router: Ipv4Addr) -> Option<Url> {
    let mut buffer = [0; 2_048];
    for _ in 0..ANSWERS {
        // "Nobody is at this port" says nothing of the group's.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        if from.ip() != router {
            continue;
        }
        let url = location(&buffer[..len]).and_then(|url| Url::parse(url).ok());
        if let Some(url) = url.filter(|url| is_at(url, router)) {
            return Some(url);
        }
    }
    None
}

/// Whether a URL leads to the router, over HTTP.
fn is_at(url: &Url, router: Ipv4Addr) -> bool {
    url.scheme() == "http" && url.host() == Some(Host::Ipv4(router)) && url.username().is_empty()
}

/// One request on a connection of its own.
async fn request(
    place: Place,
    url: &Url,
    method: Method,
    action: Option<String>,
    body: String,
) -> Option<Said> {
    timeout(REQUEST, async {
        let at = SocketAddr::from((place.router, url.port_or_known_default()?));
        let tcp = TcpStream::connect(at).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
        let driver = tokio::spawn(connection);
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = Request::builder().method(method).uri(path).header(HOST, at.to_string());
        if let Some(action) = action {
            request =
                request.header("SOAPAction", action).header("Content-Type", "text/xml; charset=\"utf-8\"");
        }
        let answered = async {
            let response =
                sender.send_request(request.body(Full::new(Bytes::from(body))).ok()?).await.ok()?;
            let success = response.status().is_success();
            let body = Limited::new(response.into_body(), TEXT_MAX).collect().await.ok()?.to_bytes();
            Some(Said { success, text: String::from_utf8_lossy(&body).into_owned() })
        };
        let said = answered.await;
        driver.abort();
        said
    })
    .await
    .ok()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_router_is_connected_to_whatever_a_url_says() {
        let router = Ipv4Addr::new(192, 168, 1, 1);
        let description = Url::parse("http://192.168.1.1:5000/root.xml").unwrap();
        for good in ["/ctl", "ctl?x", "http://192.168.1.1:49152/ctl"] {
            assert!(is_at(&description.join(good).unwrap(), router), "{good}");
        }
        for bad in [
            "http://192.168.1.2/ctl",
            "//10.0.0.1/",
            "https://192.168.1.1/",
            "file:///etc/passwd",
            "http://router/",
        ] {
            assert!(!is_at(&description.join(bad).unwrap(), router), "{bad}");
        }
    }
}
