//! The forms in which a canary might show itself: in binary either way round, as text, and as what programs make of
//! both when they write, log, escape or send it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What to search for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Form {
    /// What the form is called in a report.
    pub(crate) name: &'static str,
    /// The bytes as they would stand in memory or in a file.
    pub(crate) bytes: Vec<u8>,
    /// How much a match says.
    pub(crate) weight: Weight,
}

/// How much a match says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It is the canary.
    Sure,
    /// It is, unless a digit stands before or behind it: then it is part of another number.
    Number,
    /// So few bytes that they stand in random data by chance now and then: it counts if it shows again with other
    /// canaries.
    Chance,
    /// Both: a short number.
    ShortNumber,
}

impl Weight {
    /// Whether a match may be chance.
    pub(crate) fn chance(self) -> bool {
        matches!(self, Self::Chance | Self::ShortNumber)
    }

    /// Whether digits around it make it another number.
    pub(crate) fn number(self) -> bool {
        matches!(self, Self::Number | Self::ShortNumber)
    }

    /// Whether it is a number that many things may have: what it stands next to tells what it is.
    pub(crate) fn short_number(self) -> bool {
        self == Self::ShortNumber
    }
}

/// Texts shorter than this are no evidence.
const SHORTEST_TEXT: usize = 6;

/// Fewer raw bytes than this are found in random data now and then.
const SURE_BYTES: usize = 6;

/// All forms of an IPv4 address. With the ports that belong to it, the forms of sockets too.
pub(crate) fn ipv4(address: Ipv4Addr, ports: &[u16]) -> Vec<Form> {
    let octets = address.octets();
    let [a, b, c, d] = octets;
    let number = u32::from_be_bytes(octets);
    let mut forms = binary(&octets);
    forms.extend(text(&address.to_string()));
    forms.extend([
        form("reversed for DNS (PTR)", format!("{d}.{c}.{b}.{a}"), Weight::Number),
        form("decimal", number.to_string(), Weight::Number),
        form("decimal, little-endian", number.swap_bytes().to_string(), Weight::Number),
        form("mapped into IPv6", format!("{:x}:{:x}", number >> 16, number & 0xffff), Weight::Sure),
        form("padded", format!("{a:03}.{b:03}.{c:03}.{d:03}"), Weight::Number),
        form("URL-encoded dots", format!("{a}%2E{b}%2E{c}%2E{d}"), Weight::Number),
        form("with dashes", format!("{a}-{b}-{c}-{d}"), Weight::Number),
    ]);
    for port in ports {
        for (name, port) in [("socket address", port.to_be_bytes()), ("address and port", port.to_le_bytes())]
        {
            forms.push(Form { name, bytes: [&octets[..], &port].concat(), weight: Weight::Sure });
            forms.push(Form { name, bytes: [&port, &octets[..]].concat(), weight: Weight::Sure });
        }
    }
    tidy(forms)
}

/// All forms of an IPv6 address.
pub(crate) fn ipv6(address: Ipv6Addr) -> Vec<Form> {
    let groups = address.segments().map(|group| format!("{group:04x}"));
    let mut forms = ipv6_part(&address.octets(), &groups.join(":"));
    forms.extend(text(&address.to_string()));
    forms.push(form("decimal", u128::from(address).to_string(), Weight::Number));
    tidy(forms)
}

/// All forms of the first half of an IPv6 address, by which a household is known.
pub(crate) fn ipv6_prefix(address: Ipv6Addr) -> Vec<Form> {
    let groups = &address.segments()[..4];
    let full: Vec<String> = groups.iter().map(|group| format!("{group:04x}")).collect();
    let short: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
    let mut forms = ipv6_part(&address.octets()[..8], &full.join(":"));
    forms.extend(text(&short.join(":")));
    tidy(forms)
}

fn ipv6_part(bytes: &[u8], full: &str) -> Vec<Form> {
    let mut forms = binary(bytes);
    forms.extend(text(full));
    let nibbles: Vec<String> = hex(bytes).chars().rev().map(String::from).collect();
    let words: String = bytes.chunks(4).map(|word| hex(&reversed(word))).collect();
    forms.push(form("reversed for DNS (PTR)", nibbles.join("."), Weight::Sure));
    forms.push(form("as /proc/net writes it", words.to_uppercase(), Weight::Sure));
    forms.push(form("URL-encoded colons", full.replace(':', "%3A"), Weight::Sure));
    forms
}

/// All forms of a name.
pub(crate) fn name(name: &str) -> Vec<Form> {
    let mut forms = text(name);
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        std::iter::once(length).chain(label.bytes())
    });
    forms.push(Form { name: "as DNS writes it", bytes: labels.collect(), weight: Weight::Sure });
    tidy(forms)
}

/// All forms of bytes that travelled.
pub(crate) fn payload(bytes: &[u8]) -> Vec<Form> {
    tidy(binary(bytes))
}

/// The two ports of a flow: each as text, and both as a packet's header has them. Two bytes alone say nothing.
pub(crate) fn ports(from: u16, to: u16) -> Vec<Form> {
    let pair = |one: u16, other: u16| Form {
        name: "pair of ports",
        bytes: [one.to_be_bytes(), other.to_be_bytes()].concat(),
        weight: Weight::Chance,
    };
    let text = [from, to].map(|port| form("decimal", port.to_string(), Weight::ShortNumber));
    text.into_iter().chain([pair(from, to), pair(to, from)]).collect()
}

/// Forms of bytes.
fn binary(bytes: &[u8]) -> Vec<Form> {
    let backwards = reversed(bytes);
    let weight = if bytes.len() < SURE_BYTES { Weight::Chance } else { Weight::Sure };
    let each = |show: fn(&u8) -> String, between: &str| -> String {
        bytes.iter().map(show).collect::<Vec<_>>().join(between)
    };
    let mut forms = vec![
        Form { name: "binary, big-endian", bytes: bytes.to_vec(), weight },
        Form { name: "binary, little-endian", bytes: backwards.clone(), weight },
        form("hex", hex(bytes), Weight::Sure),
        form("hex, upper case", hex(bytes).to_uppercase(), Weight::Sure),
        form("hex, reversed", hex(&backwards), Weight::Sure),
        form("hex, reversed, upper case", hex(&backwards).to_uppercase(), Weight::Sure),
        form("hex with colons", each(|byte| format!("{byte:02x}"), ":"), Weight::Sure),
        form("list of numbers", each(u8::to_string, ","), Weight::Number),
        form("list of numbers", each(u8::to_string, ", "), Weight::Number),
        form("URL-encoded", each(|byte| format!("%{byte:02X}"), ""), Weight::Sure),
        form("escaped", each(|byte| format!("\\x{byte:02x}"), ""), Weight::Sure),
    ];
    forms.extend(based(bytes));
    forms
}

/// Forms of a text.
fn text(text: &str) -> Vec<Form> {
    // A digit next to `1.2.3.4` makes it another address.
    let number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let weight = if number { Weight::Number } else { Weight::Sure };
    let bytes = text.as_bytes();
    let each = |show: fn(u8) -> String| -> String { bytes.iter().copied().map(show).collect() };
    let wide: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
    let mut forms = vec![
        form("text", text, weight),
        form("text, upper case", text.to_uppercase(), weight),
        // Big-endian UTF-16 is the same bytes one later.
        Form { name: "UTF-16", bytes: wide[..wide.len() - 1].to_vec(), weight: Weight::Sure },
        form("hex of the text", hex(bytes), Weight::Sure),
        form("hex of the text, upper case", hex(bytes).to_uppercase(), Weight::Sure),
        form("text backwards", text.chars().rev().collect::<String>(), weight),
        form("text, URL-encoded", each(|byte| format!("%{byte:02X}")), Weight::Sure),
        form("text, JSON-escaped", each(|byte| format!("\\u{byte:04x}")), Weight::Sure),
    ];
    forms.extend(based(bytes));
    forms
}

/// Base64 and base32 of bytes wherever they stand in what is encoded: the characters that do not depend on what is
/// around them. Both alphabets of base64.
fn based(bytes: &[u8]) -> Vec<Form> {
    const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut forms = Vec::new();
    for before in 0..3 {
        let chars = stable(bytes, before, 6, BASE64);
        let url_safe = chars.replace('+', "-").replace('/', "_");
        forms.push(form("base64", chars, Weight::Sure));
        forms.push(form("base64", url_safe, Weight::Sure));
    }
    for before in 0..5 {
        let chars = stable(bytes, before, 5, BASE32);
        forms.push(form("base32", chars.to_lowercase(), Weight::Sure));
        forms.push(form("base32", chars, Weight::Sure));
    }
    forms
}

/// The characters of `bits` bits each that lie wholly in `bytes`, `before` unknown bytes standing before them.
fn stable(bytes: &[u8], before: usize, bits: usize, alphabet: &[u8]) -> String {
    let (first, end) = (before * 8, (before + bytes.len()) * 8);
    let bit = |at: usize| usize::from(bytes[at / 8 - before] >> (7 - at % 8) & 1);
    (first.div_ceil(bits)..end / bits)
        .map(|char| {
            let value = (char * bits..(char + 1) * bits).fold(0, |value, at| value << 1 | bit(at));
            char::from(alphabet[value])
        })
        .collect()
}

/// Drops texts too short to say anything, and what is there twice.
fn tidy(forms: Vec<Form>) -> Vec<Form> {
    let mut kept: Vec<Form> = Vec::new();
    for form in forms {
        let enough = form.weight.chance() || form.bytes.len() >= SHORTEST_TEXT;
        if enough && !kept.iter().any(|other| other.bytes == form.bytes) {
            kept.push(form);
        }
    }
    kept
}

fn form(name: &'static str, bytes: impl Into<Vec<u8>>, weight: Weight) -> Form {
    Form { name, bytes: bytes.into(), weight }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(forms: &[Form], bytes: impl AsRef<[u8]>) -> bool {
        forms.iter().any(|form| form.bytes == bytes.as_ref())
    }

    #[test]
    fn an_ipv4_address_is_known_in_all_its_forms() {
        let forms = ipv4("83.149.207.61".parse().unwrap(), &[51_823]);
        for bytes in [
            &b"\x53\x95\xcf\x3d"[..],
            b"\x3d\xcf\x95\x53",
            b"\x53\x95\xcf\x3d\xca\x6f",
            b"\xca\x6f\x53\x95\xcf\x3d",
            b"\x53\x95\xcf\x3d\x6f\xca",
            b"8\x003\x00.\x001\x004\x009\x00.\x002\x000\x007\x00.\x006\x001",
        ] {
            assert!(has(&forms, bytes), "{bytes:?}");
        }
        for text in [
            "83.149.207.61",
            "61.207.149.83",
            "5395cf3d",
            "5395CF3D",
            "3DCF9553",
            "1402326845",
            "1037014355",
            "5395:cf3d",
            "83,149,207,61",
            "%38%33%2E%31%34%39%2E%32%30%37%2E%36%31",
            "\\u0038\\u0033\\u002e\\u0031\\u0034\\u0039\\u002e\\u0032\\u0030\\u0037\\u002e\\u0036\\u0031",
            "16.702.941.38",
            "083.149.207.061",
            "83-149-207-61",
            "38332e3134392e3230372e3631",
        ] {
            assert!(has(&forms, text), "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_is_known_full_and_compressed() {
        let forms = ipv6("2a0e:1b3c:d42:77e1::b".parse().unwrap());
        for text in [
            "2a0e:1b3c:d42:77e1::b",
            "2A0E:1B3C:D42:77E1::B",
            "2a0e:1b3c:0d42:77e1:0000:0000:0000:000b",
            "2a0e1b3c0d4277e1000000000000000b",
            "b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.e.7.7.2.4.d.0.c.3.b.1.e.0.a.2",
            "3C1B0E2AE177420D000000000B000000",
            "2a0e%3A1b3c%3A0d42%3A77e1%3A0000%3A0000%3A0000%3A000b",
            "55900820361838664043621955160187600907",
        ] {
            assert!(has(&forms, text), "{text}");
        }
        let household = ipv6_prefix("2a0e:1b3c:d42:77e1::b".parse().unwrap());
        assert!(has(&household, b"\x2a\x0e\x1b\x3c\x0d\x42\x77\xe1"));
        assert!(has(&household, "2a0e:1b3c:d42:77e1") && has(&household, "2a0e:1b3c:0d42:77e1"));
    }

    #[test]
    fn base64_and_base32_are_found_at_any_offset() {
        // `printf 'xkestrel-7fy' | base64`, and with one and two bytes before it: what base64(1) and base32(1) print.
        let forms = name("kestrel-7f");
        let within = |whole: &str| {
            forms.iter().any(|form| {
                form.name.starts_with("base") && whole.contains(std::str::from_utf8(&form.bytes).unwrap())
            })
        };
        for whole in ["a2VzdHJlbC03ZnkK", "eGtlc3RyZWwtN2Z5Cg==", "eHhrZXN0cmVsLTdmeQo="] {
            assert!(within(whole), "{whole}");
        }
        for whole in ["NNSXG5DSMVWC2N3GPEFA====", "PBVWK43UOJSWYLJXMZ4QU===", "PB4GWZLTORZGK3BNG5THSCQ="] {
            assert!(within(whole), "{whole}");
        }
        assert!(!within("a2VzdHJlbC04ZnkK"), "another name");
    }

    #[test]
    fn a_name_is_known_as_dns_writes_it() {
        assert!(has(&name("db.kestrel.example"), b"\x02db\x07kestrel\x07example"));
        assert!(has(&name("kestrel"), "lertsek") && has(&name("kestrel"), "KESTREL"));
    }

    #[test]
    fn four_bytes_are_no_certainty_and_three_characters_are_nothing() {
        let forms = ipv4("83.149.207.61".parse().unwrap(), &[]);
        for form in forms {
            let raw = form.name.starts_with("binary");
            assert_eq!(raw, form.weight == Weight::Chance, "{}", form.name);
            assert!(raw || form.bytes.len() >= SHORTEST_TEXT, "{}", form.name);
        }
    }
}
