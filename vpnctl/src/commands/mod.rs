//! One function per command: ask vpnd, show the answer.

mod account;
mod doctor;
mod invite;
mod machines;
mod netcheck;
mod network;
mod ping;
mod privacy;
mod relay;
mod report;
mod signer;
mod status;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::CommandFactory;
use proto::api::{Answer, Command, ErrorCode, Progress, Request};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    cli::{self, Cli},
    client::{Connection, Message, not_understood},
    failure::Failure,
    show::Ui,
};

/// What a command ends with. `ping`, `privacy` and `up` may do what they should and yet not end with 0.
type Outcome = Result<ExitCode, Failure>;

/// What every command needs.
struct Context<'a> {
    ui: &'a Ui,
    socket: PathBuf,
    network: Option<String>,
}

/// Does what was typed.
pub(crate) fn run(cli: Cli, ui: &Ui) -> Outcome {
    let context = Context { ui, socket: cli.global.socket(), network: cli.global.network };
    let done = match cli.command {
        cli::Command::Ping(args) => return ping::run(&context, args),
        cli::Command::Doctor(args) => return doctor::run(&context, &args),
        cli::Command::Privacy(command) => return privacy::run(&context, &command),
        cli::Command::Report(args) => report::run(&context, args),
        cli::Command::Account(command) => account::run(&context, command),
        cli::Command::Network(command) => network::run(&context, command),
        cli::Command::Up => return network::up(&context),
        cli::Command::Down => network::down(&context),
        cli::Command::Invite(args) => invite::run(&context, args),
        cli::Command::Join(args) => network::join(&context, &args),
        cli::Command::Leave(args) => network::leave(&context, &args),
        cli::Command::Machines(args) => machines::run(&context, args),
        cli::Command::Signer(args) => signer::run(&context, args),
        cli::Command::Relay(args) => relay::run(&context, args),
        cli::Command::Recover(args) => signer::recover(&context, args),
        cli::Command::Status => status::run(&context),
        cli::Command::Netcheck => netcheck::run(&context),
        cli::Command::Ip(args) => machines::ip(&context, args),
        cli::Command::Completions { shell } => completions(ui, shell),
        cli::Command::Man { directory } => manual(&directory),
    };
    done.map(|()| ExitCode::SUCCESS)
}

impl Context<'_> {
    /// A connection to vpnd.
    fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.socket)
    }

    /// Fails as any command would if vpnd cannot be asked: before a person is asked for a password in vain.
    fn check_daemon(&self) -> Result<(), Failure> {
        self.connect().map(drop)
    }

    /// A request in the network that was named.
    fn request(&self, command: Command) -> Request {
        Request::new(self.network.clone(), command)
    }

    /// One command to vpnd; its progress goes to the person.
    fn ask(&self, command: Command) -> Result<Answer, Failure> {
        self.ask_for(&self.request(command))
    }

    /// The same in this network.
    fn ask_in(&self, network: &str, command: Command) -> Result<Answer, Failure> {
        self.ask_for(&Request::new(Some(network.to_owned()), command))
    }

    fn ask_for(&self, request: &Request) -> Result<Answer, Failure> {
        let mut connection = self.connect()?;
        connection.send(request)?;
        loop {
            match connection.next()? {
                Message::Progress(progress) => self.ui.progress(progress_text(progress)),
                Message::Event(_) => {}
                Message::Answer(answer) => return Ok(answer),
            }
        }
    }

    /// A command that has nothing to tell but that it was done.
    fn ask_done(&self, command: Command, text: &str) -> Result<(), Failure> {
        let Answer::Done {} = self.ask(command)? else {
            return Err(not_understood());
        };
        self.show(&Done { done: true }, || text.to_owned())
    }

    /// Asks the person at the terminal; without one `--yes` is needed. False if the person does not want it.
    fn agreed(&self, what: &str, question: &str) -> Result<bool, Failure> {
        self.need_terminal(what)?;
        self.ui.ask(&format!("{question} [y/N]"));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn need_terminal(&self, what: &str) -> Result<(), Failure> {
        if io::stdin().is_terminal() {
            return Ok(());
        }
        let why = "there is no terminal to ask at";
        Err(Failure::new(ErrorCode::Usage, what, why, "if you are sure, add --yes"))
    }

    /// Shows a result: the document to a program, the text to a person.
    fn show(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.ui.json() {
            return Ok(self.ui.document(document)?);
        }
        // Some results are secrets.
        Ok(self.ui.print(&Zeroizing::new(text()))?)
    }

    /// Shows what is shown once and kept nowhere; where it does not arrive, says `what` is lost and what to do.
    fn show_once(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
        what: &str,
        next: impl Into<String>,
    ) -> Result<(), Failure> {
        self.show(document, text).map_err(|failure| match failure {
            Failure::Output(error) => {
                let why = format!("the result could not be written: {error}");
                Failure::new(ErrorCode::Failed, what, why, next)
            }
            told @ Failure::Told(_) => told,
        })
    }
}

#[derive(Serialize)]
struct Done {
    done: bool,
}

fn progress_text(progress: Progress) -> &'static str {
    match progress {
        Progress::Contacting => "Contacting the coordinator ...",
        Progress::Password => "Turning the password into keys (slow on purpose) ...",
        Progress::Checking => "Checking the network's signatures ...",
        Progress::Keys => "Making this machine's keys ...",
        Progress::Publishing => "Handing the change to the coordinator ...",
        Progress::Starting => "Bringing the interface up ...",
        Progress::Measuring => "Asking servers and router what the network allows ...",
        Progress::Other => "Working ...",
    }
}

fn completions(ui: &Ui, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vpnctl", &mut script);
    let script = String::from_utf8(script).map_err(io::Error::other)?;
    Ok(ui.print(&script)?)
}

/// One page per command, for packages.
fn manual(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
        let why = error.to_string();
        Failure::new(ErrorCode::Failed, "the manual pages were not written", why, "check the directory")
    })
}
