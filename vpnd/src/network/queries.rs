//! Answers to the local API.

use std::{collections::HashSet, time::Duration};

use proto::{
    api::{ApiError, ErrorCode, InviteCreated, NetworkStatus, Secret, is_called},
    identity::NetworkId,
    pipe::ToData,
    roster::{
        EditError, InviteSecret, MAX_GROUPS, MachineEntry, NewInvite as InviteWish, RosterError, valid_name,
    },
    token::{InviteToken, Token},
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    actor::Actor,
    catch_up::{CatchUpError, Present},
    clock,
    handle::{Echo, Kept, NewInvite, Query, Rename, Reply},
    signer::{ChangeError, Changed, Edit, Outcome},
    view::{enliven, invite, path},
};
use crate::{daemon::refusal, state::Coordinator};

/// The data path answers a status request within its next turn; longer than this and it is not well.
const STATUS_TIME: Duration = Duration::from_secs(1);

/// A ping may have to make a session over a slow relay first.
const PING_TIME: Duration = Duration::from_secs(5);

/// An invite lives this long at most.
const LONGEST_INVITE: u64 = 366 * 86_400;

impl Actor {
    /// Answers, at once or by a task that waits for others.
    pub(super) fn answer(&mut self, query: Query) {
        // Whoever asked may be gone: then the answer is dropped.
        match query {
            Query::Summary(reply) => drop(reply.send(Ok(self.summary()))),
            Query::Machines(reply) => drop(reply.send(Ok(self.machine_list()))),
            Query::Invites(reply) => drop(reply.send(Ok(self.invite_list()))),
            Query::Machine(name, reply) => {
                let found = self.machine_list().into_iter().find(|machine| match &name {
                    Some(name) => machine.name == *name,
                    None => machine.this,
                });
                drop(reply.send(found.ok_or_else(|| no_machine("the address cannot be shown"))));
            }
            Query::Surroundings(reply) => drop(reply.send(Ok(self.surroundings()))),
            Query::Status(reply) => self.status(reply),
            Query::Ping(name, reply) => self.ping(&name, reply),
            Query::Rename(names, reply) => self.rename(&names, reply),
            Query::CreateInvite(wish, reply) => self.create_invite(wish, reply),
            Query::Remove(name, reply) => self.remove(&name, reply),
            Query::RevokeInvite(wish, reply) => self.revoke(&wish, reply),
            Query::AddSigner(name, reply) => self.add_signer(&name, reply),
            Query::RemoveSigner(name, reply) => self.remove_signer(&name, reply),
            Query::AddRelays(relays, reply) => self.add_relays(relays, reply),
            Query::RemoveRelay(url, reply) => self.remove_relay(url, reply),
            Query::Kept(reply) => {
                let kept = Kept { present: self.present.borrow().clone(), keys: self.keys.clone() };
                drop(reply.send(Ok(kept)));
            }
            Query::Adopt(..) | Query::Up(_) | Query::Down(_) | Query::Leave(..) | Query::Stop(_) => {
                unreachable!("the loop handles these")
            }
        }
    }

    fn status(&mut self, reply: Reply<NetworkStatus>) {
        let mut status = self.quiet_status();
        let numbers = self.numbers();
        let (asker, live) = oneshot::channel();
        let token = self.waiting.token();
        self.waiting.statuses.retain(|_, asker| !asker.is_closed());
        self.waiting.statuses.insert(token, asker);
        if !self.tell(&ToData::StatusRequest { token }) {
            return drop(reply.send(Ok(status)));
        }
        tokio::spawn(async move {
            if let Ok(Ok(live)) = timeout(STATUS_TIME, live).await {
                enliven(&mut status, &numbers, &live);
            }
            let _ = reply.send(Ok(status));
        });
    }

    fn ping(&mut self, name: &str, reply: Reply<Option<Echo>>) {
        const WHAT: &str = "the machine was not pinged";
        if self.running.is_none() {
            return drop(reply.send(Err(is_down(WHAT))));
        }
        let called = |of: &MachineEntry| is_called(&of.name, of.ipv4, of.ipv6, name);
        let found = self.members.iter().find(|(_, machine)| called(machine));
        let Some(peer) = found.and_then(|(key, _)| self.peers.number(key)) else {
            let own = self.own().is_some_and(|own| called(&own));
            return drop(reply.send(Err(if own { is_this(WHAT) } else { no_machine(WHAT) })));
        };
        let (asker, pong) = oneshot::channel();
        let token = self.waiting.token();
        self.waiting.pings.retain(|_, asker| !asker.is_closed());
        self.waiting.pings.insert(token, asker);
        if !self.tell(&ToData::Ping { token, peer }) {
            return drop(reply.send(Ok(None)));
        }
        tokio::spawn(async move {
            let pong = timeout(PING_TIME, pong).await;
            let result = pong.ok().and_then(Result::ok).and_then(|pong| pong.result);
            let echo = result.map(|(rtt, view)| {
                let (path, endpoint) = path(view);
                Echo { rtt, path, endpoint }
            });
            let _ = reply.send(Ok(echo));
        });
    }

    fn rename(&self, names: &Rename, reply: Reply<()>) {
        const WHAT: &str = "the machine was not renamed";
        let machine = self.present.borrow().roster.machine_by_name(&names.old).map(|machine| machine.id);
        let Some(id) = machine else {
            let joiner = self.members.values().chain(&self.own()).any(|machine| machine.name == names.old);
            return drop(reply.send(Err(if joiner { not_yet(WHAT) } else { no_machine(WHAT) })));
        };
        if names.old == names.new {
            // Nothing that all machines would have to write down.
            return drop(reply.send(Ok(())));
        }
        let new = names.new.clone();
        let edit: Edit = Box::new(move |draft| {
            draft.rename_machine(&id, &new)?;
            Ok(Outcome::default())
        });
        self.change(WHAT, edit, reply, |_| Ok(()));
    }

    fn create_invite(&self, mut wish: NewInvite, reply: Reply<InviteCreated>) {
        const WHAT: &str = "no invite was made";
        let mut seen = HashSet::new();
        wish.groups.retain(|group| seen.insert(group.clone()));
        if let Some(refusal) = check_invite(WHAT, &wish) {
            return drop(reply.send(Err(refusal)));
        }
        // A whole minute: the second in which an invite was made is nobody's business.
        let expires = clock::now().saturating_add(wish.expires_in).next_multiple_of(60);
        let edit: Edit = Box::new(move |draft| {
            let NewInvite { name, uses, groups, .. } = wish.clone();
            draft.remove_expired_invites();
            let secret = draft.add_invite(InviteWish { name, uses, expires, groups })?;
            Ok(Outcome { invite: Some(secret), ..Outcome::default() })
        });
        let (network, coordinator) = (self.settings.network, self.settings.coordinator.clone());
        self.change(WHAT, edit, reply, move |changed| {
            let Changed { present, outcome: Outcome { invite: Some(secret), .. } } = changed else {
                return Err(no_invite(WHAT));
            };
            created(&network, &coordinator, &present, secret).ok_or_else(|| no_invite(WHAT))
        });
    }

    /// Hands a change to the signer, and its outcome to whoever asked.
    pub(super) fn change<T: Send + 'static>(
        &self,
        what: &'static str,
        edit: Edit,
        reply: Reply<T>,
        finish: impl FnOnce(Changed) -> Result<T, ApiError> + Send + 'static,
    ) {
        let Some(running) = &self.running else { return drop(reply.send(Err(is_down(what)))) };
        if !self.present.borrow().roster.is_signer(&self.keys.identity_public()) {
            return drop(reply.send(Err(not_signer(what))));
        }
        if self.health.contradiction.is_some() {
            let forked = CatchUpError::from(RosterError::Forked).into();
            return drop(reply.send(Err(refuse(what, &forked))));
        }
        let (done, outcome) = oneshot::channel();
        running.signer.ask(edit, done);
        tokio::spawn(async move {
            let outcome = outcome.await.unwrap_or(Err(ChangeError::Busy));
            let answer = outcome.map_err(|e| refuse(what, &e)).and_then(finish);
            let _ = reply.send(answer);
        });
    }
}

/// The token of an invite that the coordinator took, and how it is listed. `None` if it is gone already.
fn created(
    network: &NetworkId,
    coordinator: &Coordinator,
    present: &Present,
    secret: InviteSecret,
) -> Option<InviteCreated> {
    let entry = present.roster.invite(&secret.id())?;
    let token = InviteToken {
        url: coordinator.url.clone(),
        pin: coordinator.pin,
        network: *network,
        floor: present.roster.head().floor(),
        secret,
    };
    Some(InviteCreated { token: Secret::new(token.to_text().to_string()), invite: invite(entry) })
}

fn check_invite(what: &str, wish: &NewInvite) -> Option<ApiError> {
    if !wish.name.iter().all(|name| valid_name(name)) {
        return Some(crate::daemon::hostname::invalid(what));
    }
    if !wish.groups.iter().all(|group| valid_name(group)) {
        return Some(ApiError::new(
            ErrorCode::InvalidName,
            what,
            "a group has 1 to 63 lower-case letters, digits and hyphens, and starts and ends with a letter or digit",
            "name the groups with commas between them: --groups family,guests",
        ));
    }
    if wish.groups.len() > MAX_GROUPS {
        return Some(ApiError::new(
            ErrorCode::Usage,
            what,
            format!("a machine is in {MAX_GROUPS} groups at most"),
            "name fewer with --groups",
        ));
    }
    if wish.name.is_some() && wish.uses > 1 {
        return Some(ApiError::new(
            ErrorCode::Usage,
            what,
            "an invite for several machines cannot set the name of one",
            "leave out --name, or make one invite for each machine",
        ));
    }
    if wish.expires_in > LONGEST_INVITE {
        return Some(ApiError::new(
            ErrorCode::Usage,
            what,
            "an invite lives a year at most",
            "choose a shorter time: --expires 7d",
        ));
    }
    None
}

/// What a change that was not made means for who asked.
fn refuse(what: &str, error: &ChangeError) -> ApiError {
    let edit = match error {
        ChangeError::Edit(edit) => edit,
        ChangeError::CatchUp(CatchUpError::Coordinator(e)) => return refusal::coordinator(what, e),
        ChangeError::CatchUp(e @ CatchUpError::Removed) => {
            let next = "ask for a new invite, then: vpnctl leave, vpnctl join TOKEN";
            return ApiError::new(ErrorCode::NotPermitted, what, e.to_string(), next);
        }
        ChangeError::CatchUp(e) => {
            return ApiError::new(ErrorCode::Untrusted, what, e.to_string(), "see vpnctl status");
        }
        ChangeError::Busy => {
            return ApiError::new(ErrorCode::Conflict, what, error.to_string(), "try again");
        }
    };
    let (code, next) = match edit {
        EditError::NotSigner => return not_signer(what),
        EditError::NoMachine => return no_machine(what),
        EditError::NameTaken => (ErrorCode::NameTaken, "choose another name"),
        EditError::InvalidName => (ErrorCode::InvalidName, "choose another name"),
        EditError::NoInvite => (ErrorCode::NotFound, "see the live ones: vpnctl invite list"),
        EditError::NoRelay => (ErrorCode::NotFound, "see them: vpnctl relay list"),
        EditError::RelaysFull => (ErrorCode::Failed, "remove another one first: vpnctl relay remove URL"),
        EditError::RelaysPresent => (ErrorCode::Failed, "see them: vpnctl relay list"),
        EditError::SignerAlready | EditError::NoSigner => {
            (ErrorCode::Failed, "see who is: vpnctl signer list")
        }
        EditError::OwnRemoval => (ErrorCode::Usage, "do it on another signer"),
        EditError::InvalidUses | EditError::InvalidExpiry => (ErrorCode::Usage, "choose another value"),
        _ => (ErrorCode::Failed, "see vpnctl status"),
    };
    ApiError::new(code, what, edit.to_string(), next)
}

fn not_signer(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NotPermitted,
        what,
        "this machine is not a signer of the network",
        "do it on a signer: vpnctl machines list shows which machines are",
    )
}

pub(super) fn no_machine(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        what,
        "there is no such machine in the network",
        "see their names: vpnctl machines list",
    )
}

fn no_invite(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        what,
        "another signer removed the invite at the same time",
        "try again",
    )
}

pub(super) fn not_yet(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        what,
        "no signer has taken the machine into the roster yet",
        "try again in a moment, or see that a signer is up: vpnctl machines list",
    )
}

fn is_this(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Usage, what, "it is this machine", "name another one: vpnctl machines list")
}

fn is_down(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Failed, what, "the network is down", "bring it up: vpnctl up")
}
