//! Whom to believe that they are the coordinator.
//!
//! A coordinator's long-lived Ed25519 key certifies the TLS keys that it makes at each start, and sends its own
//! certificate along. [`Trust::Pinned`] asks that one of the certificates sent carries a pinned key and certifies
//! the server's; host names do not matter then, the key is the name. [`Trust::WebPki`] asks the system's roots.

use std::{fmt, sync::Arc};

use proto::identity::Pin;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};

/// By what a coordinator's TLS key is judged.
#[derive(Clone, PartialEq, Eq)]
pub enum Trust {
    /// Its long-lived key: the present pin and maybe the next.
    Pinned(Vec<Pin>),
    /// A certificate for the URL's host from an authority that this system trusts.
    WebPki,
}

impl Trust {
    /// TLS 1.3 alone, X25519MLKEM768 first, no resumption: a ticket would tell two connections for one machine's.
    /// `None` if the system's roots are asked for and it has none (no `ca-certificates`).
    pub(super) fn client_config(&self) -> Option<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Pinned(pins) => Arc::new(PinVerifier { pins: pins.clone(), provider: provider.clone() }),
            Self::WebPki => Arc::new(Verifier::new(provider.clone()).ok()?),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Some(config)
    }
}

/// Accepts a chain whose issuer is a pinned key.
struct PinVerifier {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

/// rustls asks for it; it says nothing.
impl fmt::Debug for PinVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinVerifier")
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wrong = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let leaf = webpki::EndEntityCert::try_from(end_entity).map_err(|_| wrong())?;
        for certificate in intermediates {
            let Ok(issuer) = webpki::EndEntityCert::try_from(certificate) else {
                continue;
            };
            let pin = Pin(Sha256::digest(issuer.subject_public_key_info()).into());
            if !self.pins.contains(&pin) {
                continue;
            }
            let Ok(anchor) = webpki::anchor_from_trusted_cert(certificate) else {
                continue;
            };
            let anchors = [anchor];
            let chain = leaf.verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &anchors,
                &[],
                now,
                webpki::KeyUsage::server_auth(),
                None,
                None,
            );
            if chain.is_ok() {
                return Ok(ServerCertVerified::assertion());
            }
        }
        Err(wrong())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
