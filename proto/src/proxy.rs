//! HTTP CONNECT: how a proxy is asked for a tunnel to a server, and what it answers (RFC 9110, section 9.3.6), with
//! a user name and a password where it wants them (RFC 7617).

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// Most bytes of an answer's head, interim answers included. Proxies send a few hundred.
pub const HEAD_MAX: usize = 8 << 10;

/// Longest user name and password together, in bytes.
const CREDENTIALS_MAX: usize = 1_024;

/// How every answer begins (RFC 9112, section 4); one digit and a blank follow.
const BEGINNING: &[u8] = b"HTTP/1.";

/// Where the three digits of the status are, after `HTTP/1.1` and a blank.
const STATUS: std::ops::Range<usize> = 9..12;

/// A user name and a password, in the form in which a proxy is shown them.
pub struct Credentials(Zeroizing<String>);

/// Not a user name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not hold one line USER:PASSWORD")]
pub struct BadCredentials;

/// What a proxy answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The tunnel is there: what follows comes from the server.
    Open,
    /// It wants a login first.
    Login {
        /// Whether a user name and a password would do.
        password: bool,
    },
    /// It does not make this tunnel.
    Refused,
    /// It would, and does not reach the server.
    Unreachable,
}

/// What came is not the answer of an HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of an HTTP proxy")]
pub struct NotAProxy;

impl Credentials {
    /// Reads `USER:PASSWORD`; one line end behind it does not count.
    ///
    /// # Errors
    /// [`BadCredentials`]: not UTF-8, no colon, no user name, control characters, too long.
    pub fn parse(content: &[u8]) -> Result<Self, BadCredentials> {
        let text = std::str::from_utf8(content).map_err(|_| BadCredentials)?;
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        let (user, _) = line.split_once(':').ok_or(BadCredentials)?;
        if user.is_empty() || line.len() > CREDENTIALS_MAX || line.contains(char::is_control) {
            return Err(BadCredentials);
        }
        Ok(Self(Zeroizing::new(BASE64.encode(line.as_bytes()))))
    }
}

/// Asks for a tunnel to `host`, a name or an address without brackets. Nothing in it tells what asks.
#[must_use]
pub fn request(host: &str, port: u16, credentials: Option<&Credentials>) -> Zeroizing<Vec<u8>> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = credentials.map_or(Zeroizing::default(), |Credentials(encoded)| {
        Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", encoded.as_str()))
    });
    let text =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n", login = login.as_str());
    Zeroizing::new(text.into_bytes())
}

/// Reads the beginning of what a proxy sent: its answer and how long the answer is, or `None` while more is to come.
///
/// # Errors
/// [`NotAProxy`], as soon as it is certain.
pub fn read_answer(received: &[u8]) -> Result<Option<(Answer, usize)>, NotAProxy> {
    let within = &received[..received.len().min(HEAD_MAX)];
    let mut begin = 0;
    loop {
        let rest = &within[begin..];
        let Some(status) = status(rest)? else { return more(within) };
        let Some(len) = head_len(rest) else { return more(within) };
        let answer = match status {
            // An interim answer: the real one follows (RFC 9110, section 15.2).
            100..200 => {
                begin += len;
                continue;
            }
            200..300 => Answer::Open,
            407 => Answer::Login { password: offers_password(&rest[..len]) },
            502..=504 => Answer::Unreachable,
            _ => Answer::Refused,
        };
        return Ok(Some((answer, begin + len)));
    }
}

/// More may come until there is too much.
fn more(within: &[u8]) -> Result<Option<(Answer, usize)>, NotAProxy> {
    if within.len() < HEAD_MAX { Ok(None) } else { Err(NotAProxy) }
}

/// The number in a status line, once it is there.
fn status(head: &[u8]) -> Result<Option<u16>, NotAProxy> {
    let known = head.len().min(BEGINNING.len());
    if head[..known] != BEGINNING[..known] {
        return Err(NotAProxy);
    }
    // The version's last digit, a blank, and what ends the number.
    let fits = |at: usize, fits: fn(&u8) -> bool| head.get(at).is_none_or(fits);
    let line = fits(7, u8::is_ascii_digit)
        && fits(8, |byte| *byte == b' ')
        && STATUS.into_iter().all(|at| fits(at, u8::is_ascii_digit))
        && fits(STATUS.end, |byte| matches!(byte, b' ' | b'\r' | b'\n'));
    if !line {
        return Err(NotAProxy);
    }
    let Some(digits) = head.get(STATUS) else { return Ok(None) };
    let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if number < 100 { Err(NotAProxy) } else { Ok(Some(number)) }
}

/// The bytes up to and with the empty line. Lines end with CR LF, and with LF alone from proxies that are old.
fn head_len(head: &[u8]) -> Option<usize> {
    let mut ends = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    ends.find_map(|at| match &head[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Whether one of the logins that are asked for is by a password (RFC 9110, section 11.7.1: a list of schemes, each with its
/// parameters).
fn offers_password(head: &[u8]) -> bool {
    let fields = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.trim_ascii().eq_ignore_ascii_case(b"Proxy-Authenticate").then_some(&value[1..])
    });
    let mut offers = fields.flat_map(|value| value.split(|byte| *byte == b','));
    offers.any(|offer| {
        let scheme = offer.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"Basic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Option<(Answer, usize)>, NotAProxy> {
        read_answer(text.as_bytes())
    }

    #[test]
    fn the_request_names_the_server_twice_and_nothing_of_us() {
        let asked = request("vpn.example", 443, None);
        assert_eq!(*asked, b"CONNECT vpn.example:443 HTTP/1.1\r\nHost: vpn.example:443\r\n\r\n");
        let asked = request("2001:db8::1", 8443, None);
        assert!(asked.starts_with(b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n"));
    }

    #[test]
    fn the_user_of_rfc_7617_is_shown_as_it_says() {
        for content in ["Aladdin:open sesame", "Aladdin:open sesame\n", "Aladdin:open sesame\r\n"] {
            let credentials = Credentials::parse(content.as_bytes()).unwrap();
            let asked = request("vpn.example", 443, Some(&credentials));
            let line = b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
            assert!(asked.ends_with(line));
        }
        // Section 2.1, in UTF-8.
        let credentials = Credentials::parse("test:123£".as_bytes()).unwrap();
        assert_eq!(*credentials.0, "dGVzdDoxMjPCow==");
    }

    #[test]
    fn what_is_no_user_and_password_is_refused() {
        let long = format!("a:{}", "b".repeat(CREDENTIALS_MAX));
        for bad in ["", "\n", "ann", ":secret", "ann:sec\nret\n", "ann:\tx", "ann:x\r\nEvil: y", &long] {
            assert!(Credentials::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Credentials::parse(b"ann:\xff").is_err());
        assert!(Credentials::parse(b"ann:").is_ok(), "a password may be empty");
    }

    #[test]
    fn every_kind_of_answer_is_told() {
        use Answer::{Login, Open, Refused, Unreachable};
        let cases = [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Open),
            ("HTTP/1.0 200\r\n\r\n", Open),
            ("HTTP/1.1 204 \nVia: old\n\n", Open),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\n\r\n", Open),
            ("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", Login { password: true }),
            ("HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate, basic\r\n\r\n", Login { password: true }),
            (
                "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate:Basic\r\n\r\n",
                Login { password: true },
            ),
            ("HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n", Login { password: false }),
            ("HTTP/1.1 407 No\r\n\r\n", Login { password: false }),
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Refused),
            ("HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", Refused),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", Unreachable),
            ("HTTP/1.1 504 Gateway Timeout\r\n\r\n", Unreachable),
        ];
        for (text, answer) in cases {
            let end = text.strip_suffix("no").unwrap_or(text).len();
            assert_eq!(whole(text), Ok(Some((answer, end))), "{text}");
            for cut in 0..end {
                assert_eq!(read_answer(&text.as_bytes()[..cut]), Ok(None), "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_another_service_says_is_no_answer_from_its_first_wrong_byte_on() {
        for bad in [
            "SSH-2.0-OpenSSH_9.2p1\r\n",
            "220 mail.example ESMTP\r\n",
            "\x15\x03\x01\x00\x02\x02\x46",
            "HTTP/2 200\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 Odd\r\n\r\n",
            "HTTP/1.x 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "<html>",
        ] {
            assert_eq!(whole(bad), Err(NotAProxy), "{bad}");
        }
        assert_eq!(whole("S"), Err(NotAProxy));
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        let mut long = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        long.resize(HEAD_MAX - 1, b'x');
        assert_eq!(read_answer(&long), Ok(None));
        long.push(b'x');
        assert_eq!(read_answer(&long), Err(NotAProxy));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD_MAX / 25 + 1);
        assert_eq!(whole(&interim), Err(NotAProxy), "nor one that never comes");
    }
}
