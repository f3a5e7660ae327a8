//! Where a result goes and whether it may have colours.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use zeroize::Zeroizing;

/// The two streams of this process.
pub(crate) struct Ui {
    json: bool,
    out_terminal: bool,
    out_colour: bool,
    err_colour: bool,
}

/// What a colour says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    /// As it should be.
    Good,
    /// Works, not as well as it could.
    Fair,
    /// Does not work.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Strong,
}

impl Ui {
    /// As this process was started: colours only on a terminal, and not if `NO_COLOR` is set or the terminal is dumb.
    pub(crate) fn of_this_process(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        let out_terminal = io::stdout().is_terminal();
        Self {
            json,
            out_terminal,
            out_colour: wanted && out_terminal && !json,
            err_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// The same for what goes to standard error: its colours there are those of standard error.
    pub(crate) fn aside(&self) -> Self {
        Self { out_colour: self.err_colour, ..*self }
    }

    /// Whether one JSON document is wanted.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person reads standard output.
    pub(crate) fn terminal(&self) -> bool {
        self.out_terminal
    }

    /// Whether standard output takes colours.
    pub(crate) fn colour(&self) -> bool {
        self.out_colour
    }

    /// Prints a result for people; `text` ends its own lines.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Prints the result for programs.
    pub(crate) fn document(&self, document: &impl Serialize) -> io::Result<()> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(document)?);
        bytes.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }

    /// Tells a person what is being done now. Progress matters to nobody whose standard error is gone.
    pub(crate) fn progress(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Asks a person something; the answer is typed on the same line. Nobody can answer a question that cannot be seen:
    /// then the line that is read is no yes.
    pub(crate) fn ask(&self, question: &str) {
        let _ = write!(io::stderr(), "{question} ");
    }

    /// `text` for standard output.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        paint(text, style, self.out_colour)
    }

    /// `text` for standard error.
    pub(crate) fn paint_err(&self, text: &str, style: Style) -> String {
        paint(text, style, self.err_colour)
    }
}

fn paint(text: &str, style: Style, colour: bool) -> String {
    let code = match style {
        Style::Plain => return text.to_owned(),
        Style::Good => "32",
        Style::Fair => "33",
        Style::Bad => "31",
        Style::Dim => "2",
        Style::Strong => "1",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
