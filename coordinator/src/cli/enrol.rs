//! `coordinator enrol`.

use clap::Args;
use proto::{
    identity::Pin,
    token::{EnrolCode, EnrolToken, Token},
};
use rand_core::{OsRng, RngCore};
use relay::tls::Authority;
use serde::Serialize;

use super::{Data, Failure, Output, program};
use crate::{clock::today, store::ENROLMENT_DAYS};

/// Makes an enrolment code.
#[derive(Args)]
#[command(after_help = "Example:\n  tacet-coordinator enrol\n\nWorks while `tacet-coordinator serve` runs.")]
pub(super) struct Enrol {
    #[command(flatten)]
    data: Data,
}

#[derive(Serialize)]
struct Document<'a> {
    token: &'a str,
    url: &'a str,
    pin: Option<String>,
    days: u32,
    command: String,
}

impl Enrol {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("no enrolment code was made");
        let store = self.data.dir().open().await.map_err(&failed)?;
        let Some(address) = store.public_address().await.map_err(&failed)? else {
            let serve = format!("{} serve{} --public-url https://HOST", program(), self.data.flags());
            return Err(Failure::new(
                "no enrolment code was made",
                "this coordinator has not been started yet, so its address is not known",
                format!("start it first: {serve}"),
            ));
        };
        let secrets = store.secrets(&mut OsRng).await.map_err(&failed)?;
        let pin = address.pinned.then(|| Pin(Authority::new(secrets.authority).pin()));
        let mut code = vec![0; 16];
        OsRng.fill_bytes(&mut code);
        let code = EnrolCode(code);
        store.add_enrolment(&code, today()).await.map_err(&failed)?;
        store.close().await;

        let token = EnrolToken { url: address.url.clone(), pin, code }.to_text();
        let command = format!("vpnctl account create NAME --enrol {}", *token);
        let text = format!(
            "{}\n\nOn the first machine, type this with a name of your choice:\n\n  {command}\n\n\
             The token makes one account, and ends after {ENROLMENT_DAYS} days.",
            *token
        );
        let document = Document {
            token: &token,
            url: &address.url,
            pin: pin.map(|pin| data_encoding::HEXLOWER.encode(&pin.0)),
            days: ENROLMENT_DAYS,
            command,
        };
        out.show(&document, &text)
    }
}
