//! The fixed sentences that a serving coordinator may print on stderr. None of them takes a parameter, so that no
//! address, name or key can reach a journal.

use std::io::Write;

/// Something an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The kernel lacks a wall, and `--allow-unsandboxed` was given.
    Unsandboxed,
    /// The files given with `--tls-cert` and `--tls-key` were read again and are of no use: the certificate before stays.
    CertificateUnusable,
    /// They cannot be read again by the account that the coordinator runs as.
    CertificateUnreadable,
}

impl Message {
    /// All of them, for the catalogue and its test.
    pub const ALL: [Self; 3] = [Self::Unsandboxed, Self::CertificateUnusable, Self::CertificateUnreadable];

    /// The sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unsandboxed => {
                "coordinator: this kernel lacks Landlock or seccomp, the coordinator is not locked down"
            }
            Self::CertificateUnusable => {
                "coordinator: the certificate was read again and cannot be used, the one before stays"
            }
            Self::CertificateUnreadable => {
                "coordinator: the certificate's files cannot be read again by the account it runs as, restart it after each renewal"
            }
        }
    }

    /// Prints the sentence on stderr. A closed stderr is no error.
    pub fn print(self) {
        let _ = writeln!(std::io::stderr(), "{}", self.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_in_the_catalogue_and_names_nobody() {
        let catalogue = include_str!("../../docs/messages.md");
        for message in Message::ALL {
            assert!(catalogue.contains(&format!("| `{}` |", message.text())), "{}", message.text());
            assert!(message.text().starts_with("coordinator: "));
            assert!(!message.text().contains(|c: char| c.is_ascii_digit() || c == '{'));
        }
    }
}
