//! The URL that machines reach the coordinator at.

use url::Url;

/// `https://host[:port]`, nothing else, without a trailing slash.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|_| "this is not a URL; it looks like https://vpn.example.org")?;
    if url.scheme() != "https" {
        return Err("the URL must begin with https://".to_owned());
    }
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !bare {
        return Err("the URL must end after the host, or after :port".to_owned());
    }
    let text = url.as_str().trim_end_matches('/').to_owned();
    if text.len() > proto::token::MAX_URL {
        return Err("the URL is too long".to_owned());
    }
    Ok(text)
}

/// The host, as a certificate names it.
pub(super) fn host(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    host.trim_matches(['[', ']']).to_owned()
}

/// The port that machines connect to.
pub(super) fn port(url: &str) -> u16 {
    Url::parse(url).ok().and_then(|url| url.port_or_known_default()).unwrap_or(443)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_host_and_maybe_a_port() {
        assert_eq!(parse("https://vpn.example.org/").unwrap(), "https://vpn.example.org");
        assert_eq!(parse("https://[2001:db8::1]:8443").unwrap(), "https://[2001:db8::1]:8443");
        for bad in ["vpn.example.org", "http://a", "https://a/b", "https://a?x", "https://u@a", "https://"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_names_the_bare_host() {
        assert_eq!(host("https://[2001:db8::1]:8443"), "2001:db8::1");
        assert_eq!(host("https://vpn.example.org"), "vpn.example.org");
        assert_eq!(port("https://vpn.example.org"), 443);
    }
}
