//! A relay on loopback, the coordinator that issues for it, machines, and somebody in the middle.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use proto::{
    epoch::EpochName,
    mailbox::{MailboxSecret, mailbox_of},
    relay::{Credential, CredentialIssuer, Handle, PATH, RelayKeyFile, To, UPGRADE, month_of},
    roster::RelayEntry,
};
use rand_core::OsRng;
use relay::{
    Relay,
    listener::Listener,
    tls::{self, Authority},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    version::TLS13,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
pub(crate) use vpnd::relay::RelayEvent as Event;
use vpnd::relay::{Listen, RelayClient, calendar::Clock};

/// The relay's day, and its noon.
const TODAY: u32 = 20_000;
pub(crate) const NOON: u64 = TODAY as u64 * 86_400 + 43_200;

/// The epoch that machines listen in unless told otherwise.
const EPOCH: u8 = 9;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn noon() -> u64 {
    NOON
}

pub(crate) fn epoch(number: u8) -> EpochName {
    EpochName([number; 32])
}

pub(crate) struct House {
    keys: RelayKeyFile,
    issuer: CredentialIssuer,
    address: SocketAddr,
    running: Option<Running>,
    passed: Arc<AtomicUsize>,
}

struct Running {
    relay: Arc<Relay>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl House {
    pub(crate) async fn start() -> Self {
        let issuer = CredentialIssuer::generate(&mut OsRng);
        let keys = RelayKeyFile::generate(issuer.admission_key(), &mut OsRng);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut house = Self { keys, issuer, address, running: None, passed: Arc::default() };
        house.begin().await;
        house
    }

    pub(crate) async fn begin(&mut self) {
        let relay = Relay::new(self.keys.clone(), || TODAY);
        let tls =
            Authority::new(SigningKey::generate(&mut OsRng)).server_config(&["relay.test".into()]).unwrap();
        let listener = Listener::bind(self.address, tls).unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let answering = Arc::clone(&relay);
        let handler = move |request: Request<Incoming>| {
            let response = answering.answer(request);
            async { response }
        };
        let serving = tokio::spawn(listener.serve(handler, async { drop(stopped.await) }));
        self.running = Some(Running { relay, stop, serving });
    }

    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.relay.stop();
        running.stop.send(()).unwrap();
        running.serving.await.unwrap();
    }

    /// Ends as SIGTERM has it end.
    pub(crate) async fn leave(&mut self) {
        self.running.as_ref().unwrap().relay.leave().await;
        self.stop().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.begin().await;
    }

    pub(crate) fn epoch(&self) -> EpochName {
        epoch(EPOCH)
    }

    pub(crate) fn credential(&self) -> Credential {
        self.issuer.issue(&[1; 32], month_of(TODAY))
    }

    fn key(&self) -> [u8; 32] {
        self.keys.relay.verifying_key().to_bytes()
    }

    /// Where the others reach machine `number`.
    pub(crate) fn mailbox_of(&self, number: u8) -> To {
        self.mailbox_in(number, EPOCH)
    }

    pub(crate) fn mailbox_in(&self, number: u8, epoch: u8) -> To {
        let public = SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes();
        To::Mailbox(mailbox_of(&public, &[epoch; 32], &self.key(), TODAY).unwrap())
    }

    pub(crate) fn listen_in(&self, number: u8, epoch_number: u8) -> Listen {
        let key = SigningKey::from_bytes(&[number; 32]);
        Listen { epoch: epoch(epoch_number), secret: MailboxSecret::new(&key, &[epoch_number; 32]) }
    }

    pub(crate) fn machine(&self, number: u8) -> Plan {
        Plan {
            entry: RelayEntry { url: format!("https://{}", self.address), key: self.key(), stun_port: None },
            credentials: vec![self.credential()],
            listen: self.listen_in(number, EPOCH),
            clock: noon,
        }
    }

    /// Somebody who ends machines' TLS with a certificate of their own, and passes all frames on to the relay and
    /// back. Their address.
    pub(crate) async fn middle_with_another_certificate(&self) -> SocketAddr {
        let tls =
            Authority::new(SigningKey::generate(&mut OsRng)).server_config(&["relay.test".into()]).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).unwrap();
        let address = listener.local_addr().unwrap();
        let (relay, passed) = (self.address, Arc::clone(&self.passed));
        let handler = move |mut request: Request<Incoming>| {
            let passed = Arc::clone(&passed);
            async move {
                let far = dial(relay).await;
                tokio::spawn(async move {
                    let mut near = TokioIo::new(upgrade::on(&mut request).await.unwrap());
                    let mut far = TokioIo::new(far);
                    passed.fetch_add(1, Ordering::Relaxed);
                    drop(copy_bidirectional(&mut near, &mut far).await);
                });
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("connection", "upgrade".parse().unwrap());
                response.headers_mut().insert("upgrade", UPGRADE.parse().unwrap());
                response
            }
        };
        tokio::spawn(listener.serve(handler, std::future::pending()));
        address
    }

    /// A way to the relay that is taken away from under its connections, as a router does that forgot them, whenever somebody says so.
    pub(crate) async fn fragile_way(&self) -> (SocketAddr, Arc<Notify>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, relay, cut) = (listener.local_addr().unwrap(), self.address, Arc::new(Notify::new()));
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(relay).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = cuts.notified() => near.set_zero_linger().unwrap(),
                }
            }
        });
        (address, cut)
    }

    /// A way to the relay on which the first `lost` connections get nowhere: what is said on them is lost.
    pub(crate) async fn lossy_way(&self, lost: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, relay) = (listener.local_addr().unwrap(), self.address);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut near, _)) = listener.accept().await {
                if kept.len() < lost {
                    kept.push(near);
                    continue;
                }
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(relay).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        address
    }

    pub(crate) fn passed_the_middle(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }
}

/// A machine to be.
pub(crate) struct Plan {
    entry: RelayEntry,
    credentials: Vec<Credential>,
    listen: Listen,
    clock: Clock,
}

impl Plan {
    pub(crate) fn expecting(mut self, key: [u8; 32]) -> Self {
        self.entry.key = key;
        self
    }

    pub(crate) fn through(mut self, address: SocketAddr) -> Self {
        self.entry.url = format!("https://{address}");
        self
    }

    pub(crate) fn with_credentials_of(mut self, issuer: &CredentialIssuer) -> Self {
        self.credentials = vec![issuer.issue(&[1; 32], month_of(TODAY))];
        self
    }

    pub(crate) fn without_credentials(mut self) -> Self {
        self.credentials.clear();
        self
    }

    pub(crate) fn at(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn start(self) -> Machine {
        let credentials = watch::Sender::new(self.credentials);
        let mailboxes = watch::Sender::new(vec![self.listen]);
        let (sender, events) = mpsc::channel(1_024);
        let client = RelayClient::spawn_with_clock(
            0,
            &self.entry,
            vpnd::dial::Way::default(),
            credentials.subscribe(),
            mailboxes.subscribe(),
            sender,
            self.clock,
        );
        Machine { client: client.unwrap(), credentials, mailboxes, events }
    }

    pub(crate) async fn up(self) -> Machine {
        let mut machine = self.start();
        assert!(matches!(machine.next().await, Event::Up { relay: 0 }));
        machine
    }
}

pub(crate) struct Machine {
    client: RelayClient,
    pub(crate) credentials: watch::Sender<Vec<Credential>>,
    pub(crate) mailboxes: watch::Sender<Vec<Listen>>,
    events: mpsc::Receiver<Event>,
}

impl Machine {
    pub(crate) fn client(&self) -> &RelayClient {
        &self.client
    }

    pub(crate) fn send(&self, to: To, payload: &[u8]) {
        assert!(self.client.try_send(to, payload), "the relay is up and nothing waits");
    }

    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<Event> {
        timeout(time, self.events.recv()).await.ok().map(|event| event.unwrap())
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.next_within(PATIENCE).await.expect("something must happen")
    }

    pub(crate) async fn payload(&mut self) -> (Option<EpochName>, Handle, Bytes) {
        let Event::Recv { relay: 0, epoch, handle, payload } = self.next().await else {
            panic!("a payload must come");
        };
        (epoch, handle, payload)
    }
}

/// An upgraded connection to the relay, whatever certificate it shows.
async fn dial(address: SocketAddr) -> upgrade::Upgraded {
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Anything));
    let tcp = TcpStream::connect(address).await.unwrap();
    let tls =
        TlsConnector::from(Arc::new(config)).connect("relay.test".try_into().unwrap(), tcp).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(PATH)
        .header("host", "relay.test")
        .header("connection", "upgrade")
        .header("upgrade", UPGRADE)
        .body(Empty::<Bytes>::new());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    upgrade::on(response).await.unwrap()
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        content: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13_signature(content, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
