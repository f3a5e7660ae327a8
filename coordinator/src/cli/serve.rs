//! `coordinator serve`.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use proto::{coordinator::RelayOffer, identity::Pin, relay::RelayKeyFile};
use rand_core::OsRng;
use relay::{
    Relay,
    certificate::Certificate,
    listener::Port,
    ready::Ready,
    stun::StunServer,
    tls::{Authority, TlsError},
};
use sandbox::{
    Missing,
    user::{self, Nothing, User},
};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{DATA_DIR, Data, Failure, Output, program, url};
use crate::{
    clock::today,
    message::Message,
    server::Coordinator,
    store::{DataDir, Lock, PublicAddress, Store, StoreError},
    walls::{self, Needs},
};

/// The account that the packages make for it, and whose home [`DATA_DIR`] is.
const ACCOUNT: &str = "tacet-coordinator";

/// Runs the coordinator.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tacet-coordinator serve --public-url https://vpn.example.org\n  \
    tacet-coordinator serve --data-dir ./data --listen '[::]:8443' --public-url https://192.0.2.1:8443\n  \
    tacet-coordinator serve --public-url https://vpn.example --tls-cert chain.pem --tls-key key.pem\n\n\
    Without --tls-cert, machines know the coordinator by its long-lived key, whose hash is in every token. With it, the \
    files are read again twice a day and at SIGHUP: keep them in a folder of their own, readable by the account it runs as.\n\n\
    Before it serves it gives up root and every capability, and confines itself with Landlock and seccomp: it can write \
    in its data directory alone. Started as root it goes on as the owner of that directory.\n\n\
    As a service it finds its options in /etc/tacet/coordinator.env (PUBLIC_URL=…, OPTIONS=…): systemctl enable --now \
    tacet-coordinator.\n\n\
    Open TCP 443 and UDP 3478, or the ports you chose, in the firewall; the next UDP port too, if you can: it helps \
    machines behind the strictest NATs. Then: tacet-coordinator enrol")]
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
    /// Run even where the kernel lacks Landlock or seccomp, without being locked down by them.
    #[arg(long)]
    allow_unsandboxed: bool,
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
        let failed = Failure::store(CANNOT_START);
        let dir = self.data.dir();
        let fresh = !dir.has_database();
        if fresh && self.public_url.is_none() {
            // Before anything is made.
            return Err(address_unknown());
        }
        dir.refuse_newer().map_err(&failed)?;
        let lock = if fresh { None } else { Some(dir.lock().map_err(&failed)?) };
        let missing = self.missing()?;
        let doors = Doors::open(&self)?;
        let lock = match lock {
            Some(lock) => lock,
            None => make(&dir).map_err(&failed)?,
        };
        self.lock_down(&dir, &doors, missing)?;

        let store = dir.create_or_open(&lock).await.map_err(&failed)?;
        let address = self.address(&store).await?;
        let secrets = store.secrets(&mut OsRng).await.map_err(&failed)?;
        let authority = Authority::new(secrets.authority.clone());
        let pin = address.pinned.then(|| Pin(authority.pin()));
        let Doors { port, listen, stun, certificate, signals, ready, nothing } = doors;
        let tls = match &certificate {
            Some(certificate) => certificate.server_config(),
            None => authority.server_config(&[url::host(&address.url)]).map_err(unusable_certificate)?,
        };
        let mut stun_listen = None;
        let mut relay = None;
        if let Some((stun, bound)) = stun {
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
        let listener = port.listen(tls).map_err(|error| Failure::bind("TCP", listen, "--listen", &error))?;
        self.announce(out, &address, pin, listen, stun_listen)?;
        // From now on it has nothing to say but its few sentences.
        let _ = nothing.as_output();
        drop(nothing);
        ready.say();
        let stop = signals.stop(Arc::clone(&coordinator), certificate);
        listener.serve(move |request| Arc::clone(&coordinator).answer(request), stop).await;
        store.close().await;
        Ok(())
    }

    /// What to do where the kernel lacks a wall, having said so.
    fn missing(&self) -> Result<Missing, Failure> {
        match (sandbox::available(), self.allow_unsandboxed) {
            (Ok(()), _) => Ok(Missing::Refuse),
            (Err(_), true) => {
                Message::Unsandboxed.print();
                Ok(Missing::Allow)
            }
            (Err(error), false) => Err(Failure::new(
                CANNOT_START,
                format!("{error}; without it the coordinator would not be locked down"),
                "update the kernel, or pass --allow-unsandboxed",
            )),
        }
    }

    fn lock_down(&self, dir: &DataDir, doors: &Doors, missing: Missing) -> Result<(), Failure> {
        let certificates = doors.certificate.as_ref().map(Certificate::folders).unwrap_or_default();
        let user = owner(dir).map_err(Failure::store(CANNOT_START))?;
        let needs = Needs { user, data: dir, certificates: &certificates };
        walls::put_up(&needs, missing).map_err(|error| {
            Failure::new(
                CANNOT_START,
                format!("it could not be locked down: {error}"),
                "start it as root, or as the owner of its data directory",
            )
        })?;
        if doors.certificate.as_ref().is_some_and(|certificate| certificate.read_again().is_err()) {
            Message::CertificateUnreadable.print();
        }
        Ok(())
    }

    /// How machines reach it: as told now, or else as told before.
    async fn address(&self, store: &Store) -> Result<PublicAddress, Failure> {
        let before = store.public_address().await.map_err(Failure::store(CANNOT_START))?;
        let url = self.public_url.clone().or(before.map(|before| before.url)).ok_or_else(address_unknown)?;
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
        if let Some(next) = stun_listen.and_then(|stun| stun.port().checked_add(1)) {
            text += &format!("And UDP {next} too, if you can: it helps machines behind the strictest NATs\n");
        }
        let public = url::port(&address.url);
        if public != listen.port() {
            text += &format!("Forward TCP {public} of {} to TCP {}\n", address.url, listen.port());
        }
        text +=
            &format!("Next, for a token that makes an account: {} enrol{}\n", program(), self.data.flags());
        out.show(&Document { url: &address.url, pin, listen, stun_listen, open }, &text)
    }
}

/// All that takes root, a path or a socket to get, and comes before the walls.
struct Doors {
    port: Port,
    listen: SocketAddr,
    stun: Option<(StunServer, SocketAddr)>,
    certificate: Option<Certificate>,
    signals: Signals,
    ready: Ready,
    nothing: Nothing,
}

impl Doors {
    fn open(serve: &Serve) -> Result<Self, Failure> {
        let certificate = match (&serve.tls_cert, &serve.tls_key) {
            (Some(chain), Some(key)) => {
                Some(Certificate::from_files(chain, key).map_err(unusable_certificate)?)
            }
            _ => None,
        };
        let port = Port::bind(serve.listen).and_then(|port| Ok((port.local_addr()?, port)));
        let (listen, port) = port.map_err(|error| Failure::bind("TCP", serve.listen, "--listen", &error))?;
        let stun = if serve.no_relay {
            None
        } else {
            let stun = StunServer::bind(serve.stun_listen).and_then(|stun| Ok((stun.local_addr()?, stun)));
            let (bound, stun) =
                stun.map_err(|error| Failure::bind("UDP", serve.stun_listen, "--stun-listen", &error))?;
            Some((stun, bound))
        };
        let system =
            |_| Failure::new(CANNOT_START, "the system refuses signals or /dev/null", "start it again");
        let signals = Signals::of_this_process().map_err(system)?;
        let nothing = Nothing::open().map_err(system)?;
        nothing.as_input().map_err(system)?;
        Ok(Self { port, listen, stun, certificate, signals, ready: Ready::prepare(), nothing })
    }
}

const CANNOT_START: &str = "the coordinator cannot start";

fn address_unknown() -> Failure {
    Failure::new(
        CANNOT_START,
        "it is not known how machines will reach it",
        "say so once with --public-url https://HOST (a name or an address of this host)",
    )
}

fn unusable_certificate(error: TlsError) -> Failure {
    Failure::new(CANNOT_START, error.to_string(), "check --tls-cert and --tls-key")
}

/// A data directory for a first start, locked. Root makes the usual one for the account that the packages make.
fn make(dir: &DataDir) -> Result<Lock, StoreError> {
    let new = !dir.path().exists();
    if new && dir.path() == Path::new(DATA_DIR) && user::is_root() {
        let account = user::named(ACCOUNT).ok().flatten();
        dir.make()?;
        if let Some(account) = account {
            dir.give_to((account.uid, account.gid))?;
        }
    }
    dir.lock()
}

/// Whom to run as, where root started it: the owner of the data directory.
fn owner(dir: &DataDir) -> Result<Option<User>, StoreError> {
    if !user::is_root() {
        return Ok(None);
    }
    let (uid, gid) = dir.owner()?;
    Ok((uid != 0).then_some(User { uid, gid }))
}

/// What an operator signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at SIGTERM or SIGINT, having told all who wait. Until then SIGHUP has the certificate read again.
    fn stop(
        self,
        coordinator: Arc<Coordinator>,
        certificate: Option<Certificate>,
    ) -> impl Future<Output = ()> {
        let Self { mut terminate, mut interrupt, hangup } = self;
        if let Some(certificate) = certificate {
            let told = |read: Result<(), TlsError>| {
                if read.is_err() {
                    Message::CertificateUnusable.print();
                }
            };
            tokio::spawn(certificate.keep_fresh(hangup, told));
        }
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            coordinator.stop().await;
        }
    }
}
