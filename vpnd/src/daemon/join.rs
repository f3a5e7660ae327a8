//! `join`: this machine becomes a member by an invite.
//!
//! The token names the coordinator, the network and the least that the network's head may be. With them the head is
//! checked, the epoch key taken from the invite's slot, and the roster opened. The record that this machine makes,
//! signed by the invite and by itself, *is* its membership; the join list tells the others of it.

use std::{sync::Arc, time::Duration};

use proto::{
    api::{ApiError, ErrorCode, Joined, Progress},
    coordinator::{Auth, Join},
    epoch::EpochKeys,
    identity::MachineKeys,
    roster::{Head, JoinRecord, Roster, RosterError},
    token::{InviteToken, Token},
    wire::Wire,
};
use rand_core::OsRng;
use tokio::time::sleep;

use super::{Daemon, accounts, hostname, local_name, refusal};
use crate::{
    api::Replies,
    coordinator::{Client, Error},
    network::{Asker, CatchUpError, Query, fetch, fetch_key, now},
    state::{Contents, Coordinator, Intent, Membership, Settings},
};

const WHAT: &str = "this machine did not join";

/// Before a record is sent again whose answer got lost.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// What the person asked for beside.
pub(super) struct Wanted {
    pub(super) machine: Option<String>,
    pub(super) alias: Option<String>,
}

/// Joins, keeps the membership and brings the network up.
///
/// # Errors
/// What the caller is to be told.
pub(super) async fn join(
    daemon: &Daemon,
    token: &str,
    wanted: Wanted,
    replies: &Replies,
) -> Result<Joined, ApiError> {
    let _one_at_a_time = daemon.adding.lock().await;
    let token = InviteToken::from_text(token).map_err(|e| refusal::token(WHAT, e))?;
    let machine = hostname::choose(WHAT, wanted.machine)?;
    daemon.need_foreign(WHAT, &token.network)?;
    daemon.need_interface(WHAT).await?;
    let coordinator = Coordinator { url: token.url.clone(), pin: token.pin };
    let client = accounts::client(WHAT, &coordinator)?;
    let asker = Asker {
        network: token.network,
        keys: Arc::new(MachineKeys::generate(&mut OsRng)),
        invite: Some(token.secret.clone()),
    };

    replies.progress(Progress::Contacting).await;
    let head = head(&client, &token).await?;
    replies.progress(Progress::Checking).await;
    let roster = open(&client, &asker, &head).await?;
    let alias = local_name::alias(WHAT, wanted.alias, roster.name())?;
    daemon.need_free_name(WHAT, alias.as_deref().unwrap_or(roster.name()), "vpnctl join TOKEN")?;

    replies.progress(Progress::Keys).await;
    let record =
        JoinRecord::create(&roster, &token.secret, &asker.keys, &machine, &mut OsRng).map_err(|e| {
            ApiError::new(
                ErrorCode::TokenUsedUp,
                WHAT,
                e.to_string(),
                "ask for a new invite: vpnctl invite on a signer",
            )
        })?;
    let contents = Contents {
        epochs: EpochKeys::new(roster.epoch_key().clone()),
        roster: roster.state().clone(),
        keys: MachineKeys::from_bytes(&asker.keys.to_bytes()).expect("keys read back what they wrote"),
        settings: Settings { network: token.network, intent: Intent::Up, coordinator, alias },
        membership: Some(Membership { secret: token.secret.clone(), record: record.to_bytes() }),
        credentials: Vec::new(),
    };
    let unfinished = daemon.prepare(WHAT, &contents)?;

    replies.progress(Progress::Publishing).await;
    let sealed = Join { invite: token.secret.id(), record: roster.seal_join(&record, &mut OsRng) };
    append(&client, &token, &sealed).await.map_err(|e| refusal::coordinator(WHAT, &e))?;
    let network = daemon.adopt(WHAT, unfinished, contents)?;

    replies.progress(Progress::Starting).await;
    network.ask(Query::Up).await?;
    let own = network.ask(|reply| Query::Machine(None, reply)).await?;
    Ok(Joined {
        roster_name: (network.name != roster.name()).then(|| roster.name().to_owned()),
        network: network.name,
        machine: own.name,
        ipv4: own.ipv4,
        ipv6: own.ipv6,
        provisional: own.provisional,
    })
}

/// The network's present head, checked against the token.
async fn head(client: &Client, token: &InviteToken) -> Result<Head, ApiError> {
    let bytes = client.head(&token.network).await.map_err(|e| refusal::coordinator(WHAT, &e))?;
    let head = Head::from_bytes(&bytes).map_err(|e| untrusted(RosterError::Format(e)))?;
    head.verify(&token.network).and_then(|()| head.meets(&token.floor)).map_err(untrusted)?;
    let ask_anew = "ask for a new invite: vpnctl invite on a signer";
    match head.header().invites.iter().find(|invite| invite.id == token.secret.id()) {
        None => Err(ApiError::new(
            ErrorCode::TokenUsedUp,
            WHAT,
            "the invite was used as often as it may be, or was revoked",
            ask_anew,
        )),
        Some(invite) if invite.expires <= now() => {
            Err(ApiError::new(ErrorCode::TokenExpired, WHAT, "the invite has expired", ask_anew))
        }
        Some(_) => Ok(head),
    }
}

/// Puts the record on the join list. An answer that got lost would leave it there for a machine that never came, so
/// it is sent again; the same record twice is one.
async fn append(client: &Client, token: &InviteToken, join: &Join) -> Result<(), Error> {
    let auth = Auth::Invite { id: token.secret.id(), key: &token.secret.signing() };
    for pause in PAUSES {
        match client.append_join(&token.network, &auth, join).await {
            Err(Error::Unreachable(_)) => sleep(pause).await,
            done => return done,
        }
    }
    client.append_join(&token.network, &auth, join).await
}

async fn open(client: &Client, asker: &Asker, head: &Head) -> Result<Roster, ApiError> {
    let key = fetch_key(client, asker, head.header()).await.map_err(refused)?;
    fetch(client, asker, key, head).await.map_err(refused)
}

fn refused(error: CatchUpError) -> ApiError {
    match error {
        CatchUpError::Coordinator(e) => refusal::coordinator(WHAT, &e),
        CatchUpError::Roster(e) => untrusted(e),
        CatchUpError::Removed => ApiError::new(
            ErrorCode::TokenUsedUp,
            WHAT,
            "the invite was revoked",
            "ask for a new invite: vpnctl invite on a signer",
        ),
    }
}

fn untrusted(error: RosterError) -> ApiError {
    let code = match error {
        RosterError::Format(proto::wire::WireError::Newer { .. }) => ErrorCode::Newer,
        _ => ErrorCode::Untrusted,
    };
    ApiError::new(
        code,
        WHAT,
        error.to_string(),
        "tell whoever gave you the invite; do not join while the coordinator says this",
    )
}
