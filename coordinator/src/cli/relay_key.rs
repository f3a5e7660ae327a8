//! `coordinator relay-key`.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use clap::Args;
use proto::{coordinator::RelayOffer, relay::RelayKeyFile};
use rand_core::OsRng;
use serde::Serialize;

use super::{Data, Failure, Output, url};

/// Makes a relay's key file.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tacet-coordinator relay-key --url https://relay.example.org > relay.key\n  \
    tacet-coordinator relay-key --url https://relay.example.org --remove\n\n\
    Copy the file to the relay's host, and start there:\n  tacet-relay serve --coordinator-key relay.key\n\n\
    Networks made from then on use the relay too. Calling it again makes a new key: the old one is worth nothing \
    then.")]
pub(super) struct RelayKey {
    #[command(flatten)]
    data: Data,
    /// Where machines reach the relay: https://HOST or https://HOST:PORT.
    #[arg(long, value_name = "URL", value_parser = url::parse)]
    url: String,
    /// The UDP port of its STUN server; 0 if it has none.
    #[arg(long, value_name = "PORT", default_value_t = 3478)]
    stun_port: u16,
    /// Write the key to this new file instead of printing it.
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    out: Option<PathBuf>,
    /// Offer this relay no more.
    #[arg(long)]
    remove: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    offered: bool,
    key_file: Option<&'a str>,
}

impl RelayKey {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the relay's key was not made");
        let store = self.data.dir().open().await.map_err(&failed)?;
        if self.remove {
            let removed = store.remove_relay(&self.url).await.map_err(&failed)?;
            store.close().await;
            if !removed {
                return Err(Failure::new(
                    "the relay was not removed",
                    "no relay is offered at this URL",
                    "give the URL as it was given before",
                ));
            }
            let document = Document { url: &self.url, offered: false, key_file: None };
            return out
                .show(&document, "Removed. Networks that use the relay keep it until a signer removes it.");
        }
        let secrets = store.secrets(&mut OsRng).await.map_err(&failed)?;
        let file = RelayKeyFile::generate(secrets.issuer.admission_key(), &mut OsRng);
        let text = file.to_text();
        if let Some(path) = &self.out {
            // Before the relay is offered: a key that nobody has must not be.
            let written = OpenOptions::new().mode(0o600).create_new(true).write(true).open(path);
            written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
                let why = match error.kind() {
                    ErrorKind::AlreadyExists => "there is a file of that name already",
                    ErrorKind::PermissionDenied => "this user may not write there",
                    ErrorKind::StorageFull => "the disk is full",
                    _ => "the file cannot be written",
                };
                Failure::new("the relay's key was not made", why, "give another file with --out")
            })?;
        }
        let key = file.relay.verifying_key().to_bytes();
        let stun_port = Some(self.stun_port).filter(|&port| port != 0);
        store.put_relay(&RelayOffer { url: self.url.clone(), key, stun_port }).await.map_err(&failed)?;
        store.close().await;
        match &self.out {
            Some(path) => {
                let document = Document { url: &self.url, offered: true, key_file: None };
                let next = format!(
                    "Written: {}. Copy it to the relay's host, and start there:\n\n  \
                     relay serve --coordinator-key relay.key",
                    path.display()
                );
                out.show(&document, &next)
            }
            None => out.show(&Document { url: &self.url, offered: true, key_file: Some(&text) }, &text),
        }
    }
}
