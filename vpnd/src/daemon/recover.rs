//! `recover`: the paper key takes a network back.
//!
//! Whoever holds the paper owns the network, and it wins over every signer: the recovered state has a higher recovery
//! count, this machine is its only signer, all invites end, and a new epoch begins. It starts from the newest roster
//! that the coordinator has or from the last one of this machine, as the person decides: a thief may have signed the
//! newest.

use std::sync::Arc;

use proto::{
    api::{ApiError, ErrorCode, Progress, RecoverFrom, Recovered, Recovery, RecoveryRoster, Secret},
    epoch::{EpochKey, EpochKeys, slot},
    identity::{MachineKeys, RootKeys},
    roster::{Edit, EditError, Head, Roster},
    token::{RecoveryKey, Token},
    wire::Wire,
};
use rand_core::OsRng;

use super::{Daemon, accounts, hostname, local_name, refusal};
use crate::{
    api::Replies,
    coordinator::{Client, Error},
    network::{Asker, CatchUpError, Handle, Kept, Query, fetch, listed, now},
    state::{Contents, Coordinator, Intent, Settings},
};

const WHAT: &str = "the network was not recovered";

/// What the person decided.
pub(super) struct Wanted {
    pub(super) key: Secret,
    pub(super) from: RecoverFrom,
    /// By name; `None` keeps all.
    pub(super) keep: Option<Vec<String>>,
    pub(super) machine: Option<String>,
    pub(super) alias: Option<String>,
}

/// A network, as the paper and this machine know it.
struct Case {
    paper: RecoveryKey,
    root: RootKeys,
    coordinator: Coordinator,
    client: Client,
    /// If this machine was in it.
    kept: Option<(Handle, Kept)>,
    newest: Option<Roster>,
}

/// Shows what there is to recover from.
///
/// # Errors
/// What the caller is to be told.
pub(super) async fn show(daemon: &Daemon, key: &Secret, replies: &Replies) -> Result<Recovery, ApiError> {
    let mut case = Case::open(daemon, key).await?;
    replies.progress(Progress::Contacting).await;
    case.newest = case.fetch().await?;
    let name = case.newest.as_ref().or(case.own()).map(|roster| roster.name().to_owned());
    let this = case.kept.as_ref().map(|(_, kept)| kept.keys.identity_public());
    let view = |roster: &Roster| RecoveryRoster {
        recovery: roster.order().recovery,
        generation: roster.order().generation,
        version: roster.order().version,
        machines: listed(roster, this.as_ref()),
    };
    Ok(Recovery {
        network: name.ok_or_else(nothing)?,
        newest: case.newest.as_ref().map(view),
        own: case.own().map(view),
    })
}

/// Recovers.
///
/// # Errors
/// What the caller is to be told.
pub(super) async fn recover(
    daemon: &Daemon,
    wanted: Wanted,
    replies: &Replies,
) -> Result<Recovered, ApiError> {
    let _one_at_a_time = daemon.adding.lock().await;
    let mut case = Case::open(daemon, &wanted.key).await?;
    if let (Some((network, _)), Some(_)) = (&case.kept, &wanted.alias) {
        return Err(known_already(&network.name));
    }
    // Who recovers was shown the rosters first, and told then that the coordinator is asked.
    case.newest = case.fetch().await?;
    let base = case.base(wanted.from)?.clone();
    let keys = match &case.kept {
        Some((_, kept)) => Arc::clone(&kept.keys),
        None => Arc::new(MachineKeys::generate(&mut OsRng)),
    };
    let own = case.own().and_then(|own| own.machine_by_identity(&keys.identity_public()));
    let name = match (wanted.machine, own) {
        (None, Some(own)) => own.name.clone(),
        (machine, _) => hostname::choose(WHAT, machine)?,
    };
    let Edit { roster, outcome: removed, .. } = sign(&case, &base, &keys, &name, wanted.keep.as_deref())?;

    replies.progress(Progress::Publishing).await;
    let member = roster.epoch_key().member_key();
    let bytes = roster.state().to_bytes();
    let publish = || case.client.heal(&case.paper.network, &member, bytes);
    let machine = roster
        .machine_by_identity(&keys.identity_public())
        .cloned()
        .ok_or_else(|| ApiError::new(ErrorCode::Failed, WHAT, "this machine is not in it", "try again"))?;
    let network = if let Some((network, _)) = case.kept {
        publish().await.map_err(|e| refusal::coordinator(WHAT, &e))?;
        network.ask(|reply| Query::Adopt(Box::new(roster), reply)).await?;
        network
    } else {
        daemon.need_interface(WHAT).await?;
        let alias = local_name::alias(WHAT, wanted.alias, roster.name())?;
        daemon.need_free_name(WHAT, alias.as_deref().unwrap_or(roster.name()), "vpnctl recover")?;
        let contents = Contents {
            epochs: EpochKeys::new(roster.epoch_key().clone()),
            roster: roster.state().clone(),
            keys: MachineKeys::from_bytes(&keys.to_bytes()).expect("keys read back what they wrote"),
            settings: Settings {
                network: roster.network(),
                intent: Intent::Up,
                coordinator: case.coordinator.clone(),
                alias,
            },
            membership: None,
            credentials: Vec::new(),
        };
        let unfinished = daemon.prepare(WHAT, &contents)?;
        publish().await.map_err(|e| refusal::coordinator(WHAT, &e))?;
        daemon.adopt(WHAT, unfinished, contents, case.client)?
    };
    replies.progress(Progress::Starting).await;
    // One that is not up yet is recovered all the same.
    let _ = network.ask(Query::Up).await;
    Ok(Recovered {
        network: network.name,
        machine: machine.name,
        ipv4: machine.ipv4,
        ipv6: machine.ipv6,
        removed,
    })
}

impl Case {
    /// What is known before the coordinator is asked.
    async fn open(daemon: &Daemon, key: &Secret) -> Result<Self, ApiError> {
        let paper = RecoveryKey::from_text(key.expose()).map_err(|e| refusal::token(WHAT, e))?;
        let root = RootKeys::from_seed(&paper.seed);
        if root.public().network_id() != paper.network {
            return Err(ApiError::new(
                ErrorCode::InvalidToken,
                WHAT,
                "the recovery key contradicts itself",
                "type it anew, as it was printed",
            ));
        }
        let kept = match daemon.networks().into_iter().find(|network| network.id == paper.network) {
            None => {
                // What is stored of one that is damaged would be in the way once the coordinator has the new roster.
                daemon.need_foreign(WHAT, &paper.network)?;
                None
            }
            Some(network) => {
                let kept = network.ask(Query::Kept).await?;
                Some((network, kept))
            }
        };
        // A coordinator that has moved since the paper was printed is known to this machine.
        let coordinator = match &kept {
            Some((network, _)) => network.coordinator.clone(),
            None => Coordinator { url: paper.url.clone(), pin: paper.pin },
        };
        let client = accounts::client(WHAT, &coordinator, &daemon.way)?;
        Ok(Self { paper, root, coordinator, client, kept, newest: None })
    }

    fn own(&self) -> Option<&Roster> {
        self.kept.as_ref().map(|(_, kept)| &kept.present.roster)
    }

    /// The coordinator's roster; `None` if it has none that the network's signers signed and the paper opens.
    async fn fetch(&self) -> Result<Option<Roster>, ApiError> {
        let network = self.paper.network;
        let told = |e: &Error| refusal::coordinator(WHAT, e);
        let head = match self.client.head(&network).await {
            Ok(head) => head,
            Err(Error::NotFound) => return Ok(None),
            Err(e) => return Err(told(&e)),
        };
        let Ok(head) = Head::from_bytes(&head) else { return Ok(None) };
        if head.verify(&network).is_err() {
            return Ok(None);
        }
        let epoch = head.header().epoch;
        let known = self.kept.as_ref().and_then(|(_, kept)| kept.present.epochs.find(&epoch).cloned());
        let key = match known {
            Some(key) => key,
            None => match self.client.slot(&network, &slot(&self.root.sealing().public(), &epoch)).await {
                Ok(sealed) => match EpochKey::open(self.root.sealing(), &network, &epoch, &sealed) {
                    Some(key) => key,
                    None => return Ok(None),
                },
                Err(Error::NotFound) => return Ok(None),
                Err(e) => return Err(told(&e)),
            },
        };
        let asker = Asker { network, keys: Arc::new(MachineKeys::generate(&mut OsRng)), invite: None };
        match fetch(&self.client, &asker, key, &head).await {
            Ok(roster) => Ok(Some(roster)),
            Err(CatchUpError::Coordinator(e)) => Err(told(&e)),
            Err(_) => Ok(None),
        }
    }

    /// The roster that is kept.
    fn base(&self, from: RecoverFrom) -> Result<&Roster, ApiError> {
        let newest = self.newest.as_ref();
        match from {
            RecoverFrom::Newest => newest.ok_or_else(|| {
                ApiError::new(
                    ErrorCode::Failed,
                    WHAT,
                    "the coordinator has no roster that the recovery key opens",
                    "on a machine that was in the network: vpnctl recover --from own",
                )
            }),
            RecoverFrom::Own => {
                let own = self.own().ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Failed,
                        WHAT,
                        "this machine has no roster of the network",
                        "start from the coordinator's: vpnctl recover --from newest",
                    )
                })?;
                if newest.is_some_and(|newest| newest.order().recovery > own.order().recovery) {
                    return Err(ApiError::new(
                        ErrorCode::Conflict,
                        WHAT,
                        "the recovery key was used since this machine's last roster",
                        "start from the coordinator's: vpnctl recover --from newest",
                    ));
                }
                Ok(own)
            }
        }
    }
}

/// The recovered state; the outcome names who was removed.
fn sign(
    case: &Case,
    base: &Roster,
    keys: &MachineKeys,
    name: &str,
    keep: Option<&[String]>,
) -> Result<Edit<Vec<String>>, ApiError> {
    if let Some(stranger) = keep.into_iter().flatten().find(|name| base.machine_by_name(name).is_none()) {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            WHAT,
            format!("there is no machine {stranger} in that roster"),
            "vpnctl recover shows who is",
        ));
    }
    let this = keys.identity_public();
    let lost: Vec<_> = base
        .machines()
        .filter(|machine| machine.identity.identity != this)
        .filter(|machine| keep.is_some_and(|keep| !keep.contains(&machine.name)))
        .map(|machine| (machine.id, machine.name.clone()))
        .collect();
    base.recover(&case.root, keys, name, now(), &mut OsRng, |draft| {
        draft.remove_all_invites();
        for (id, _) in &lost {
            draft.remove_machine(id)?;
        }
        Ok(lost.into_iter().map(|(_, name)| name).collect())
    })
    .map_err(|e: EditError| ApiError::new(ErrorCode::Failed, WHAT, e.to_string(), "keep fewer machines"))
}

fn known_already(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        WHAT,
        format!("this machine is in the network already, and knows it as {name}"),
        "leave out --as",
    )
}

fn nothing() -> ApiError {
    ApiError::new(
        ErrorCode::Failed,
        WHAT,
        "neither the coordinator nor this machine has a roster that the recovery key opens",
        "try on a machine that was in the network",
    )
}
