//! Tokens that people carry: invites, enrolment codes and the recovery key. One line each, safe to paste, to read
//! aloud and to put in a QR code.
//!
//! A token is `tacet-invite1`, `tacet-enrol1` or `tacet-recovery1` followed by lower-case base32 (RFC 4648, no
//! padding) of the content and a four-byte checksum over kind and content. The digit is the format's version and, as
//! no base32 letter is a `1`, its separator. So a typo is told apart from a token of another kind, from a newer
//! format, and from something that is no token at all. White space and upper case are forgiven.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    identity::{NetworkId, Pin, RootSeed},
    roster::{Floor, InviteSecret},
    seal::hash,
    wire::{Reader, Wire, WireError, Writer},
};

/// The newest token format that is read, and the one that is written.
const VERSION: u8 = 1;
/// Letters of the longest token that is read.
const MAX_TOKEN: usize = 1024;
/// Bytes of the longest coordinator URL.
pub const MAX_URL: usize = 255;
/// Bytes of the longest enrolment code.
const MAX_CODE: usize = 64;
const CHECKSUM: usize = 4;

/// What `vpnctl invite` prints and `vpnctl join` takes.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteToken {
    /// The coordinator.
    pub url: String,
    /// Its long-lived key; `None` if it has a certificate of the web's.
    pub pin: Option<Pin>,
    /// The network.
    pub network: NetworkId,
    /// The state that the coordinator must at least show.
    pub floor: Floor,
    /// What the invite's keys come from.
    pub secret: InviteSecret,
}

/// What `coordinator enrol` prints and `vpnctl account create` takes.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// The coordinator.
    pub url: String,
    /// Its long-lived key; `None` if it has a certificate of the web's.
    pub pin: Option<Pin>,
    /// The code, good for one account.
    pub code: EnrolCode,
}

/// A single-use code that lets one account be made.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct EnrolCode(pub Vec<u8>);

/// The paper: shown once at `network create`, it wins over every signer.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryKey {
    /// The coordinator.
    pub url: String,
    /// Its long-lived key; `None` if it has a certificate of the web's.
    pub pin: Option<Pin>,
    /// The network.
    pub network: NetworkId,
    /// What the root's keys come from.
    pub seed: RootSeed,
}

/// Which of the three a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`InviteToken`].
    Invite,
    /// [`EnrolToken`].
    Enrol,
    /// [`RecoveryKey`].
    Recovery,
}

/// Why a text is not the token that was asked for. It never carries the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not start as a token does.
    #[error("this is not a Tacet token: it must start with \"{}\"", .expected.prefix())]
    NotAToken {
        /// What was asked for.
        expected: Kind,
    },
    /// A token, but for another command.
    #[error("this is {}, but {} is needed here", .found.article(), .expected.article())]
    OtherKind {
        /// What was asked for.
        expected: Kind,
        /// What it is.
        found: Kind,
    },
    /// Letters are missing, added or changed.
    #[error("the token is mistyped or incomplete: copy it again, the whole line")]
    Mistyped,
    /// A newer Tacet wrote it, or its digit is mistyped, which no checksum of an unknown format tells.
    #[error(
        "the token is of a newer version of Tacet, or its digit is mistyped: copy it again, or update Tacet here"
    )]
    Newer,
    /// Unharmed, but its content makes no sense.
    #[error("the token is not valid: ask for a new one")]
    Invalid,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Invite, Self::Enrol, Self::Recovery];

    /// What tokens of this kind start with, up to the version digit.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Invite => "tacet-invite",
            Self::Enrol => "tacet-enrol",
            Self::Recovery => "tacet-recovery",
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Invite => "an invite token (tacet-invite…)",
            Self::Enrol => "an enrolment token (tacet-enrol…)",
            Self::Recovery => "a recovery key (tacet-recovery…)",
        }
    }
}

/// A token's content and its text form.
pub trait Token: Sized {
    /// Which token this is.
    const KIND: Kind;

    /// Appends the content.
    fn put(&self, w: &mut Writer);

    /// Reads the content.
    ///
    /// # Errors
    /// [`WireError`] if the content is not valid.
    fn get(r: &mut Reader<'_>) -> Result<Self, WireError>;

    /// The token as one line of text.
    fn to_text(&self) -> Zeroizing<String> {
        let mut w = Writer::new();
        self.put(&mut w);
        let mut content = Zeroizing::new(w.finish());
        let sum = checksum(Self::KIND, &content);
        content.extend_from_slice(&sum);
        let mut text = Zeroizing::new(format!("{}{VERSION}", Self::KIND.prefix()));
        base32().encode_append(&content, &mut text);
        text
    }

    /// Reads what [`Token::to_text`] wrote.
    ///
    /// # Errors
    /// [`TokenError`] says how it fails to be one.
    fn from_text(text: &str) -> Result<Self, TokenError> {
        let content = unwrap(Self::KIND, text)?;
        let mut r = Reader::new(&content);
        let token = Self::get(&mut r).map_err(|_| TokenError::Invalid)?;
        // Fields that a later program appended are not ours to judge.
        while r.optional().map_err(|_| TokenError::Invalid)?.is_some() {}
        Ok(token)
    }
}

impl Token for InviteToken {
    const KIND: Kind = Kind::Invite;

    fn put(&self, w: &mut Writer) {
        put_place(w, &self.url, self.pin.as_ref());
        self.network.encode(w);
        self.floor.encode(w);
        self.secret.encode(w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (url, pin) = get_place(r)?;
        let network = NetworkId::decode(r)?;
        let floor = Floor::decode(r)?;
        Ok(Self { url, pin, network, floor, secret: InviteSecret::decode(r)? })
    }
}

impl Token for EnrolToken {
    const KIND: Kind = Kind::Enrol;

    fn put(&self, w: &mut Writer) {
        put_place(w, &self.url, self.pin.as_ref());
        w.bytes(&self.code.0);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (url, pin) = get_place(r)?;
        Ok(Self { url, pin, code: EnrolCode(r.bytes(MAX_CODE)?.to_vec()) })
    }
}

impl Token for RecoveryKey {
    const KIND: Kind = Kind::Recovery;

    fn put(&self, w: &mut Writer) {
        put_place(w, &self.url, self.pin.as_ref());
        self.network.encode(w);
        w.raw(&self.seed.0);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (url, pin) = get_place(r)?;
        Ok(Self { url, pin, network: NetworkId::decode(r)?, seed: RootSeed(r.array()?) })
    }
}

/// Whether `url` may stand in a token or a roster: `https://`, printable ASCII, at most [`MAX_URL`] bytes.
#[must_use]
pub fn valid_url(url: &str) -> bool {
    url.len() <= MAX_URL
        && url.strip_prefix("https://").is_some_and(|host| !host.is_empty())
        && url.bytes().all(|b| b.is_ascii_graphic())
}

fn put_place(w: &mut Writer, url: &str, pin: Option<&Pin>) {
    w.text(url);
    w.u8(u8::from(pin.is_some()));
    if let Some(pin) = pin {
        pin.encode(w);
    }
}

fn get_place(r: &mut Reader<'_>) -> Result<(String, Option<Pin>), WireError> {
    let url = r.text(MAX_URL)?;
    if !valid_url(url) {
        return Err(WireError::Invalid("URL"));
    }
    let pin = match r.u8()? {
        0 => None,
        1 => Some(Pin::decode(r)?),
        _ => return Err(WireError::Invalid("pin")),
    };
    Ok((url.to_owned(), pin))
}

/// The content of a token's text, its checksum checked and taken off.
fn unwrap(expected: Kind, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let text: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).take(MAX_TOKEN + 1).collect());
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let Some((found, rest)) = Kind::ALL.into_iter().find_map(|kind| {
        let rest = text.strip_prefix(kind.prefix())?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some((kind, rest))
    }) else {
        return Err(TokenError::NotAToken { expected });
    };
    let (version, rest) = rest.split_at(1);
    if version != "1" {
        // 2 to 7 are letters of base32 too, but a token that lost its `1` is no more likely than a newer one.
        return Err(TokenError::Newer);
    }
    if text.len() > MAX_TOKEN {
        return Err(TokenError::Mistyped);
    }
    let mut content = Zeroizing::new(base32().decode(rest.as_bytes()).map_err(|_| TokenError::Mistyped)?);
    let Some(end) = content.len().checked_sub(CHECKSUM) else {
        return Err(TokenError::Mistyped);
    };
    if content[end..] != checksum(found, &content[..end]) {
        return Err(TokenError::Mistyped);
    }
    if found != expected {
        return Err(TokenError::OtherKind { expected, found });
    }
    content.truncate(end);
    Ok(content)
}

fn checksum(kind: Kind, content: &[u8]) -> [u8; CHECKSUM] {
    let sum = hash("token", &[kind.prefix().as_bytes(), b"\0", content]);
    [sum[0], sum[1], sum[2], sum[3]]
}

/// RFC 4648 base32, lower case, no padding.
fn base32() -> data_encoding::Encoding {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("the alphabet has 32 distinct letters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Order;

    fn invite() -> InviteToken {
        InviteToken {
            url: "https://vpn.example.org".into(),
            pin: Some(Pin([1; 32])),
            network: NetworkId([2; 32]),
            floor: Floor { order: Order { recovery: 0, generation: 1, version: 7 }, header: [3; 32] },
            secret: InviteSecret::from_bytes(&[4; 32]).unwrap(),
        }
    }

    fn enrol() -> EnrolToken {
        EnrolToken { url: "https://[::1]:8443".into(), pin: None, code: EnrolCode(vec![5; 16]) }
    }

    #[test]
    fn a_token_is_one_line_and_reads_back() {
        let text = invite().to_text();
        assert!(text.starts_with("tacet-invite1") && text.bytes().all(|b| b.is_ascii_graphic()));
        assert!(InviteToken::from_text(&text) == Ok(invite()));
        assert!(EnrolToken::from_text(&enrol().to_text()) == Ok(enrol()));
        let paper = RecoveryKey {
            url: "https://vpn.example.org".into(),
            pin: None,
            network: NetworkId([6; 32]),
            seed: RootSeed([7; 32]),
        };
        assert!(RecoveryKey::from_text(&paper.to_text()) == Ok(paper));
    }

    #[test]
    fn white_space_and_upper_case_are_forgiven() {
        let text = invite().to_text();
        let shouted = format!("  {}\n {} ", text[..40].to_uppercase(), &text[40..]);
        assert!(InviteToken::from_text(&shouted) == Ok(invite()));
    }

    #[test]
    fn any_changed_lost_or_added_letter_is_a_typo() {
        let text = invite().to_text();
        let start = "tacet-invite1".len();
        for at in start..text.len() {
            let wrong = if &text[at..=at] == "q" { "z" } else { "q" };
            let changed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
            assert!(InviteToken::from_text(&changed) == Err(TokenError::Mistyped), "letter {at} changed");
            let lost = format!("{}{}", &text[..at], &text[at + 1..]);
            assert!(InviteToken::from_text(&lost) == Err(TokenError::Mistyped), "letter {at} lost");
        }
        assert!(InviteToken::from_text(&format!("{}a", *text)) == Err(TokenError::Mistyped));
        assert!(
            InviteToken::from_text(&format!("{}!", &text[..text.len() - 1])) == Err(TokenError::Mistyped)
        );
    }

    #[test]
    fn a_wrong_token_is_told_apart_from_no_token_and_from_a_newer_one() {
        let text = enrol().to_text();
        let expected = Kind::Invite;
        assert!(InviteToken::from_text(&text) == Err(TokenError::OtherKind { expected, found: Kind::Enrol }));
        assert!(InviteToken::from_text("hello") == Err(TokenError::NotAToken { expected }));
        assert!(InviteToken::from_text("") == Err(TokenError::NotAToken { expected }));
        assert!(InviteToken::from_text("tacet-invite2abc") == Err(TokenError::Newer));
    }

    #[test]
    fn an_optional_field_of_the_future_is_ignored() {
        let mut w = Writer::new();
        enrol().put(&mut w);
        w.optional(9, b"from the future");
        let mut content = w.finish();
        let sum = checksum(Kind::Enrol, &content);
        content.extend_from_slice(&sum);
        let text = format!("tacet-enrol1{}", base32().encode(&content));
        assert!(EnrolToken::from_text(&text) == Ok(enrol()));
    }

    #[test]
    fn a_url_without_tls_is_no_coordinator() {
        let mut token = enrol();
        token.url = "http://vpn.example.org".into();
        assert!(EnrolToken::from_text(&token.to_text()) == Err(TokenError::Invalid));
    }
}
