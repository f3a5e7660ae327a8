//! Registration, login, and what an account owns.

use std::time::Instant;

use proto::{
    account::{OpaqueError, OpaqueServer},
    coordinator::{
        LoginChallenge, LoginDone, LoginFinish, LoginStart, Networks, Reason, RegisterFinish, RegisterStart,
    },
    roster::PublicState,
    wire::Wire,
};
use rand_core::OsRng;

use super::{
    Answer, Coordinator, NETWORKS_PER_ACCOUNT, STATE_MAX, done, format, request::Asked, sessions::Session,
    storage, whole,
};
use crate::{
    clock::today,
    store::{Created, NewAccount},
};

impl Coordinator {
    pub(super) async fn register_start(&self, asked: &Asked) -> Answer {
        self.limits.attempt(asked.source, Instant::now())?;
        let RegisterStart { name, code, request } = RegisterStart::from_bytes(&asked.body).map_err(format)?;
        if !self.store.has_enrolment(&code, today()).await.map_err(storage)? {
            return Err(Reason::BadCode.into());
        }
        if self.store.account(&name).await.map_err(storage)?.is_some() {
            return Err(Reason::NameTaken.into());
        }
        let answer = self.opaque.register(&name, &request).map_err(|_| Reason::BadRequest)?;
        Ok(whole(answer))
    }

    pub(super) async fn register_finish(&self, asked: &Asked) -> Answer {
        self.limits.attempt(asked.source, Instant::now())?;
        let RegisterFinish { name, code, upload } =
            RegisterFinish::from_bytes(&asked.body).map_err(format)?;
        let record = OpaqueServer::record(&upload).map_err(|_| Reason::BadRequest)?;
        match self.store.add_account(&name, record, &code, today()).await.map_err(storage)? {
            NewAccount::Made => done(),
            NewAccount::NameTaken => Err(Reason::NameTaken.into()),
            NewAccount::BadCode => Err(Reason::BadCode.into()),
        }
    }

    pub(super) async fn login_start(&self, asked: &Asked) -> Answer {
        self.limits.attempt(asked.source, Instant::now())?;
        let LoginStart { name, request } = LoginStart::from_bytes(&asked.body).map_err(format)?;
        let account = self.store.account(&name).await.map_err(storage)?;
        let record = account.as_ref().map(|account| account.record.as_slice());
        let (pending, response) = self
            .opaque
            .login(&name, record, asked.exporter(), &request, &mut OsRng)
            .map_err(|_| Reason::BadRequest)?;
        let attempt = self.attempts.put(pending, Instant::now());
        Ok(whole(LoginChallenge { attempt, response }.to_bytes()))
    }

    pub(super) async fn login_finish(&self, asked: &Asked) -> Answer {
        let LoginFinish { attempt, proof } = LoginFinish::from_bytes(&asked.body).map_err(format)?;
        let pending = self.attempts.take(&attempt, Instant::now()).ok_or(Reason::WrongPassword)?;
        let (name, key) = pending.finish(&proof).map_err(|error| match error {
            OpaqueError::Wrong => Reason::WrongPassword,
            OpaqueError::Malformed => Reason::BadRequest,
        })?;
        let account = self.store.account(&name).await.map_err(storage)?.ok_or(Reason::WrongPassword)?;
        let session = self.sessions.put(Session { account: account.id, key }, Instant::now());
        Ok(whole(LoginDone { session }.to_bytes()))
    }

    pub(super) fn logout(&self, asked: &Asked) -> Answer {
        let (_, session) = self.sessions.account(asked.proof.as_ref(), &asked.parts(), Instant::now())?;
        self.sessions.take(&session, Instant::now());
        done()
    }

    pub(super) async fn networks(&self, asked: &Asked) -> Answer {
        let (account, _) = self.sessions.account(asked.proof.as_ref(), &asked.parts(), Instant::now())?;
        Ok(whole(Networks(self.store.networks_of(account).await.map_err(storage)?).to_bytes()))
    }

    pub(super) async fn create_network(&self, asked: &Asked) -> Answer {
        let (account, _) = self.sessions.account(asked.proof.as_ref(), &asked.parts(), Instant::now())?;
        if asked.body.len() > STATE_MAX {
            return Err(Reason::TooLarge.into());
        }
        let state = PublicState::from_bytes(&asked.body).map_err(format)?;
        state.verify(&state.header().network).map_err(|_| Reason::BadRoster)?;
        let created = self.store.create_network(account, &state, NETWORKS_PER_ACCOUNT).await;
        match created.map_err(storage)? {
            Created::Made => done(),
            Created::Exists => Err(Reason::NetworkExists.into()),
            Created::TooMany => Err(Reason::TooManyNetworks.into()),
            Created::NoAccount => Err(Reason::LoginNeeded.into()),
        }
    }
}
