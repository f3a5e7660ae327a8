//! What programs put into words, and what must not be put into words: each sentence is one of a catalogue, and no type that
//! can be printed holds an address, a name or a key.

use crate::{
    quiet::{MOUTHS, SERVICES},
    workspace::File,
};

/// Every sentence that the mouths form: one of a catalogue, or why a program did not start, or where it met a fault.
pub(crate) fn said(sources: &[File]) -> Vec<String> {
    const SAID: [&str; 9] = [
        "\"{}\", self.text()",
        "\"{}\", message.text()",
        "\"{text}\"",
        "\"vpnd: {error}\"",
        "\"vpnd: internal error at {}:{}\", at.file(), at.line()",
        "\"vpnd: internal error\"",
        "\"coordinator: a fault at {}:{}\", place.file(), place.line()",
        "\"a fault at {}:{}\", place.file(), place.line()",
        "\"the relay cannot start: {error:#}\"",
    ];
    let mut broken = Vec::new();
    for file in sources.iter().filter(|file| MOUTHS.contains(&file.path.as_str())) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["eprintln!(", "eprint!(", "writeln!(", "write!("] {
            for rest in
                code.split(call).skip(1).filter(|_| !call.starts_with("write") || code.contains("stderr"))
            {
                let words = rest.split([';', '\n']).next().unwrap_or_default();
                let words =
                    words.trim_start_matches("std::io::stderr(), ").trim_start_matches("io::stderr(), ");
                let words = words.trim_start_matches("stderr, ").trim_end_matches([',', ')']);
                if !SAID.iter().any(|said| said.trim_end_matches(')') == words) {
                    broken.push(format!("{} says what is in no catalogue: {words}", file.path));
                }
            }
        }
    }
    broken
}

/// Where values are shown to whoever asked for them: the local API's documents, the record of what is stored, what an
/// operator types.
const VIEWS: [&str; 4] = ["proto/src/api/", "proto/src/inventory.rs", "vpnctl/src/", "coordinator/src/cli/"];

/// What says who is where, or could.
const METADATA: [&str; 22] = [
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "Endpoint",
    "InnerAddr",
    "InnerNet",
    "MailboxId",
    "Candidate",
    "MachineEntry",
    "MachineKeys",
    "PeerStatus",
    "PathView",
    "LocalAddr",
    "Pseudonym",
    "Credential",
    "Handle",
    "Introduction",
    "JoinRecord",
    "Roster",
    "String",
    "Vec<u8>",
];

/// Types that can be printed, and hold what must not be. `String` counts: it may hold anything.
pub(crate) fn printable(sources: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    let rooms = |file: &&File| {
        SERVICES.iter().any(|service| file.path.starts_with(service))
            && !VIEWS.iter().any(|view| file.path.starts_with(view))
            && !file.path.ends_with("/tests.rs")
    };
    for file in sources.iter().filter(rooms) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for rest in code.split("#[derive(").skip(1) {
            let Some((derives, item)) = rest.split_once(")]") else { continue };
            let traits = ["Debug", "Display", "Serialize"];
            if !derives.split(',').any(|derive| traits.iter().any(|name| derive.trim().ends_with(name))) {
                continue;
            }
            let body = &item[..end_of_item(item)];
            let held: Vec<&str> = METADATA.into_iter().filter(|word| has_word(body, word)).collect();
            if !held.is_empty() {
                let name = body.lines().find(|line| line.contains("struct ") || line.contains("enum "));
                broken.push(format!(
                    "{}: {} holds {}",
                    file.path,
                    name.unwrap_or_default().trim(),
                    held.join(", ")
                ));
            }
        }
        for line in
            code.lines().map(str::trim).filter(|line| line.starts_with("impl") && line.contains(" for "))
        {
            let (what, whom) = line.split_once(" for ").unwrap_or_default();
            let shows = ["Debug", "Display", "Serialize"].iter().any(|name| what.ends_with(name));
            if shows && METADATA.iter().any(|word| has_word(&format!("for {whom}"), word)) {
                broken.push(format!("{}: {line}", file.path));
            }
        }
    }
    broken
}

/// Up to the brace that closes the item, or the semicolon of one without.
fn end_of_item(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth <= 1 => return at,
            '}' => depth -= 1,
            ';' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether a type of that name is in the code; what begins a line is a variant's own name.
fn has_word(text: &str, word: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(word).any(|(at, _)| {
            at > 0 && !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(
            said(&[File::of("vpnd/src/main.rs", "let _ = writeln!(io::stderr(), \"at {address}\");")]).len(),
            1
        );
        assert_eq!(said(&[File::of("relay/src/main.rs", "eprintln!(\"{}\", message.text());")]).len(), 0);
        let shown = |text: &str| printable(&[File::of("mesh/src/a.rs", text)]).len();
        assert_eq!(shown("#[derive(Clone, Debug)]\npub struct A {\n    at: Option<SocketAddr>,\n}"), 1);
        assert_eq!(shown("#[derive(Clone, Copy)]\npub struct A(SocketAddr);"), 0);
        assert_eq!(shown("#[derive(Debug)]\npub struct A;\npub struct B(SocketAddr);"), 0);
        assert_eq!(shown("#[derive(serde::Serialize)]\npub enum A { B(Endpoint) }"), 1);
        assert_eq!(shown("impl fmt::Display for Endpoint {"), 1);
        assert_eq!(shown("#[derive(Debug)]\npub enum A { WrongEndpoint, EndpointLike }"), 0);
    }
}
