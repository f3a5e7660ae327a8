//! `invite`, `invite create`, `invite list`, `invite revoke`.

use std::time::{Duration, SystemTime};

use proto::api::{Answer, Command, ErrorCode, Invite, InviteCreated};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Context;
use crate::{
    cli::{self, InviteCommand, InviteCreate},
    client::not_understood,
    failure::Failure,
    show::{Cell, Table, printable, qr, until, utc},
};

/// How long an invite is good if nothing is said.
const LIFETIME: Duration = Duration::from_secs(86_400);

pub(super) fn run(context: &Context<'_>, args: cli::Invite) -> Result<(), Failure> {
    let nothing = InviteCreate { name: None, uses: None, expires: None, groups: Vec::new() };
    match args.command {
        None => create(context, args.create),
        Some(_) if args.create != nothing => Err(Failure::new(
            ErrorCode::Usage,
            "the command line is wrong",
            "options of an invite stand before the word that says what to do with invites",
            "put them at the end: vpnctl invite create --uses 5",
        )),
        Some(InviteCommand::Create(args)) => create(context, args),
        Some(InviteCommand::List) => list(context),
        Some(InviteCommand::Revoke { id, fold }) => revoke(context, id, fold),
    }
}

fn create(context: &Context<'_>, args: InviteCreate) -> Result<(), Failure> {
    let command = Command::InviteCreate {
        name: args.name,
        uses: args.uses.unwrap_or(1),
        expires_in: args.expires.unwrap_or(LIFETIME).as_secs(),
        groups: args.groups,
    };
    let Answer::InviteCreated(made) = context.ask(command)? else {
        return Err(not_understood());
    };
    let line = Zeroizing::new(format!("vpnctl join {}", printable(made.token.expose())));
    let next = format!("revoke it, and make another: vpnctl invite revoke {}", printable(&made.invite.id));
    context.show_once(
        &Document { made: &made, command: &line },
        || created(context, &made, &line),
        "the invite is made, and its token is lost",
        next,
    )
}

fn created(context: &Context<'_>, made: &InviteCreated, line: &str) -> String {
    let token = printable(made.token.expose());
    let invite = &made.invite;
    let who = match (&invite.name, invite.uses) {
        (Some(name), 1) => format!("one machine join as {}", printable(name)),
        (None, 1) => "one machine join".to_owned(),
        (_, uses) => format!("{uses} machines join"),
    };
    let groups = if invite.groups.is_empty() { String::new() } else { format!(", into {}", groups(invite)) };
    let mut text = format!(
        "{token}\n\
         \n\
         Type this on the other machine:\n\
         \n\
         \x20 {line}\n\
         \n\
         It lets {who}{groups}, until {utc} ({until}).\n\
         Whoever sees it can join and read the roster: hand it over in private.\n",
        utc = utc(invite.expires),
        until = until(invite.expires, now()),
    );
    if context.ui.terminal() {
        let code = qr(made.token.expose(), context.ui.colour());
        text.extend(code.map(|code| format!("\n{code}")));
    }
    text
}

fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Invites(invites) = context.ask(Command::InviteList {})? else {
        return Err(not_understood());
    };
    context.show(&Invites { invites: &invites }, || {
        if invites.is_empty() {
            return "There are no invites. Make one: vpnctl invite\n".to_owned();
        }
        let mut table = Table::new(&["INVITE", "NAME", ">USES LEFT", "GROUPS", "EXPIRES"]);
        for invite in &invites {
            table.row(vec![
                Cell::new(invite.id.chars().take(SHORT_ID).collect::<String>()),
                Cell::or_hyphen(invite.name.as_deref()),
                Cell::new(invite.uses.to_string()),
                Cell::or_hyphen((!invite.groups.is_empty()).then(|| groups(invite))),
                Cell::new(until(invite.expires, now())),
            ]);
        }
        table.render(context.ui, "")
    })
}

fn revoke(context: &Context<'_>, id: String, fold: bool) -> Result<(), Failure> {
    let Answer::Revoked(revoked) = context.ask(Command::InviteRevoke { id, fold })? else {
        return Err(not_understood());
    };
    context.show(&revoked, || {
        let short: String = revoked.id.chars().take(SHORT_ID).collect();
        let mut text = format!("{} is revoked.\n", printable(&short));
        for (number, what) in [(revoked.taken_in, "taken in"), (revoked.dropped, "dropped")] {
            match number {
                0 => {}
                1 => text += &format!("One machine that had joined by it was {what}.\n"),
                many => text += &format!("{many} machines that had joined by it were {what}.\n"),
            }
        }
        text
    })
}

/// How much of an invite's id a person sees: enough to tell a network's invites apart.
const SHORT_ID: usize = 8;

fn groups(invite: &Invite) -> String {
    printable(&invite.groups.join(", "))
}

/// Unix seconds; a clock before 1970 counts as 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    made: &'a InviteCreated,
    command: &'a str,
}

#[derive(Serialize)]
struct Invites<'a> {
    invites: &'a [Invite],
}
