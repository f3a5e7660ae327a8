//! The name that a machine brings.

use proto::{
    api::{ApiError, ErrorCode},
    roster::valid_name,
};

/// Longest label of a host name (RFC 1035).
const MAX: usize = 63;

/// Where a host has no name of its own.
const FALLBACK: &str = "machine";

/// The name asked for, or one made from the host's own.
///
/// # Errors
/// [`ErrorCode::InvalidName`] if a name was asked for that is none.
pub(super) fn choose(what: &str, asked: Option<String>) -> Result<String, ApiError> {
    match asked {
        Some(name) if valid_name(&name) => Ok(name),
        Some(_) => Err(invalid(what)),
        None => {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            Ok(fit(&host.unwrap_or_default()))
        }
    }
}

/// A name that breaks the rules.
pub(crate) fn invalid(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidName,
        what,
        "a name has 1 to 63 lower-case letters, digits and hyphens, and starts and ends with a letter or digit",
        "choose another name",
    )
}

/// What is left of a host name under the rules for names: the first label, in lower case, other characters replaced
/// by hyphens.
fn fit(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default();
    let name: String = label
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(MAX)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { FALLBACK.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_becomes_a_valid_name() {
        assert_eq!(fit("Web_01.example.org"), "web-01");
        assert_eq!(fit("büro"), "b-ro");
        assert_eq!(fit("--"), FALLBACK);
        assert_eq!(fit(""), FALLBACK);
        assert_eq!(fit(&"a".repeat(80)), "a".repeat(63));
        assert!(valid_name(&fit(&format!("{}-x", "a".repeat(62)))));
    }

    #[test]
    fn a_name_that_breaks_the_rules_is_refused_and_not_bent() {
        assert!(choose("", Some("Büro".into())).is_err_and(|e| e.code == ErrorCode::InvalidName));
        assert!(choose("", Some("office".into())).is_ok_and(|name| name == "office"));
    }
}
