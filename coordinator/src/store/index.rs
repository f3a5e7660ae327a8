//! Which row is which account's and which network's.
//!
//! Only in memory: a column to search by would leave hashes of names in the file, which whoever has the hash's key can
//! try names against, long after the account is gone.

use std::collections::BTreeMap;

use proto::{account::AccountName, identity::NetworkId};
use sqlx::SqliteConnection;

use super::{
    StoreError, accounts,
    keyring::Keyring,
    networks,
    rows::{Table, each},
};

/// The index of one moment.
#[derive(Default)]
pub(super) struct Index {
    accounts: BTreeMap<AccountName, i64>,
    networks: BTreeMap<NetworkId, Owned>,
    damaged: bool,
}

/// A network's row, and its account's.
#[derive(Clone, Copy)]
pub(super) struct Owned {
    pub(super) row: i64,
    pub(super) account: i64,
}

/// A change of the index.
pub(super) enum Indexed {
    Account(AccountName, i64),
    NoAccount(AccountName),
    Network(NetworkId, Owned),
    NoNetwork(NetworkId),
}

impl Index {
    /// Reads every account and every head.
    pub(super) async fn read(
        connection: &mut SqliteConnection,
        keyring: &Keyring,
    ) -> Result<Self, StoreError> {
        let mut index = Self::default();
        for row in each(&mut *connection, keyring, Table::Accounts).await? {
            match row.and_then(|(id, plain)| Ok((accounts::Body::read(&plain)?.name, id))) {
                Ok((name, id)) => drop(index.accounts.insert(name, id)),
                Err(_) => index.damaged = true,
            }
        }
        for row in each(&mut *connection, keyring, Table::Networks).await? {
            match row.and_then(|(id, plain)| Ok((networks::Body::read(&plain)?, id))) {
                Ok((body, row)) => {
                    let owned = Owned { row, account: body.account };
                    index.networks.insert(body.head.header().network, owned);
                }
                Err(_) => index.damaged = true,
            }
        }
        Ok(index)
    }

    /// The row of an account.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not there and might be one of the rows that cannot be read.
    pub(super) fn account(&self, name: &AccountName) -> Result<Option<i64>, StoreError> {
        self.sure(self.accounts.get(name).copied())
    }

    /// The row of a network, and its account's.
    ///
    /// # Errors
    /// As of [`Index::account`].
    pub(super) fn network(&self, id: &NetworkId) -> Result<Option<Owned>, StoreError> {
        self.sure(self.networks.get(id).copied())
    }

    /// All networks by id.
    pub(super) fn networks(&self) -> impl Iterator<Item = (NetworkId, Owned)> {
        self.networks.iter().map(|(id, owned)| (*id, *owned))
    }

    /// All accounts by name.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (&AccountName, i64)> {
        self.accounts.iter().map(|(name, row)| (name, *row))
    }

    pub(super) fn apply(&mut self, change: Indexed) {
        match change {
            Indexed::Account(name, row) => drop(self.accounts.insert(name, row)),
            Indexed::NoAccount(name) => drop(self.accounts.remove(&name)),
            Indexed::Network(id, owned) => drop(self.networks.insert(id, owned)),
            Indexed::NoNetwork(id) => drop(self.networks.remove(&id)),
        }
    }

    fn sure<T>(&self, found: Option<T>) -> Result<Option<T>, StoreError> {
        if found.is_none() && self.damaged { Err(StoreError::Damaged) } else { Ok(found) }
    }
}
