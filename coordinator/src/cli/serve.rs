//! `coordinator serve`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use proto::{coordinator::RelayOffer, identity::Pin, relay::RelayKeyFile};
use rand_core::OsRng;
use relay::{
    Relay,
    listener::Listener,
    stun::StunServer,
    tls::{self, Authority},
};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::{Data, Failure, Output, program, url};
use crate::{
    clock::today,
    server::Coordinator,
    store::{PublicAddress, Store},
};

/// Runs the coordinator.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    coordinator serve --public-url https://vpn.example.org\n  \
    coordinator serve --data-dir ./data --listen '[::]:8443' --public-url https://192.0.2.1:8443\n  \
    coordinator serve --public-url https://vpn.example.org --tls-cert chain.pem --tls-key key.pem\n\n\
    Without --tls-cert, machines know the coordinator by its long-lived key, whose hash is in every token. With it, restart after each renewal.\n\
    Open TCP 443 and UDP 3478, or the ports you chose, in the firewall. Then: coordinator enrol")]
pub(super) struct Serve {
    #[command(flatten)]
    data: Data,
    /// Where to listen for machines (TCP).
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:443")]
    listen: SocketAddr,
    /// How machines reach it: https://HOST or https://HOST:PORT. Remembered from the start before.
    #[arg(long, value_name = "URL", value_parser = url::parse)]
    public_url: Option<String>,
    /// A certificate chain in PEM form that machines' systems trust.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Run neither a relay nor a STUN server.
    #[arg(long)]
    no_relay: bool,
    /// Where to answer machines that ask how they are seen (UDP).
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:3478", conflicts_with = "no_relay")]
    stun_listen: SocketAddr,
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    pin: Option<String>,
    listen: SocketAddr,
    stun_listen: Option<SocketAddr>,
    open: Vec<String>,
}

impl Serve {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the coordinator cannot start");
        let dir = self.data.dir();
        let _lock = dir.lock().map_err(&failed)?;
        let store = dir.create_or_open().await.map_err(&failed)?;
        let address = self.address(&store).await?;
        let secrets = store.secrets(&mut OsRng).await.map_err(&failed)?;

        let authority = Authority::new(secrets.authority.clone());
        let pin = address.pinned.then(|| Pin(authority.pin()));
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => tls::from_files(certificate, key),
            _ => authority.server_config(&[url::host(&address.url)]),
        };
        let tls = tls.map_err(|error| {
            Failure::new("the coordinator cannot start", error.to_string(), "check --tls-cert and --tls-key")
        })?;
        let (listener, listen) = bind(self.listen, |address| {
            let listener = Listener::bind(address, tls.clone())?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        })
        .map_err(|error| Failure::bind("TCP", self.listen, "--listen", &error))?;

        let mut stun_listen = None;
        let mut relay = None;
        if !self.no_relay {
            let (stun, bound) = bind(self.stun_listen, |address| {
                let stun = StunServer::bind(address)?;
                let bound = stun.local_addr()?;
                Ok((stun, bound))
            })
            .map_err(|error| Failure::bind("UDP", self.stun_listen, "--stun-listen", &error))?;
            tokio::spawn(stun.serve());
            stun_listen = Some(bound);
            let admission = secrets.issuer.admission_key().clone();
            let run = Relay::new(RelayKeyFile { relay: secrets.relay, admission }, today);
            let offer =
                RelayOffer { url: address.url.clone(), key: run.public_key(), stun_port: Some(bound.port()) };
            relay = Some((offer, run));
        }

        store.set_public_address(&address).await.map_err(&failed)?;
        let pins = pin.into_iter().collect();
        let coordinator = Coordinator::new(store.clone(), secrets.opaque, secrets.issuer, pins, relay);
        let stop = stop(Arc::clone(&coordinator)).map_err(|_| {
            Failure::new("the coordinator cannot start", "signals cannot be handled", "start it again")
        })?;
        self.announce(out, &address, pin, listen, stun_listen)?;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        listener.serve(move |request| Arc::clone(&coordinator).answer(request), stop).await;
        store.close().await;
        Ok(())
    }

    /// How machines reach it: as told now, or else as told before.
    async fn address(&self, store: &Store) -> Result<PublicAddress, Failure> {
        let before = store.public_address().await.map_err(Failure::store("the coordinator cannot start"))?;
        let url = self.public_url.clone().or(before.map(|before| before.url)).ok_or_else(|| {
            Failure::new(
                "the coordinator cannot start",
                "it is not known how machines will reach it",
                "say so once with --public-url https://HOST (a name or an address of this host)",
            )
        })?;
        Ok(PublicAddress { url, pinned: self.tls_cert.is_none() })
    }

    fn announce(
        &self,
        out: &Output,
        address: &PublicAddress,
        pin: Option<Pin>,
        listen: SocketAddr,
        stun_listen: Option<SocketAddr>,
    ) -> Result<(), Failure> {
        let mut open = vec![format!("TCP {}", listen.port())];
        open.extend(stun_listen.map(|stun| format!("UDP {}", stun.port())));
        let pin = pin.map(|pin| data_encoding::HEXLOWER.encode(&pin.0));
        let trust = pin.as_ref().map_or("by its certificate".to_owned(), |pin| format!("by its key, {pin}"));
        let relay = if stun_listen.is_some() { "with a relay and a STUN server" } else { "without a relay" };
        let mut text = format!(
            "Coordinator at {}, {relay}. Machines know it {trust}.\n\nOpen in the firewall: {}\n",
            address.url,
            open.join(", ")
        );
        let public = url::port(&address.url);
        if public != listen.port() {
            text += &format!("Forward TCP {public} of {} to TCP {}\n", address.url, listen.port());
        }
        text +=
            &format!("Next, for a token that makes an account: {} enrol{}\n", program(), self.data.flags());
        out.show(&Document { url: &address.url, pin, listen, stun_listen, open }, &text)
    }
}

/// Binds `address`; all of IPv4 if that is all of IPv6 on a host without it.
fn bind<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    /// `EAFNOSUPPORT`: the kernel has no IPv6.
    const NO_SUCH_FAMILY: i32 = 97;
    match bind(address) {
        Err(error) if error.raw_os_error() == Some(NO_SUCH_FAMILY) && address.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// Resolves at SIGTERM or SIGINT, having told all who wait.
fn stop(coordinator: Arc<Coordinator>) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        coordinator.stop();
    })
}
