//! One handler per command of the local API.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use proto::{
    api::{
        Answer, ApiError, Command, ErrorCode, Event, Left, NetworkSummary, Password, Path, Progress, Request,
        Status, is_called, leads_out,
    },
    inventory::Record,
};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Daemon, accounts, create, damaged, join, lock, recover, refusal, relays};
use crate::{
    api::{Replies, Serve},
    inventory,
    netcheck::{self, Subject},
    network::{Handle, NewInvite, Query, Rename, Reply, Revocation},
    state::{Coordinator, DamagedNetwork},
};

/// Between two probes of a ping, at least: nobody can make this machine flood another.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// How long an answer is waited for once there was one: longer than any way around the world and through a relay takes.
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// Machines that a measurement asks whether UDP passes: one that answers suffices, and some may just have gone.
const DIRECT_MAX: usize = 3;

/// For the answer of each: longer than a round trip of a bad link.
const DIRECT_WITHIN: Duration = Duration::from_millis(2_000);

impl Serve for Daemon {
    async fn serve(&self, request: Request, replies: Replies) -> Result<Answer, ApiError> {
        let network = request.network.as_deref();
        match request.cmd {
            Command::AccountCreate { name, enrol, password } => {
                let created = accounts::create(&name, enrol.expose(), &password, &self.way, &replies);
                let (account, login) = created.await?;
                self.logged_in(login);
                Ok(Answer::Account(account))
            }
            Command::AccountLogin { name, coordinator, pin, password } => {
                self.login(&name, coordinator, pin, &password, &replies).await
            }
            Command::AccountLogout { coordinator } => self.logout(coordinator.as_deref()).await,
            Command::NetworkCreate { name, machine, alias, coordinator } => {
                let wanted = create::Wanted { name, machine, alias, coordinator };
                create::create(self, wanted, &replies).await.map(Answer::NetworkCreated)
            }
            Command::NetworkList {} => {
                self.for_each(None, "the networks cannot be shown", Query::Summary).await
            }
            Command::Up {} => {
                self.need_network("nothing was brought up")?;
                self.for_each(network, "nothing was brought up", Query::Up).await
            }
            Command::Down {} => {
                self.need_network("nothing was taken down")?;
                self.for_each(network, "nothing was taken down", Query::Down).await
            }
            Command::InviteCreate { name, uses, expires_in, groups } => {
                let invite = NewInvite { name, uses, expires_in, groups };
                let network = self.one(network, "no invite was made")?;
                network.ask(|reply| Query::CreateInvite(invite, reply)).await.map(Answer::InviteCreated)
            }
            Command::InviteList {} => {
                let network = self.one(network, "the invites cannot be shown")?;
                network.ask(Query::Invites).await.map(Answer::Invites)
            }
            Command::InviteRevoke { id, fold } => {
                let network = self.one(network, "the invite was not revoked")?;
                let wish = Revocation { id, fold };
                network.ask(|reply| Query::RevokeInvite(wish, reply)).await.map(Answer::Revoked)
            }
            Command::Leave { force } => self.leave(network, force).await.map(Answer::Left),
            Command::Join { token, machine, alias } => {
                let wanted = join::Wanted { machine, alias };
                join::join(self, token.expose(), wanted, &replies).await.map(Answer::Joined)
            }
            Command::MachinesList {} => {
                let network = self.one(network, "the machines cannot be shown")?;
                network.ask(Query::Machines).await.map(Answer::Machines)
            }
            Command::MachinesRename { old, new } => {
                let network = self.one(network, "the machine was not renamed")?;
                network.ask(|reply| Query::Rename(Rename { old, new }, reply)).await?;
                Ok(Answer::Done {})
            }
            Command::MachinesRemove { name } => {
                let network = self.one(network, "the machine was not removed")?;
                network.ask(|reply| Query::Remove(name, reply)).await.map(Answer::MachineRemoved)
            }
            Command::SignerAdd { name } => {
                let network = self.one(network, "the machine was not made a signer")?;
                network.ask(|reply| Query::AddSigner(name, reply)).await?;
                Ok(Answer::Done {})
            }
            Command::SignerRemove { name } => {
                let network = self.one(network, "the machine is a signer still")?;
                network.ask(|reply| Query::RemoveSigner(name, reply)).await?;
                Ok(Answer::Done {})
            }
            Command::RelayList {} => relays::list(self, &self.one(network, "the relays cannot be shown")?)
                .await
                .map(Answer::Relays),
            Command::RelayAdd { url } => {
                relays::add(self, &self.one(network, "no relay was added")?, url.as_deref()).await?;
                Ok(Answer::Done {})
            }
            Command::RelayRemove { url } => {
                let network = self.one(network, "the relay was not removed")?;
                network.ask(|reply| Query::RemoveRelay(url, reply)).await?;
                Ok(Answer::Done {})
            }
            Command::RecoveryShow { key } => recover::show(self, &key, &replies).await.map(Answer::Recovery),
            Command::Recover { key, from, keep, machine, alias } => {
                let wanted = recover::Wanted { key, from, keep, machine, alias };
                recover::recover(self, wanted, &replies).await.map(Answer::Recovered)
            }
            Command::Status {} => self.status(network).await,
            Command::Netcheck {} => self.netcheck(network, &replies).await,
            Command::PrivacyInventory {} => self.record().map(Answer::Record),
            Command::Ip { name } => {
                let network = self.one(network, "the address cannot be shown")?;
                network.ask(|reply| Query::Machine(name, reply)).await.map(Answer::Machine)
            }
            Command::Ping { name, count, interval_ms } => {
                let network = self.one_with(network, &name, "there is nothing to ping").await?;
                let every = Duration::from_millis(interval_ms).max(PING_INTERVAL_MIN);
                ping(&network, &name, count, every, &replies).await
            }
        }
    }
}

impl Daemon {
    async fn login(
        &self,
        name: &str,
        url: Option<String>,
        pin: Option<String>,
        password: &Password,
        replies: &Replies,
    ) -> Result<Answer, ApiError> {
        const WHAT: &str = "not logged in";
        let pin = pin.map(|text| accounts::parse_pin(WHAT, &text)).transpose()?;
        let known = self.known_coordinators(WHAT)?;
        let coordinator = match url {
            Some(url) => {
                let remembered = known.into_iter().find(|c| c.is_at(&url)).and_then(|c| c.pin);
                Coordinator { url, pin: pin.or(remembered) }
            }
            None => {
                let only = one_of(known).map_err(|why| {
                    ApiError::new(ErrorCode::Usage, WHAT, why, "say which one: --coordinator URL")
                })?;
                Coordinator { pin: pin.or(only.pin), ..only }
            }
        };
        let (account, login) = accounts::login(name, coordinator, password, &self.way, replies).await?;
        self.logged_in(login);
        Ok(Answer::Account(account))
    }

    async fn logout(&self, url: Option<&str>) -> Result<Answer, ApiError> {
        let login = self.find_login("not logged out", url)?;
        self.forget_login(&login.coordinator.url);
        // The session is gone here; if the coordinator cannot be told, it ends there by itself.
        let _ = login.client.logout(&login.session).await;
        Ok(Answer::Done {})
    }

    async fn status(&self, network: Option<&str>) -> Result<Answer, ApiError> {
        let (some, damaged) = match network {
            None => (self.networks(), self.damaged()),
            Some(name) => self.named("the status cannot be shown", name)?,
        };
        let mut networks: Vec<_> = damaged.iter().map(damaged::status).collect();
        for network in some {
            networks.push(network.ask(Query::Status).await?);
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Answer::Status(Status { networks }))
    }

    async fn netcheck(&self, network: Option<&str>, replies: &Replies) -> Result<Answer, ApiError> {
        const WHAT: &str = "nothing was measured";
        let (some, mut known) = match network {
            None => (self.networks(), self.known_coordinators(WHAT).unwrap_or_default()),
            Some(name) => (self.named(WHAT, name)?.0, Vec::new()),
        };
        // One after the other: what is measured must not be another measurement's traffic.
        let _one_at_a_time = self.measuring.lock().await;
        replies.progress(Progress::Measuring).await;
        let mut subjects = Vec::new();
        for network in &some {
            subjects.push(network.ask(Query::Surroundings).await?);
        }
        known.retain(|known| !subjects.iter().any(|subject| subject.coordinator.is_at(&known.url)));
        subjects.extend(known.into_iter().map(Subject::without_network));
        let map_port = !self.options.no_port_mapping;
        let directly = self.answering_directly(&some);
        let measured = netcheck::check(subjects, &self.netlink, &self.way, map_port, directly).await;
        Ok(Answer::Netcheck(measured))
    }

    /// Where machines are that answer just now by a direct path that leads out, of the first few that have one.
    async fn answering_directly(&self, networks: &[Handle]) -> Vec<SocketAddr> {
        let all = self.netlink.local_addresses(None).await.unwrap_or_default();
        let local: Vec<IpAddr> = all.iter().map(|address| address.ip).collect();
        let out = |path: Path, endpoint: Option<SocketAddr>| {
            endpoint.filter(|at| path == Path::Direct && leads_out(*at, &local))
        };
        let mut asked = Vec::new();
        for network in networks {
            let Ok(status) = network.ask(Query::Status).await else { continue };
            let peers = status.peers.into_iter().filter(|peer| out(peer.path, peer.endpoint).is_some());
            asked.extend(peers.map(|peer| (network, peer.name)).take(DIRECT_MAX - asked.len()));
        }
        let echoes = join_all(asked.into_iter().map(|(network, name)| async move {
            let echo = network.ask(|reply| Query::Ping(name, reply));
            timeout(DIRECT_WITHIN, echo).await.ok()?.ok()?
        }));
        let echoes = echoes.await.into_iter().flatten();
        echoes.filter_map(|echo| out(echo.path, echo.endpoint)).collect()
    }

    async fn leave(&self, network: Option<&str>, force: bool) -> Result<Left, ApiError> {
        // Not while another network is made or joined: it may be the same one.
        let _one_at_a_time = self.adding.lock().await;
        let network = self.one(network, "the network was not left")?;
        let left = network.ask(|reply| Query::Leave(force, reply)).await;
        if network.has_ended() {
            lock(&self.networks).retain(|other| other.id != network.id);
        }
        left
    }

    fn record(&self) -> Result<Record, ApiError> {
        inventory::record(&lock(&self.state)).map_err(|e| refusal::state("the record cannot be shown", &e))
    }

    /// Refuses where there is no network at all.
    fn need_network(&self, what: &str) -> Result<(), ApiError> {
        let none = self.networks().is_empty() && self.damaged().is_empty();
        if none { Err(refusal::no_network(what)) } else { Ok(()) }
    }

    /// Asks the network that is meant, or all of them one after the other; the first that refuses ends it. One that is
    /// damaged is told as it is, unless it alone is meant.
    async fn for_each(
        &self,
        name: Option<&str>,
        what: &str,
        ask: fn(Reply<NetworkSummary>) -> Query,
    ) -> Result<Answer, ApiError> {
        let (networks, damaged) = match name {
            Some(_) => (vec![self.one(name, what)?], Vec::new()),
            None => (self.networks(), self.damaged()),
        };
        let mut told: Vec<NetworkSummary> = damaged.iter().map(damaged::summary).collect();
        for network in networks {
            told.push(network.ask(ask).await?);
        }
        told.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Answer::Networks(told))
    }

    /// The network of this name, readable or not.
    fn named(&self, what: &str, name: &str) -> Result<(Vec<Handle>, Vec<DamagedNetwork>), ApiError> {
        let networks: Vec<_> = self.networks().into_iter().filter(|network| network.name == name).collect();
        let damaged: Vec<_> = self.damaged().into_iter().filter(|network| network.name() == name).collect();
        if networks.is_empty() && damaged.is_empty() {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                what,
                "this machine is in no network of that name",
                "see the names: vpnctl network list",
            ));
        }
        Ok((networks, damaged))
    }

    /// The network that is meant: the named one, or the only one.
    /// The network that is meant by its name, by the address of a machine in it, or because there is no other.
    async fn one_with(&self, name: Option<&str>, machine: &str, what: &str) -> Result<Handle, ApiError> {
        if name.is_none() && machine.parse::<IpAddr>().is_ok() {
            for network in self.networks() {
                let machines = network.ask(Query::Machines).await.unwrap_or_default();
                if machines.iter().any(|of| is_called(&of.name, of.ipv4, of.ipv6, machine)) {
                    return Ok(network);
                }
            }
        }
        self.one(name, what)
    }

    fn one(&self, name: Option<&str>, what: &str) -> Result<Handle, ApiError> {
        let (networks, damaged) = match name {
            Some(name) => self.named(what, name)?,
            None => (self.networks(), self.damaged()),
        };
        match (networks.as_slice(), damaged.as_slice()) {
            ([], []) => Err(refusal::no_network(what)),
            ([only], []) => Ok(only.clone()),
            ([], [only]) => Err(damaged::refusal(what, only)),
            _ => Err(ApiError::new(
                ErrorCode::NetworkNeeded,
                what,
                "this machine is in several networks",
                "say which one: --network NAME (vpnctl network list shows them)",
            )),
        }
    }
}

async fn ping(
    network: &Handle,
    name: &str,
    count: u32,
    every: Duration,
    replies: &Replies,
) -> Result<Answer, ApiError> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seq, mut answered) = (0, false);
    while count == 0 || seq < count {
        ticks.tick().await;
        seq += 1;
        let ask = network.ask(|reply| Query::Ping(name.to_owned(), reply));
        let patience = if answered { every.max(PONG_WITHIN) } else { Duration::MAX };
        let echo = tokio::select! {
            // One that was lost must not hold up the next for as long as a first one may take.
            echo = timeout(patience, ask) => echo.unwrap_or(Ok(None))?,
            () = replies.closed() => break,
        };
        answered |= echo.is_some();
        let event = match echo {
            Some(echo) => Event::Pong {
                seq,
                rtt_ms: echo.rtt.as_secs_f64() * 1_000.0,
                path: echo.path,
                endpoint: echo.endpoint,
            },
            None => Event::Lost { seq },
        };
        if replies.event(event).await.is_err() {
            break;
        }
    }
    Ok(Answer::Done {})
}

/// The only element, or why there is none.
fn one_of<T>(mut all: Vec<T>) -> Result<T, &'static str> {
    match all.len() {
        0 => Err("this machine knows no coordinator yet"),
        1 => Ok(all.remove(0)),
        _ => Err("this machine knows several coordinators"),
    }
}
