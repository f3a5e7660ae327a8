//! The name by which this machine knows a network: the network's own, or one for this machine alone, so that it can be
//! in two networks that their signers gave the same name.

use proto::{
    api::{ApiError, ErrorCode},
    roster::valid_name,
};

use super::hostname;

/// Longest part of a name that a proposal keeps, so that a number fits behind it.
const KEPT: usize = 56;

/// The alias to keep: none where it is the network's own name.
///
/// # Errors
/// [`ErrorCode::InvalidName`].
pub(super) fn alias(what: &str, asked: Option<String>, own: &str) -> Result<Option<String>, ApiError> {
    match asked {
        Some(alias) if !valid_name(&alias) => Err(hostname::invalid(what)),
        asked => Ok(asked.filter(|alias| alias != own)),
    }
}

/// Refuses a name that is `taken`, and says what to type. `again` is the command as it was.
///
/// # Errors
/// [`ErrorCode::NameTaken`].
pub(super) fn need_free(what: &str, name: &str, taken: &[String], again: &str) -> Result<(), ApiError> {
    if !taken.iter().any(|other| other == name) {
        return Ok(());
    }
    let free = (2_u64..)
        .map(|n| format!("{}-{n}", name[..name.len().min(KEPT)].trim_end_matches('-')))
        .find(|proposal| !taken.contains(proposal))
        .expect("there are more numbers than networks");
    Err(ApiError::new(
        ErrorCode::NameTaken,
        what,
        format!("this machine is in a network named {name} already"),
        format!("let this machine know it by another name: {again} --as {free}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_comes_with_the_command_that_avoids_it() {
        let taken = ["home", "home-2"].map(str::to_owned);
        assert!(need_free("", "work", &taken, "").is_ok());
        let error = need_free("", "home", &taken, "vpnctl join TOKEN").err().unwrap();
        assert_eq!(error.code, ErrorCode::NameTaken);
        assert!(error.next.ends_with(": vpnctl join TOKEN --as home-3"), "{}", error.next);
    }

    #[test]
    fn every_name_has_a_valid_proposal() {
        let name = format!("{}-x", "a".repeat(55));
        let error = need_free("", &name, std::slice::from_ref(&name), "x").err().unwrap();
        assert!(valid_name(error.next.rsplit(' ').next().unwrap()), "{}", error.next);
    }

    #[test]
    fn an_alias_that_is_the_networks_own_name_is_none() {
        assert!(alias("", Some("home".into()), "home").is_ok_and(|alias| alias.is_none()));
        assert!(alias("", Some("work".into()), "home").is_ok_and(|alias| alias.as_deref() == Some("work")));
        assert!(alias("", Some("no name".into()), "home").is_err_and(|e| e.code == ErrorCode::InvalidName));
    }
}
