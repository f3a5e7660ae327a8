//! Errors of every room, turned into what vpnctl shows: what failed, why, what to do next.

use proto::{
    api::{ApiError, ErrorCode},
    coordinator::Reason,
    token::TokenError,
};

use crate::{coordinator, dial::ProxyFault, state::StateError};

/// A coordinator keeps logins in memory: they end after some hours, and when it is restarted.
const LOG_IN_AGAIN: &str = "log in again: vpnctl account login NAME";

/// Nothing can be done before a login.
pub(crate) fn login_needed(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::LoginNeeded,
        what,
        "there is no session with a coordinator",
        "log in: vpnctl account login NAME, or make an account: vpnctl account create NAME --enrol TOKEN",
    )
}

/// What a coordinator's answer, or its silence, means for the command that asked.
pub(crate) fn coordinator(what: &str, error: &coordinator::Error) -> ApiError {
    use coordinator::{Cause, Error};
    let (code, next) = match error {
        Error::Unreachable(Cause::Proxy(fault)) => (ErrorCode::Unreachable, proxy(*fault)),
        Error::Unreachable(_) => (
            ErrorCode::Unreachable,
            "check this machine's internet connection and the coordinator, then try again",
        ),
        Error::Untrusted => (
            ErrorCode::WrongPin,
            "tell its operator; if it is to have no such certificate, log in with its pin, which `tacet-coordinator serve` \
             prints: --coordinator URL --pin PIN",
        ),
        Error::WrongPin => (
            ErrorCode::WrongPin,
            "ask the coordinator's operator for its present URL and pin; if they are what you have, somebody \
             is in between",
        ),
        Error::NotPermitted => {
            (ErrorCode::NotPermitted, "see vpnctl status: this machine may have been removed")
        }
        Error::NotFound => (
            ErrorCode::Failed,
            "check that the token is of this coordinator and that the network still exists",
        ),
        Error::Conflict(_) => (ErrorCode::Conflict, "try again"),
        Error::LoginNeeded => (ErrorCode::LoginNeeded, LOG_IN_AGAIN),
        Error::Newer => (ErrorCode::Newer, "update Tacet on this machine"),
        Error::NotACoordinator => (ErrorCode::Unreachable, "check the coordinator's URL"),
        Error::Refused(reason) => return refused(what, *reason),
    };
    ApiError::new(code, what, error.to_string(), next)
}

/// What to do about a proxy.
fn proxy(fault: ProxyFault) -> &'static str {
    match fault {
        ProxyFault::Name | ProxyFault::Connect | ProxyFault::Silent | ProxyFault::NotAProxy => {
            "check the proxy that vpnd is given (--proxy, or the variable https_proxy of its service), then try again"
        }
        ProxyFault::LoginWanted | ProxyFault::LoginRefused => {
            "put USER:PASSWORD into the file that vpnd is given with --proxy-credentials, and restart vpnd"
        }
        ProxyFault::LoginKind => "ask whoever runs the proxy for one that takes a user name and a password",
        ProxyFault::Refused => {
            "ask whoever runs the proxy to let this machine connect to the coordinator and the relays"
        }
        ProxyFault::Unreachable => "check the coordinator's address with its operator, then try again",
    }
}

/// What a coordinator's refusal means.
fn refused(what: &str, reason: Reason) -> ApiError {
    let (code, next) = match reason {
        Reason::WrongPassword => (
            ErrorCode::WrongPassword,
            "try again; a forgotten password cannot be recovered, but networks live on",
        ),
        Reason::BadCode => {
            (ErrorCode::TokenUsedUp, "ask the coordinator's operator for a new enrolment token")
        }
        Reason::NameTaken => (ErrorCode::NameTaken, "choose another name"),
        Reason::BadName => (ErrorCode::InvalidName, "choose another name"),
        Reason::InviteUnknown | Reason::InviteUsedUp => {
            (ErrorCode::TokenUsedUp, "ask for a new invite: vpnctl invite on a signer")
        }
        Reason::InviteExpired => (ErrorCode::TokenExpired, "ask for a new invite: vpnctl invite on a signer"),
        Reason::LoginNeeded => (ErrorCode::LoginNeeded, LOG_IN_AGAIN),
        Reason::NotPermitted => {
            (ErrorCode::NotPermitted, "see vpnctl status: this machine may have been removed")
        }
        Reason::NotFound => (ErrorCode::Failed, "check that the network still exists at the coordinator"),
        Reason::Conflict => (ErrorCode::Conflict, "try again"),
        Reason::Older => (ErrorCode::Newer, "ask the coordinator's operator to update it"),
        Reason::Unknown => (ErrorCode::Newer, "update Tacet on this machine"),
        Reason::TooMany => (ErrorCode::Failed, "wait a minute and try again"),
        Reason::TooManyNetworks => (ErrorCode::NotPermitted, "ask the coordinator's operator"),
        _ => (ErrorCode::Failed, "ask the coordinator's operator to look at it"),
    };
    ApiError::new(code, what, reason.to_string(), next)
}

/// What a token that cannot be read means.
pub(crate) fn token(what: &str, error: TokenError) -> ApiError {
    let text = error.to_string();
    let (why, next) = text.split_once(": ").unwrap_or((&text, "ask for a new one"));
    ApiError::new(ErrorCode::InvalidToken, what, why, next)
}

/// What a state directory that cannot be changed means.
pub(crate) fn state(what: &str, error: &StateError) -> ApiError {
    let text = error.to_string();
    let (why, next) = text.split_once(": ").unwrap_or((&text, "check the disk"));
    ApiError::new(ErrorCode::Storage, what, why, next)
}

/// A coordinator's URL that is none.
pub(crate) fn bad_url(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        what,
        coordinator::BadUrl.to_string(),
        "give the URL as the coordinator's operator gave it, such as https://vpn.example.org",
    )
}

/// There is no network to act on.
pub(crate) fn no_network(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NoNetwork,
        what,
        "this machine is in no network",
        "join one: vpnctl join TOKEN, or make one: vpnctl account create NAME --enrol TOKEN, then vpnctl network \
         create NAME",
    )
}
