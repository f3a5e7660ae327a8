//! Asking before something is removed for good.

use std::io::{self, IsTerminal, Write};

use super::{Failure, Output};

/// Goes on if the person at the terminal types `word`, or said `--yes` before.
pub(super) fn confirm(
    out: &Output,
    what: &str,
    question: &str,
    word: &str,
    yes: bool,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if out.json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let why = "it cannot be undone, and nobody is there to be asked";
        return Err(Failure::new(what, why, "say --yes to do it without a question"));
    }
    let mut stdout = io::stdout().lock();
    // Where the question does not arrive, the answer will not be the word.
    let _ = write!(stdout, "{question}\nType {word} to go on: ").and_then(|()| stdout.flush());
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == word => Ok(()),
        _ => Err(Failure::new(what, "it was not confirmed", format!("type {word} when asked, or say --yes"))),
    }
}
