//! `account create`, `account login`, `account logout`.

use proto::api::{Answer, Command, ErrorCode};
use serde::Serialize;

use super::Context;
use crate::{cli::Account, client::not_understood, failure::Failure, password, show::printable};

pub(super) fn run(context: &Context<'_>, command: Account) -> Result<(), Failure> {
    match command {
        Account::Create { name, enrol, password: source } => {
            if enrol == "-" && source.password_stdin {
                return Err(Failure::new(
                    ErrorCode::Usage,
                    "the command line is wrong",
                    "token and password cannot both come from standard input",
                    "use --password-file FILE",
                ));
            }
            let enrol = password::token(&enrol)?;
            context.check_daemon()?;
            let password = password::new(&source)?;
            logged_in(context, Command::AccountCreate { name, enrol, password }, |name, at| {
                format!(
                    "Created the account {name} at {at} and logged in.\nNext: vpnctl network create NAME\n"
                )
            })
        }
        Account::Login { name, coordinator, pin, password: source } => {
            context.check_daemon()?;
            let password = password::present(&source)?;
            logged_in(context, Command::AccountLogin { name, coordinator, pin, password }, |name, at| {
                format!("Logged in as {name} at {at}.\n")
            })
        }
        Account::Logout { coordinator } => {
            context.ask_done(Command::AccountLogout { coordinator }, "Logged out. The networks go on.\n")
        }
    }
}

fn logged_in(
    context: &Context<'_>,
    command: Command,
    text: impl FnOnce(&str, &str) -> String,
) -> Result<(), Failure> {
    let Answer::Account(account) = context.ask(command)? else {
        return Err(not_understood());
    };
    context.show(&Document { account: &account }, || {
        text(&printable(&account.name), &printable(&account.coordinator))
    })
}

#[derive(Serialize)]
struct Document<'a> {
    account: &'a proto::api::Account,
}
