//! What a server shows in TLS.
//!
//! Without a certificate of its own, a server has an [`Authority`]: a long-lived Ed25519 key whose hash machines pin.
//! At each start it makes a fresh TLS key, which exists in memory only, and certifies it under the authority. The
//! certificates have no end that matters: the pin is what is trusted, and the TLS key dies with the process.
//!
//! TLS 1.3 alone, X25519MLKEM768 preferred. No session tickets: they would let an observer link a machine's
//! connections, and save little between connections that stay open for hours.

use std::{path::Path, sync::Arc};

use ed25519_dalek::{Signer, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
};
use rustls::{ServerConfig, crypto::CryptoProvider, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
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
        let mut authority = CertificateParams::default();
        authority.distinguished_name = common_name("Tacet authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, self).map_err(|_| TlsError::Mismatch)?;

        let mut server = CertificateParams::new(names).map_err(|_| TlsError::Name)?;
        server.distinguished_name = common_name("Tacet server");
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(|_| TlsError::Key)?;
        let certificate = server.signed_by(&key, &authority).map_err(|_| TlsError::Name)?;

        let chain = vec![certificate.der().clone(), authority.der().clone()];
        config(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
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

/// A TLS configuration from a certificate chain and a private key, both PEM files.
///
/// # Errors
/// [`TlsError::Certificate`], [`TlsError::Key`], [`TlsError::Mismatch`].
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(|_| TlsError::Certificate)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    config(chain, PrivateKeyDer::from_pem_file(key).map_err(|_| TlsError::Key)?)
}

/// The cryptography of every TLS connection of ours: aws-lc-rs, X25519MLKEM768 preferred.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| TlsError::Mismatch)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}
