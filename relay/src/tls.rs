//! What a server shows in TLS.
//!
//! Without a certificate of its own, a server has an [`Authority`]: a long-lived Ed25519 key whose hash machines pin.
//! At each start it makes a fresh TLS key, which exists in memory only, and certifies it under the authority. The
//! certificates have no end that matters: the pin is what is trusted, and the TLS key dies with the process.
//!
//! TLS 1.3 alone, X25519MLKEM768 preferred. No session tickets: they would let an observer link a machine's
//! connections, and save little between connections that stay open for hours.

use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

/// The one application protocol.
const ALPN: &[u8] = b"http/1.1";

/// Why a server has nothing to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file does not exist, may not be read, or holds no certificate in PEM form.
    #[error(
        "the certificate file could not be read: it must hold a chain in PEM form, the server's own first"
    )]
    Certificate,
    /// The file does not exist, may not be read, or holds no private key in PEM form.
    #[error("the key file could not be read: it must hold one private key in PEM form")]
    Key,
    /// The two files do not belong together, or the key is of a kind that TLS does not use.
    #[error("the private key does not belong to the certificate, or is of an unusable kind")]
    Mismatch,
    /// One of the names is neither a host name nor an address.
    #[error("the server's name is neither a host name nor an address")]
    Name,
}

/// The long-lived key that certifies a server's TLS keys, and that machines pin.
#[derive(Clone)]
pub struct Authority(SigningKey);

impl Authority {
    /// The authority with this Ed25519 key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self(key)
    }

    /// The pin: SHA-256 of the key's SubjectPublicKeyInfo (RFC 5280, section 4.1; RFC 8410 for Ed25519).
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        Sha256::digest(self.subject_public_key_info()).into()
    }

    /// A TLS configuration with a fresh key, certified for `names` (host names or addresses). The chain shown is
    /// the server's certificate, then the authority's own.
    ///
    /// # Errors
    /// [`TlsError::Name`].
    pub fn server_config(&self, names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
        let authority = self.certificate()?;
        let mut server = CertificateParams::new(names).map_err(|_| TlsError::Name)?;
        server.distinguished_name = common_name("Tacet server");
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(|_| TlsError::Key)?;
        let certificate = server.signed_by(&key, &authority).map_err(|_| TlsError::Name)?;

        let chain = vec![certificate.der().clone(), authority.der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| TlsError::Mismatch)?;
        Ok(config(Arc::new(SingleCertAndKey::from(certified))))
    }

    /// The authority's own certificate, signed by itself.
    pub(crate) fn certificate(&self) -> Result<CertifiedIssuer<'static, &Self>, TlsError> {
        let mut own = CertificateParams::default();
        own.distinguished_name = common_name("Tacet authority");
        own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        CertifiedIssuer::self_signed(own, self).map_err(|_| TlsError::Key)
    }
}

impl PublicKeyData for Authority {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_ref().as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Authority {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}

/// The cryptography of every TLS connection of ours: aws-lc-rs, X25519MLKEM768 preferred.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What every server of ours agrees to, whatever it shows.
pub(crate) fn config(shown: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConnection};
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::certificate::Certificate;

    fn authority(seed: u8) -> Authority {
        Authority::new(SigningKey::from_bytes(&[seed; 32]))
    }

    /// A handshake in memory with a client that trusts `authority` alone; what the client ends with.
    fn handshake(
        server: &Arc<ServerConfig>,
        authority: &CertificateDer<'static>,
        name: &str,
    ) -> Result<ClientConnection, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() || client.wants_write() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(client)
    }

    fn certificate_of(authority: &Authority) -> CertificateDer<'static> {
        authority.certificate().unwrap().der().clone()
    }

    #[test]
    fn a_server_is_trusted_through_its_authority_under_the_names_it_was_given() {
        let names = ["coordinator.example".to_owned(), "192.0.2.1".to_owned()];
        let server = authority(1).server_config(&names).unwrap();
        let root = certificate_of(&authority(1));
        for name in ["coordinator.example", "192.0.2.1"] {
            let client = handshake(&server, &root, name).unwrap();
            assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        }
        assert!(handshake(&server, &root, "other.example").is_err());
        assert!(handshake(&server, &certificate_of(&authority(2)), "coordinator.example").is_err());
    }

    #[test]
    fn the_pin_is_the_hash_of_the_key_as_x509_writes_it() {
        let authority = authority(1);
        // RFC 8410, section 4: the algorithm identifier 1.3.101.112, then the key as a bit string.
        let mut written = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        written.extend_from_slice(authority.der_bytes());
        assert_eq!(authority.pin(), <[u8; 32]>::from(Sha256::digest(&written)));
        let certificate = certificate_of(&authority);
        assert!(certificate.windows(written.len()).any(|window| window == written));
    }

    #[test]
    fn each_start_makes_another_certificate_under_the_same_pin() {
        let names = ["coordinator.example".to_owned()];
        let shown = |config: Arc<ServerConfig>| {
            let client = handshake(&config, &certificate_of(&authority(1)), &names[0]).unwrap();
            client.peer_certificates().unwrap()[0].clone()
        };
        let first = shown(authority(1).server_config(&names).unwrap());
        let second = shown(authority(1).server_config(&names).unwrap());
        assert_ne!(first, second);
    }

    #[test]
    fn a_missing_certificate_and_a_missing_key_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let from_files = || Certificate::from_files(&certificate, &key).map(|read| read.server_config());
        assert_eq!(from_files().err(), Some(TlsError::Certificate));
        std::fs::write(&certificate, "no certificate").unwrap();
        assert_eq!(from_files().err(), Some(TlsError::Certificate));

        let (pair, own) = certified("a.example");
        std::fs::write(&certificate, own.pem()).unwrap();
        assert_eq!(from_files().err(), Some(TlsError::Key));
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert_eq!(from_files().err(), Some(TlsError::Mismatch));
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        assert!(handshake(&from_files().unwrap(), own.der(), "a.example").is_ok());
    }

    #[test]
    fn a_renewed_certificate_is_shown_and_a_broken_one_leaves_the_old_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let write = |pair: &KeyPair, own: &rcgen::Certificate| {
            std::fs::write(&chain, own.pem()).unwrap();
            std::fs::write(&key, pair.serialize_pem()).unwrap();
        };
        let ((old_key, old), (new_key, new)) = (certified("a.example"), certified("a.example"));
        write(&old_key, &old);
        let certificate = Certificate::from_files(&chain, &key).unwrap();
        let config = certificate.server_config();
        let shows = |own: &rcgen::Certificate| handshake(&config, own.der(), "a.example").is_ok();
        assert!(shows(&old) && !shows(&new));

        write(&old_key, &new);
        assert_eq!(certificate.read_again(), Err(TlsError::Mismatch));
        assert!(shows(&old), "half a renewal changes nothing");
        write(&new_key, &new);
        certificate.read_again().unwrap();
        assert!(shows(&new) && !shows(&old));
    }

    #[test]
    fn a_link_is_followed_to_the_folder_in_which_the_renewed_file_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (live, archive) = (root.join("live"), root.join("archive"));
        std::fs::create_dir(&live).unwrap();
        std::fs::create_dir(&archive).unwrap();
        let (pair, own) = certified("a.example");
        for (name, text) in [("c.pem", own.pem()), ("k.pem", pair.serialize_pem())] {
            std::fs::write(archive.join(name), text).unwrap();
            std::os::unix::fs::symlink(archive.join(name), live.join(name)).unwrap();
        }
        let certificate = Certificate::from_files(&live.join("c.pem"), &live.join("k.pem")).unwrap();
        assert_eq!(certificate.folders(), [archive, live]);
    }

    /// A key, and a certificate for `name` that it signed itself.
    fn certified(name: &str) -> (KeyPair, rcgen::Certificate) {
        let pair = KeyPair::generate().unwrap();
        let own = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&pair).unwrap();
        (pair, own)
    }
}
