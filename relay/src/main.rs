//! The relay as a program of its own; installed as `tacet-relay`.
//!
//! It prints why it could not start, and nothing from then on: its output is closed when its walls are put up
//! ([`relay::walls`]), which is before the first connection.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use http_body_util::Empty;
use hyper::{Response, StatusCode, body::Bytes};
use proto::relay::{PATH, RelayKeyFile};
use relay::{
    Relay,
    certificate::Certificate,
    listener::Port,
    message::Message,
    ready::Ready,
    stun::StunServer,
    tls::Authority,
    walls::{self, Kept},
};
use sandbox::{
    Missing,
    files::Grant,
    user::{self, User},
};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// What was freed holds nothing.
#[global_allocator]
static MEMORY: sandbox::wipe::Wiping = sandbox::wipe::Wiping;

/// Seconds in a day.
const DAY: u64 = 86_400;

/// The account that the packages make for it.
const ACCOUNT: &str = "tacet-relay";

/// A key file is one line; more is some other file.
const MAX_KEY_FILE: u64 = 4_096;

const EXAMPLES: &str = "\
Examples:
  On the coordinator, make the key file, and copy it to this host:
    tacet-coordinator relay-key --url https://relay.example.org > relay.key
  Here (a certificate is made at each start: machines know the relay by its key):
    tacet-relay serve --coordinator-key relay.key
  With a certificate of your own, on other ports:
    tacet-relay serve --coordinator-key relay.key --listen '[::]:8443' --stun-listen '[::]:3479' \\
        --tls-cert chain.pem --tls-key key.pem

Open TCP 443 and UDP 3478, or the ports you chose, in the firewall.

Open the next UDP port too, if you can: it helps machines behind the strictest NATs.

As a service it reads the key from /etc/tacet/relay.key: systemctl enable --now tacet-relay.

Before the first connection it gives up root, every capability and every file, and confines itself with Landlock and \
seccomp: it can write nowhere. A certificate of your own is read again twice a day and at SIGHUP, so its files must stay \
readable by the account it runs as, and lie in a folder of their own.";

#[derive(Parser)]
#[command(
    name = "relay",
    version,
    about = "Forwards ciphertext between a network's machines. Keeps nothing.",
    after_help = "Start with `tacet-relay serve --help`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay in the foreground until SIGTERM or SIGINT.
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Where machines connect to (TCP).
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:443")]
    listen: SocketAddr,
    /// Where machines ask for the address they are seen at (UDP).
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:3478")]
    stun_listen: SocketAddr,
    /// The file that `tacet-coordinator relay-key` wrote.
    #[arg(long, value_name = "FILE")]
    coordinator_key: PathBuf,
    /// A certificate chain in PEM form; without it one is made at each start.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Started as root: the account to run as. Unless given: tacet-relay, where there is such an account; else root,
    /// without its powers.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Run even where the kernel lacks Landlock or seccomp, without being locked down by them.
    #[arg(long)]
    allow_unsandboxed: bool,
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(say_where));
    let Command::Serve(arguments) = Cli::parse().command;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_why(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Serve) -> anyhow::Result<()> {
    walls::prepare().context("the system refuses to keep the relay's memory private")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(serve(arguments))
}

/// Why the relay could not start: what failed, and because of what.
#[expect(clippy::disallowed_macros, clippy::print_stderr, reason = "before the first connection")]
fn say_why(error: &anyhow::Error) {
    eprintln!("the relay cannot start: {error:#}");
}

#[expect(clippy::disallowed_macros, clippy::print_stderr, reason = "before the first connection")]
fn say(message: Message) {
    eprintln!("{}", message.text());
}

/// A panic's place in the source and nothing of what it was about; once the walls stand, not even that.
#[expect(
    clippy::disallowed_macros,
    clippy::print_stderr,
    reason = "a fault in the program, not an event of traffic"
)]
fn say_where(panic: &std::panic::PanicHookInfo<'_>) {
    if let Some(place) = panic.location() {
        eprintln!("a fault at {}:{}", place.file(), place.line());
    }
}

async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let missing = missing(arguments.allow_unsandboxed)?;
    let keys = read_keys(&arguments.coordinator_key)?;
    let certificate = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(chain), Some(key)) => Some(Certificate::from_files(chain, key)?),
        _ => None,
    };
    let tls = match &certificate {
        Some(certificate) => certificate.server_config(),
        // The relay is known by its key in the roster, which signs in each connection; this certificate is no more
        // than what TLS asks for.
        None => Authority::new(keys.relay.clone()).server_config(&[arguments.listen.ip().to_string()])?,
    };
    let port = Port::bind(arguments.listen)
        .with_context(|| format!("cannot listen on TCP {} (see --listen)", arguments.listen))?;
    let stun = StunServer::bind(arguments.stun_listen)
        .with_context(|| format!("cannot listen on UDP {} (see --stun-listen)", arguments.stun_listen))?;
    let relay = Relay::new(keys, today);
    let stop = stop(Arc::clone(&relay))?;
    let hangup = signal(SignalKind::hangup()).context("signals cannot be handled")?;
    let ready = Ready::prepare();

    let folders = certificate.as_ref().map(Certificate::folders).unwrap_or_default();
    let paths: Vec<(&Path, Grant)> = folders.iter().map(|folder| (folder.as_path(), Grant::Read)).collect();
    let user = user_of(arguments.user.as_deref())?;
    let kept = Kept { user, paths: &paths, calls: walls::relay(certificate.is_some()), silent: true };
    walls::put_up(kept, missing).context("it could not be locked down")?;

    let listener = port.listen(tls).context("the port was bound, and cannot be listened on")?;
    ready.say();
    tokio::spawn(stun.serve());
    if let Some(certificate) = certificate {
        // There is nobody to tell: one that cannot be used leaves the one before in its place.
        tokio::spawn(certificate.keep_fresh(hangup, |_| ()));
    }
    let handler = move |request: hyper::Request<hyper::body::Incoming>| {
        let response = match request.uri().path() {
            PATH => relay.answer(request),
            _ => not_found(),
        };
        async { response }
    };
    listener.serve(handler, stop).await;
    Ok(())
}

/// What to do where the kernel lacks a wall, having said so.
fn missing(allowed: bool) -> anyhow::Result<Missing> {
    match (sandbox::available(), allowed) {
        (Ok(()), _) => Ok(Missing::Refuse),
        (Err(_), true) => {
            say(Message::Unsandboxed);
            Ok(Missing::Allow)
        }
        (Err(error), false) => bail!(
            "{error}; without it the relay would not be locked down: update the kernel, or pass --allow-unsandboxed"
        ),
    }
}

/// Whom to run as, where root started it.
fn user_of(name: Option<&str>) -> anyhow::Result<Option<User>> {
    if !user::is_root() {
        return match name {
            None => Ok(None),
            Some(_) => {
                bail!("only root can run it as another account: leave out --user, or start it as root")
            }
        };
    }
    let found = user::named(name.unwrap_or(ACCOUNT)).context("the accounts of this host cannot be read")?;
    match (found, name) {
        (None, Some(name)) => bail!("there is no account {name} on this host (see --user)"),
        (found, _) => Ok(found),
    }
}

fn read_keys(path: &Path) -> anyhow::Result<RelayKeyFile> {
    let read = || -> std::io::Result<Zeroizing<String>> {
        if std::fs::metadata(path)?.len() > MAX_KEY_FILE {
            return Ok(Zeroizing::default());
        }
        std::fs::read_to_string(path).map(Zeroizing::new)
    };
    let text = read()
        .with_context(|| format!("cannot read the key file {} (see --coordinator-key)", path.display()))?;
    match RelayKeyFile::from_text(&text) {
        Ok(keys) => Ok(keys),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

/// Resolves at SIGTERM or SIGINT; the connected machines are told meanwhile, and have a moment to go elsewhere.
fn stop(relay: Arc<Relay>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move { relay.leave().await });
    })
}

fn not_found() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// The unix day: the one look at the wall clock in this program.
#[expect(
    clippy::disallowed_types,
    reason = "mailboxes are of a day, credentials of a month; nothing finer is kept"
)]
fn today() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u32::try_from(since.as_secs() / DAY).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, EXAMPLES};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// clap breaks lines where the terminal ends; a break in the text itself would leave half a line.
    #[test]
    fn no_paragraph_of_the_help_is_broken_by_hand() {
        for (line, next) in EXAMPLES.lines().zip(EXAMPLES.lines().skip(1)) {
            let apart = line.is_empty() || next.is_empty();
            let listed = next.starts_with(' ') && (line.starts_with(' ') || line.ends_with(':'));
            assert!(apart || listed, "{line}");
        }
    }
}
