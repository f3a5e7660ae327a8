//! Sessions with coordinators. They live in RAM alone; what is remembered over a restart is where the coordinator of
//! the account last used is.

use std::collections::BTreeMap;

use proto::{
    account::AccountName,
    api::{Account, ApiError, ErrorCode, Password, Progress},
    identity::Pin,
    token::{EnrolToken, Token},
};
use zeroize::Zeroizing;

use super::refusal;
use crate::{
    api::Replies,
    coordinator::{Client, Session, Trust},
    dial::Way,
    state::Coordinator,
};

/// A login.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) coordinator: Coordinator,
    pub(crate) client: Client,
    pub(crate) session: Session,
}

/// All logins, by the coordinator's URL.
#[derive(Default)]
pub(crate) struct Accounts(BTreeMap<String, Login>);

impl Accounts {
    /// The login at the coordinator with this URL, or the only one.
    ///
    /// # Errors
    /// [`ErrorCode::LoginNeeded`], [`ErrorCode::Usage`] if there are several.
    pub(crate) fn find(&self, what: &str, url: Option<&str>) -> Result<&Login, ApiError> {
        match url {
            Some(url) => self.0.get(normal(url)).ok_or_else(|| refusal::login_needed(what)),
            None if self.0.len() > 1 => Err(ApiError::new(
                ErrorCode::Usage,
                what,
                "there are sessions with several coordinators",
                "say which one: --coordinator URL",
            )),
            None => self.0.values().next().ok_or_else(|| refusal::login_needed(what)),
        }
    }

    /// Keeps a login.
    pub(crate) fn insert(&mut self, login: Login) {
        self.0.insert(normal(&login.coordinator.url).to_owned(), login);
    }

    /// Forgets a login.
    pub(crate) fn remove(&mut self, url: &str) {
        self.0.remove(normal(url));
    }
}

/// Makes an account and logs in.
///
/// # Errors
/// What the caller is to be told.
pub(crate) async fn create(
    name: &str,
    enrol: &str,
    password: &Password,
    way: &Way,
    replies: &Replies,
) -> Result<(Account, Login), ApiError> {
    const WHAT: &str = "the account was not created";
    let token = EnrolToken::from_text(enrol).map_err(|e| refusal::token(WHAT, e))?;
    let coordinator = Coordinator { url: token.url.clone(), pin: token.pin };
    let client = client(WHAT, &coordinator, way)?;
    let name = account_name(WHAT, name)?;
    replies.progress(Progress::Contacting).await;
    replies.progress(Progress::Password).await;
    let registered = client.register(&name, secret(password), &token.code).await;
    registered.map_err(|e| refusal::coordinator(WHAT, &e))?;
    log_in(WHAT, coordinator, client, name, password).await
}

/// Logs in.
///
/// # Errors
/// What the caller is to be told.
pub(crate) async fn login(
    name: &str,
    coordinator: Coordinator,
    password: &Password,
    way: &Way,
    replies: &Replies,
) -> Result<(Account, Login), ApiError> {
    const WHAT: &str = "not logged in";
    let client = client(WHAT, &coordinator, way)?;
    let name = account_name(WHAT, name)?;
    replies.progress(Progress::Contacting).await;
    replies.progress(Progress::Password).await;
    log_in(WHAT, coordinator, client, name, password).await
}

/// A client of a coordinator.
///
/// # Errors
/// If the URL is none.
pub(crate) fn client(what: &str, coordinator: &Coordinator, way: &Way) -> Result<Client, ApiError> {
    Client::by(way, &coordinator.url, &trust(coordinator)).map_err(|_| refusal::bad_url(what))
}

/// How a coordinator proves to be itself.
fn trust(coordinator: &Coordinator) -> Trust {
    coordinator.pin.as_ref().map_or(Trust::WebPki, |pin| Trust::Pinned(vec![*pin]))
}

/// The pin in the form in which the coordinator prints it: 64 hexadecimal digits.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(crate) fn parse_pin(what: &str, text: &str) -> Result<Pin, ApiError> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect::<String>().to_lowercase();
    proto::coordinator::path::unhex(&digits).map(Pin).ok_or_else(|| {
        ApiError::new(
            ErrorCode::Usage,
            what,
            "the pin is not 64 hexadecimal digits",
            "copy it again from what `tacet-coordinator serve` prints",
        )
    })
}

async fn log_in(
    what: &str,
    coordinator: Coordinator,
    client: Client,
    name: AccountName,
    password: &Password,
) -> Result<(Account, Login), ApiError> {
    let session = client.login(&name, secret(password)).await.map_err(|e| refusal::coordinator(what, &e))?;
    let account = Account { name: name.as_str().to_owned(), coordinator: coordinator.url.clone() };
    Ok((account, Login { coordinator, client, session }))
}

fn account_name(what: &str, name: &str) -> Result<AccountName, ApiError> {
    AccountName::parse(name)
        .map_err(|e| ApiError::new(ErrorCode::InvalidName, what, e.to_string(), "choose another name"))
}

fn secret(password: &Password) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.expose().to_vec())
}

/// A URL without its last slash, which makes no difference.
fn normal(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_with_and_without_colons_and_not_with_a_digit_missing() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert!(parse_pin("", &plain).is_ok_and(|pin| pin.0 == [0xab; 32]));
        assert!(parse_pin("", &colons).is_ok_and(|pin| pin.0 == [0xab; 32]));
        assert!(parse_pin("", &plain[1..]).is_err_and(|e| e.code == ErrorCode::Usage));
    }
}
