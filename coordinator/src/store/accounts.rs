//! Accounts: a name and OPAQUE's record. No address, no time, no password.

use proto::{
    account::{AccountName, MESSAGE_MAX, NAME_MAX},
    token::EnrolCode,
    wire::{Reader, Wire, WireError, Writer},
};

use super::{Store, StoreError, index::Indexed, networks, rows::Table};

/// An account as it is kept.
pub struct Account {
    /// The row's number; what the account owns refers to it.
    pub id: i64,
    /// OPAQUE's record.
    pub record: Vec<u8>,
}

/// What an operator sees of an account.
pub struct AccountSummary {
    /// The account's name.
    pub name: AccountName,
    /// Networks that it owns.
    pub networks: u32,
    /// Bytes that they take.
    pub bytes: u64,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAccount {
    /// The account is there, the code used up.
    Made,
    /// The name is taken; the code stays good.
    NameTaken,
    /// The code is not good.
    BadCode,
}

impl Store {
    /// The account of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account(&self, name: &AccountName) -> Result<Option<Account>, StoreError> {
        let mut reading = self.read().await?;
        let Some(id) = reading.state.index.account(name)? else {
            return Ok(None);
        };
        let plain = reading.row(Table::Accounts, id).await?.ok_or(StoreError::Damaged)?;
        Ok(Some(Account { id, record: Body::read(&plain)?.record }))
    }

    /// Makes an account and uses up the code, both or neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_account(
        &self,
        name: &AccountName,
        record: Vec<u8>,
        code: &EnrolCode,
        today: u32,
    ) -> Result<NewAccount, StoreError> {
        let mut change = self.change().await?;
        if !self.take_enrolment(&mut change, code, today).await? {
            return Ok(NewAccount::BadCode);
        }
        if change.state.index.account(name)?.is_some() {
            return Ok(NewAccount::NameTaken);
        }
        let body = Body { name: name.clone(), record };
        let id = change.insert(Table::Accounts, &body.to_bytes()).await?;
        change.index(Indexed::Account(body.name, id));
        self.commit(change).await?;
        Ok(NewAccount::Made)
    }

    /// Removes an account and its networks; `None` if there is none of this name, or else how many networks went.
    /// What was kept of them can be read no more once this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_account(&self, name: &AccountName) -> Result<Option<usize>, StoreError> {
        let mut change = self.change().await?;
        let Some(id) = change.state.index.account(name)? else {
            return Ok(None);
        };
        let networks: Vec<_> =
            change.state.index.networks().filter(|(_, owned)| owned.account == id).collect();
        for (network, owned) in &networks {
            networks::remove(&mut change, *network, *owned).await?;
        }
        change.delete(Table::Accounts, id).await?;
        change.index(Indexed::NoAccount(name.clone()));
        self.commit(change).await?;
        self.settle().await?;
        Ok(Some(networks.len()))
    }

    /// Every account, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&self) -> Result<Vec<AccountSummary>, StoreError> {
        let mut reading = self.read().await?;
        let accounts: Vec<_> = reading.state.index.accounts().map(|(name, id)| (name.clone(), id)).collect();
        let networks: Vec<_> = reading.state.index.networks().map(|(_, owned)| owned).collect();
        let mut summaries = Vec::with_capacity(accounts.len());
        for (name, id) in accounts {
            let mut summary = AccountSummary { name, networks: 0, bytes: 0 };
            for owned in networks.iter().filter(|owned| owned.account == id) {
                summary.networks += 1;
                summary.bytes += networks::bytes(&mut reading, owned.row).await?;
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }
}

/// An account's row.
pub(super) struct Body {
    pub(super) name: AccountName,
    pub(super) record: Vec<u8>,
}

impl Body {
    pub(super) fn read(plain: &[u8]) -> Result<Self, StoreError> {
        Ok(Self::from_bytes(plain)?)
    }
}

/// Version, name, OPAQUE's record, and zeros that make up for what the name is shorter than the longest: sealed, an
/// account's row is as long as any other.
impl Wire for Body {
    fn encode(&self, w: &mut Writer) {
        let name = self.name.as_str();
        w.version(1);
        w.text(name);
        w.bytes(&self.record);
        w.raw(&vec![0; NAME_MAX.saturating_sub(name.len())]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let name = AccountName::parse(r.text(NAME_MAX)?).map_err(|_| WireError::Invalid("account name"))?;
        let record = r.bytes(MESSAGE_MAX)?.to_vec();
        r.raw(NAME_MAX - name.as_str().len())?;
        Ok(Self { name, record })
    }
}
