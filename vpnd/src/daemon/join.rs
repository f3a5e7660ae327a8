//! `join`: this machine becomes a member by an invite.
//!
//! The token names the coordinator, the network and the least that the network's head may be. The invite's own key is
//! enough to be handed the whole state: its head is checked, the epoch key taken from the invite's slot, and the roster
//! opened. The record that this machine makes,
//! signed by the invite and by itself, *is* its membership; the join list tells the others of it.

use std::time::Duration;

use proto::{
    api::{ApiError, ErrorCode, Joined, Progress},
    coordinator::{Auth, Join},
    epoch::{EpochKey, EpochKeys, slot},
    identity::MachineKeys,
    relay::month_of,
    roster::{JoinRecord, PublicState, Roster, RosterError},
    token::{InviteToken, Token},
    wire::Wire,
};
use rand_core::OsRng;
use tokio::time::sleep;

use super::{Daemon, accounts, hostname, local_name, refusal};
use crate::{
    api::Replies,
    coordinator::{Client, Error},
    network::{Query, clock},
    state::{Contents, Coordinator, Intent, Membership, Settings},
};

const WHAT: &str = "this machine did not join";

const ASK_ANEW: &str = "ask for a new invite: vpnctl invite on a signer";

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
    let client = accounts::client(WHAT, &coordinator, &daemon.way)?;
    let keys = MachineKeys::generate(&mut OsRng);

    replies.progress(Progress::Contacting).await;
    // The second connection is for the credential, and then for the watch.
    let (state, _) = tokio::join!(state(&client, &token), client.prepare());
    let state = state?;
    replies.progress(Progress::Checking).await;
    let roster = open(state, &token, clock::now())?;
    let alias = local_name::alias(WHAT, wanted.alias, roster.name())?;
    daemon.need_free_name(WHAT, alias.as_deref().unwrap_or(roster.name()), "vpnctl join TOKEN")?;

    replies.progress(Progress::Keys).await;
    let record = JoinRecord::create(&roster, &token.secret, &keys, &machine, &mut OsRng)
        .map_err(|e| ApiError::new(ErrorCode::TokenUsedUp, WHAT, e.to_string(), ASK_ANEW))?;
    let invited = roster.invite(&token.secret.id()).and_then(|invite| invite.name.clone());
    let wanted = invited.unwrap_or(machine);
    let mut contents = Contents {
        epochs: EpochKeys::new(roster.epoch_key().clone()),
        roster: roster.state().clone(),
        keys,
        settings: Settings { network: token.network, intent: Intent::Up, coordinator, alias },
        membership: Some(Membership { secret: token.secret.clone(), record: record.to_bytes() }),
        credentials: Vec::new(),
    };
    let unfinished = daemon.prepare(WHAT, &contents)?;

    replies.progress(Progress::Publishing).await;
    let sealed = Join { invite: token.secret.id(), record: roster.seal_join(&record, &mut OsRng) };
    let member = roster.epoch_key().member_key();
    let month = month_of(clock::day());
    let (appended, credential) =
        tokio::join!(append(&client, &token, &sealed), client.credential(&token.network, &member, month));
    appended.map_err(|e| refusal::coordinator(WHAT, &e))?;
    // Without one now the network fetches it once it runs.
    contents.credentials.extend(credential.ok().filter(|credential| credential.month() == month));
    let network = daemon.adopt(WHAT, unfinished, contents, client)?;

    replies.progress(Progress::Starting).await;
    network.ask(Query::Up).await?;
    let own = network.ask(|reply| Query::Machine(None, reply)).await?;
    Ok(Joined {
        roster_name: (network.name != roster.name()).then(|| roster.name().to_owned()),
        network: network.name,
        wanted: (own.name != wanted).then_some(wanted),
        machine: own.name,
        ipv4: own.ipv4,
        ipv6: own.ipv6,
        provisional: own.provisional,
    })
}

/// The network's present state, which whoever holds a live invite may have.
async fn state(client: &Client, token: &InviteToken) -> Result<PublicState, ApiError> {
    let auth = Auth::Invite { id: token.secret.id(), key: &token.secret.signing() };
    let bytes = client.state(&token.network, &auth).await.map_err(|e| refusal::coordinator(WHAT, &e))?;
    PublicState::from_bytes(&bytes).map_err(|e| untrusted(&RosterError::Format(e)))
}

/// The roster in it, checked against the token and opened by the invite's key.
pub(crate) fn open(state: PublicState, token: &InviteToken, now: u64) -> Result<Roster, ApiError> {
    let head = &state.head;
    head.verify(&token.network).and_then(|()| head.meets(&token.floor)).map_err(|e| untrusted(&e))?;
    match head.header().invites.iter().find(|invite| invite.id == token.secret.id()) {
        None => {
            let why = "the invite was used as often as it may be, or was revoked";
            return Err(ApiError::new(ErrorCode::TokenUsedUp, WHAT, why, ASK_ANEW));
        }
        Some(invite) if invite.expires <= now => {
            return Err(ApiError::new(ErrorCode::TokenExpired, WHAT, "the invite has expired", ASK_ANEW));
        }
        Some(_) => {}
    }
    let sealing = token.secret.sealing();
    let epoch = head.header().epoch;
    let key = state
        .sealed_key(&slot(&sealing.public(), &epoch))
        .and_then(|sealed| EpochKey::open(&sealing, &token.network, &epoch, sealed))
        .ok_or_else(|| untrusted(&RosterError::WrongKey))?;
    Roster::open(state, key, &token.network).map_err(|e| untrusted(&e))
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

fn untrusted(error: &RosterError) -> ApiError {
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
