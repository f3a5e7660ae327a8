//! Why a command failed: for people on standard error, for programs on standard output, and as an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use proto::api::{ApiError, ErrorCode};
use serde::Serialize;

use crate::show::{Style, Ui, printable};

/// Why a command failed.
pub(crate) enum Failure {
    /// With a reason to tell.
    Told(Box<ApiError>),
    /// The result could not be written to standard output.
    Output(io::Error),
}

impl Failure {
    /// What failed, why, and what to do next: clauses without a capital letter or a full stop.
    pub(crate) fn new(code: ErrorCode, what: &str, why: impl Into<String>, next: impl Into<String>) -> Self {
        ApiError::new(code, what, why, next).into()
    }

    /// Tells it and returns the exit code.
    pub(crate) fn report(self, ui: &Ui) -> ExitCode {
        let error = match self {
            Self::Told(error) => *error,
            // `vpnctl status | head -1` is nobody's mistake.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::FAILURE,
            Self::Output(error) => {
                let error = ApiError::new(
                    ErrorCode::Failed,
                    "the result could not be written",
                    error.to_string(),
                    "the command itself was done; ask again, for instance with vpnctl status",
                );
                tell(ui, &error);
                return ExitCode::FAILURE;
            }
        };
        if ui.json() {
            if ui.document(&Document { error: &error }).is_err() {
                // Whoever reads standard error may help.
                tell(ui, &error);
            }
        } else {
            tell(ui, &error);
        }
        ExitCode::from(error.code.exit_code())
    }
}

fn tell(ui: &Ui, error: &ApiError) {
    let title = ui.paint_err("error:", Style::Bad);
    let (what, why, next) = (printable(&error.what), printable(&error.why), printable(&error.next));
    // Nothing is left to do if standard error is gone; the exit code still tells.
    let _ = writeln!(io::stderr(), "{title} {what}\n  why:  {why}\n  next: {next}");
}

#[derive(Serialize)]
struct Document<'a> {
    error: &'a ApiError,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Told(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
