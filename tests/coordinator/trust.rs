//! Whom the client believes, and what it says of those who are no coordinator.

use std::{env, fs, net::Ipv4Addr, path::Path, process::Command};

use proto::identity::Pin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use relay::certificate::Certificate;
use tokio::{io::AsyncWriteExt, net::TcpListener, task::spawn_blocking};
use vpnd::coordinator::{Cause, Client, Error, Trust};

use crate::house::{House, directory, refused};

#[tokio::test]
async fn a_coordinator_whose_key_is_not_the_pinned_one_is_refused() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let client = Client::new(&house.url(), &Trust::Pinned(vec![Pin([9; 32])])).unwrap();
    let refusal = refused(client.info().await);
    assert!(matches!(refusal, Error::WrongPin), "{refusal}");
}

#[tokio::test]
async fn the_next_pin_is_as_good_as_the_present_one() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let client = Client::new(&house.url(), &Trust::Pinned(vec![Pin([9; 32]), house.pin])).unwrap();
    assert!(client.info().await.unwrap().pins == [house.pin]);
}

#[tokio::test]
async fn a_self_made_certificate_is_refused_where_nothing_is_pinned() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let client = Client::new(&house.url(), &Trust::WebPki).unwrap();
    let refusal = refused(client.info().await);
    assert!(matches!(refusal, Error::Untrusted), "{refusal}");
}

/// Set in a second run of the test below, in which the system trusts its authority.
const PORT: &str = "TACET_TEST_TRUSTED_PORT";

#[tokio::test]
async fn a_certificate_that_the_system_trusts_needs_no_pin() {
    if let Ok(port) = env::var(PORT) {
        let named = Client::new(&format!("https://localhost:{port}"), &Trust::WebPki).unwrap();
        assert!(named.info().await.unwrap().relays.is_empty());
        let other = Client::new(&format!("https://127.0.0.1:{port}"), &Trust::WebPki).unwrap();
        assert!(matches!(refused(other.info().await), Error::Untrusted));
        return;
    }
    let directory = directory();
    let file = |name: &str| directory.path().join(name);
    certify("localhost", &file("authority.pem"), &file("chain.pem"), &file("key.pem"));
    let certificate = Certificate::from_files(&file("chain.pem"), &file("key.pem")).unwrap();
    let house = House::open_with(&file("data"), Some(certificate.server_config())).await;

    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "trust::a_certificate_that_the_system_trusts_needs_no_pin"]);
    again.env("SSL_CERT_FILE", file("authority.pem")).env(PORT, house.address.port().to_string());
    let output = spawn_blocking(move || again.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Writes an authority of the test's own, and a certificate by it with its key, in PEM form.
pub(crate) fn certify(name: &str, authority: &Path, chain: &Path, key: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    fs::write(authority, issuer.pem()).unwrap();
    fs::write(chain, leaf.pem()).unwrap();
    fs::write(key, own.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_closed_port_and_a_server_without_tls_are_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(&format!("https://{address}"), &Trust::Pinned(Vec::new())).unwrap();
    let talks = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        stream
    });
    let refusal = refused(client.info().await);
    assert!(matches!(refusal, Error::Unreachable(Cause::Tls)), "{refusal}");
    drop(talks.await.unwrap());
    let refusal = refused(client.info().await);
    assert!(matches!(refusal, Error::Unreachable(Cause::Connect)), "{refusal}");
}

#[test]
fn a_url_of_a_coordinator_is_https_and_a_host() {
    for good in
        ["https://a.example", "https://a.example:8443/", "https://[2001:db8::1]:8443", "https://192.0.2.1"]
    {
        assert!(Client::new(good, &Trust::WebPki).is_ok(), "{good}");
    }
    for bad in
        ["a.example", "http://a.example", "https://a.example/x", "https://u:p@a.example", "https://a b"]
    {
        assert!(Client::new(bad, &Trust::WebPki).is_err(), "{bad}");
    }
}
