//! Accounts at a coordinator: names, and OPAQUE (RFC 9807), by which a password never leaves the machine it is
//! typed on.
//!
//! The suite is ristretto255 with triple Diffie-Hellman and SHA-512; the client stretches the password with
//! Argon2id, so a stolen coordinator database costs an attacker [`STRETCH_MEMORY_KIB`] of memory per guess. A login
//! answer for a name that has no account looks like any other. Both sides mix the TLS exporter of their connection
//! into the key exchange, so a login cannot be carried over from one connection to another.
//!
//! A login yields a [`SessionKey`] on both sides. It is never sent: requests carry a MAC under it
//! ([`crate::coordinator::Auth::Session`]).

use hmac::{Hmac, Mac};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest, CredentialResponse,
    Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
    argon2::{Algorithm, Argon2, Params, Version},
    errors::InternalError,
    generic_array::{ArrayLength, GenericArray},
    ksf::Ksf,
};
use rand_core::CryptoRngCore;
use sha2::{Sha256, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Memory that one guess at a password costs, in KiB: RFC 9106's second recommendation, which a small machine has.
pub const STRETCH_MEMORY_KIB: u32 = 64 * 1024;

/// Passes over that memory, from the same recommendation.
pub const STRETCH_PASSES: u32 = 3;

/// The longest account name, in bytes.
pub const NAME_MAX: usize = 32;

/// The longest OPAQUE message that either side reads, in bytes; all are fixed in size and shorter.
pub const MESSAGE_MAX: usize = 1024;

/// Why an account name is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an account name has 1 to 32 lower-case letters, digits, `-`, `_` or `.`, and starts with a letter or digit"
)]
pub struct NameError;

/// Why an OPAQUE step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueError {
    /// The password is wrong, there is no such account, or the other side does not hold its key.
    #[error("wrong name or password")]
    Wrong,
    /// A message or a record is not one.
    #[error("an OPAQUE message is not valid")]
    Malformed,
}

/// An account's name: 1 to [`NAME_MAX`] bytes of `a-z 0-9 - _ .`, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(String);

impl AccountName {
    /// Reads a name; capitals become small.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.to_ascii_lowercase();
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let Some(&first) = name.as_bytes().first() else {
            return Err(NameError);
        };
        if name.len() > NAME_MAX || !good(first) || !name.bytes().all(|b| good(b) || b"-_.".contains(&b)) {
            return Err(NameError);
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What both sides hold after a login; it authenticates the session's requests.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    fn derive(shared: &[u8]) -> Self {
        Self(mac(shared, b"tacet session v1\0"))
    }

    /// The MAC of a message under this key.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        mac(&self.0, message)
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// A registration that the client has begun.
pub struct RegistrationStart {
    state: ClientRegistration<Suite>,
    /// What the coordinator is sent.
    pub request: Vec<u8>,
}

impl RegistrationStart {
    /// Blinds the password.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the password is longer than OPAQUE takes (64 KiB).
    pub fn new(password: &[u8], rng: &mut impl CryptoRngCore) -> Result<Self, OpaqueError> {
        let start = ClientRegistration::<Suite>::start(rng, password).map_err(|_| OpaqueError::Malformed)?;
        Ok(Self { request: start.message.serialize().to_vec(), state: start.state })
    }

    /// Makes the record that the coordinator keeps. Stretching takes a noticeable part of a second.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if `response` is not the coordinator's answer to this request.
    pub fn finish(
        self,
        name: &AccountName,
        password: &[u8],
        response: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<Vec<u8>, OpaqueError> {
        let response = RegistrationResponse::deserialize(response).map_err(|_| OpaqueError::Malformed)?;
        let params = ClientRegistrationFinishParameters::new(identifiers(name), None);
        let done = self.state.finish(rng, password, response, params).map_err(|_| OpaqueError::Malformed)?;
        Ok(done.message.serialize().to_vec())
    }
}

/// A login that the client has begun.
pub struct LoginStart {
    state: ClientLogin<Suite>,
    /// What the coordinator is sent.
    pub request: Vec<u8>,
}

impl LoginStart {
    /// Blinds the password.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the password is longer than OPAQUE takes (64 KiB).
    pub fn new(password: &[u8], rng: &mut impl CryptoRngCore) -> Result<Self, OpaqueError> {
        let start = ClientLogin::<Suite>::start(rng, password).map_err(|_| OpaqueError::Malformed)?;
        Ok(Self { request: start.message.serialize().to_vec(), state: start.state })
    }

    /// Checks that the coordinator holds this account, and answers with the client's proof and the session's key.
    /// `exporter` is that of the TLS connection which carried the request. Stretching takes a noticeable part of a
    /// second.
    ///
    /// # Errors
    /// [`OpaqueError::Wrong`] if the password is wrong or there is no such account.
    pub fn finish(
        self,
        name: &AccountName,
        password: &[u8],
        exporter: &[u8; 32],
        response: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Vec<u8>, SessionKey), OpaqueError> {
        let response = CredentialResponse::deserialize(response).map_err(|_| OpaqueError::Malformed)?;
        let context = context(exporter);
        let params = ClientLoginFinishParameters::new(Some(&context), identifiers(name), None);
        let done = self.state.finish(rng, password, response, params).map_err(|_| OpaqueError::Wrong)?;
        let shared = Zeroizing::new(done.session_key.to_vec());
        Ok((done.message.serialize().to_vec(), SessionKey::derive(&shared)))
    }
}

/// The coordinator's half: its OPRF seed and key pair. Losing it makes every password record useless.
pub struct OpaqueServer(ServerSetup<Suite>);

impl OpaqueServer {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        Self(ServerSetup::new(rng))
    }

    /// The secret, for the database.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpaqueError> {
        ServerSetup::deserialize(bytes).map(Self).map_err(|_| OpaqueError::Malformed)
    }

    /// Answers a registration's request. Nothing is remembered in between.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`].
    pub fn register(&self, name: &AccountName, request: &[u8]) -> Result<Vec<u8>, OpaqueError> {
        let request = RegistrationRequest::deserialize(request).map_err(|_| OpaqueError::Malformed)?;
        let answer = ServerRegistration::<Suite>::start(&self.0, request, name.0.as_bytes())
            .map_err(|_| OpaqueError::Malformed)?;
        Ok(answer.message.serialize().to_vec())
    }

    /// Checks an uploaded record and gives it the form in which it is kept.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`].
    pub fn record(upload: &[u8]) -> Result<Vec<u8>, OpaqueError> {
        let upload = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| OpaqueError::Malformed)?;
        Ok(ServerRegistration::finish(upload).serialize().to_vec())
    }

    /// Answers a login's request; with no record (no such account) the answer cannot be told from a real one.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`].
    pub fn login(
        &self,
        name: &AccountName,
        record: Option<&[u8]>,
        exporter: &[u8; 32],
        request: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<(PendingLogin, Vec<u8>), OpaqueError> {
        let malformed = |_| OpaqueError::Malformed;
        let record = record.map(ServerRegistration::<Suite>::deserialize).transpose().map_err(malformed)?;
        let request = CredentialRequest::deserialize(request).map_err(malformed)?;
        let context = context(exporter);
        let params = || ServerLoginParameters { context: Some(&context), identifiers: identifiers(name) };
        let start = ServerLogin::start(rng, &self.0, record, request, name.0.as_bytes(), params())
            .map_err(malformed)?;
        let pending = PendingLogin { state: start.state, context, name: name.clone() };
        Ok((pending, start.message.serialize().to_vec()))
    }
}

/// A login that the coordinator has answered; it lives in RAM for as long as a person may take.
pub struct PendingLogin {
    state: ServerLogin<Suite>,
    context: Vec<u8>,
    name: AccountName,
}

impl PendingLogin {
    /// Checks the client's proof.
    ///
    /// # Errors
    /// [`OpaqueError::Wrong`] if the password was wrong or there is no such account, [`OpaqueError::Malformed`].
    pub fn finish(self, proof: &[u8]) -> Result<(AccountName, SessionKey), OpaqueError> {
        let proof = CredentialFinalization::deserialize(proof).map_err(|_| OpaqueError::Malformed)?;
        let params =
            ServerLoginParameters { context: Some(&self.context), identifiers: identifiers(&self.name) };
        let done = self.state.finish(proof, params).map_err(|_| OpaqueError::Wrong)?;
        let shared = Zeroizing::new(done.session_key.to_vec());
        Ok((self.name, SessionKey::derive(&shared)))
    }
}

fn identifiers(name: &AccountName) -> Identifiers<'_> {
    Identifiers { client: Some(name.0.as_bytes()), server: Some(b"tacet coordinator") }
}

fn context(exporter: &[u8; 32]) -> Vec<u8> {
    [b"tacet login v1\0".as_slice(), exporter].concat()
}

/// The OPAQUE configuration of Tacet, version 1.
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Stretch;
}

/// Argon2id at [`STRETCH_MEMORY_KIB`] and [`STRETCH_PASSES`], one lane. OPAQUE's input is salted already.
#[derive(Default)]
struct Stretch;

impl Ksf for Stretch {
    fn hash<L: ArrayLength<u8>>(
        &self,
        input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        let mut output = GenericArray::default();
        let params = Params::new(STRETCH_MEMORY_KIB, STRETCH_PASSES, 1, Some(output.len()))
            .map_err(|_| InternalError::KsfError)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&input, &[0; 16], &mut output)
            .map_err(|_| InternalError::KsfError)?;
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    const CONNECTION: [u8; 32] = [7; 32];

    #[test]
    fn a_registered_password_logs_in_and_both_sides_hold_one_key() {
        let (server, record) = registered("anna", b"correct horse");
        let (ours, theirs) = login(&server, Some(&record), "anna", b"correct horse", CONNECTION).unwrap();
        assert_eq!(ours.mac(b"x"), theirs.mac(b"x"));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_account_fail_alike() {
        let (server, record) = registered("anna", b"correct horse");
        let wrong = login(&server, Some(&record), "anna", b"battery staple", CONNECTION).err();
        let unknown = login(&server, None, "anna", b"correct horse", CONNECTION).err();
        assert_eq!(wrong, Some(OpaqueError::Wrong));
        assert_eq!(unknown, Some(OpaqueError::Wrong));
    }

    #[test]
    fn a_record_does_not_serve_another_name() {
        let (server, record) = registered("anna", b"correct horse");
        assert!(login(&server, Some(&record), "bert", b"correct horse", CONNECTION).is_err());
    }

    #[test]
    fn a_login_carried_over_to_another_connection_fails() {
        let (server, record) = registered("anna", b"correct horse");
        let name = AccountName::parse("anna").unwrap();
        let start = LoginStart::new(b"correct horse", &mut OsRng).unwrap();
        let (_, answer) = server.login(&name, Some(&record), &[8; 32], &start.request, &mut OsRng).unwrap();
        let done = start.finish(&name, b"correct horse", &CONNECTION, &answer, &mut OsRng);
        assert_eq!(done.err(), Some(OpaqueError::Wrong));
    }

    #[test]
    fn answers_for_known_and_unknown_accounts_have_one_length() {
        let (server, record) = registered("anna", b"correct horse");
        let name = AccountName::parse("anna").unwrap();
        let start = LoginStart::new(b"correct horse", &mut OsRng).unwrap();
        let answer = |record| server.login(&name, record, &CONNECTION, &start.request, &mut OsRng).unwrap().1;
        assert_eq!(answer(Some(&record)).len(), answer(None).len());
    }

    #[test]
    fn names_are_lower_case_short_and_plain() {
        assert!(AccountName::parse("Anna-2").unwrap().as_str() == "anna-2");
        for bad in ["", "-a", ".a", "a b", "ä", "a/b", &"a".repeat(NAME_MAX + 1)] {
            assert!(AccountName::parse(bad).is_err());
        }
    }

    #[test]
    fn the_server_secret_survives_its_byte_form() {
        let (server, record) = registered("anna", b"pw");
        let server = OpaqueServer::from_bytes(&server.to_bytes()).unwrap();
        assert!(login(&server, Some(&record), "anna", b"pw", CONNECTION).is_ok());
    }

    fn registered(name: &str, password: &[u8]) -> (OpaqueServer, Vec<u8>) {
        let server = OpaqueServer::generate(&mut OsRng);
        let name = AccountName::parse(name).unwrap();
        let start = RegistrationStart::new(password, &mut OsRng).unwrap();
        let answer = server.register(&name, &start.request).unwrap();
        let upload = start.finish(&name, password, &answer, &mut OsRng).unwrap();
        (server, OpaqueServer::record(&upload).unwrap())
    }

    fn login(
        server: &OpaqueServer,
        record: Option<&[u8]>,
        name: &str,
        password: &[u8],
        exporter: [u8; 32],
    ) -> Result<(SessionKey, SessionKey), OpaqueError> {
        let name = AccountName::parse(name).unwrap();
        let start = LoginStart::new(password, &mut OsRng)?;
        let (pending, answer) = server.login(&name, record, &exporter, &start.request, &mut OsRng)?;
        let (proof, ours) = start.finish(&name, password, &exporter, &answer, &mut OsRng)?;
        let (_, theirs) = pending.finish(&proof)?;
        Ok((ours, theirs))
    }
}
