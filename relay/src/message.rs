//! The fixed sentences that the relay's program may print on stderr, before it serves. None of them takes a parameter.

/// Something an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The kernel lacks a wall, and `--allow-unsandboxed` was given.
    Unsandboxed,
}

impl Message {
    /// All of them, for the catalogue and its test.
    pub const ALL: [Self; 1] = [Self::Unsandboxed];

    /// The sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unsandboxed => "relay: this kernel lacks Landlock or seccomp, the relay is not locked down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_every_sentence_and_no_other() {
        let catalogue = include_str!("../../docs/messages.md");
        let section = catalogue.split("\n## ").find(|section| section.starts_with("tacet-relay\n")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split("` | ").next());
        let listed: Vec<&str> = rows.filter(|row| *row != "a fault at FILE:LINE").collect();
        assert_eq!(listed, Message::ALL.map(Message::text));
        for message in Message::ALL {
            assert!(message.text().starts_with("relay: ") && !message.text().contains(['{', '}', '\n']));
        }
    }
}
