//! What the database and its directory hold, declared in `inventory.toml`, and what of it is there now.

use std::{collections::BTreeSet, fs};

use proto::{
    inventory::{Held, Inventory, Item, Record, granularity_of},
    roster::Header,
};
use sqlx::{Row, sqlite::SqliteRow};

use super::{DataDir, Store, StoreError, rows::TABLES};
use crate::clock;

const DECLARED: &str = include_str!("../../inventory.toml");

/// The unit's environment file: the operator's own, beside the database.
const ENVIRONMENT: &str = "/etc/tacet/coordinator.env";

/// Columns by which rows refer to rows: their numbers are not days.
const REFERENCES: [&str; 3] = ["id", "network", "key"];

/// What a coordinator stores, as declared.
#[must_use]
pub fn declared() -> Inventory {
    toml::from_str(DECLARED).expect("a test reads it")
}

impl Store {
    /// Everything that is stored, and what should not be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&self, dir: &DataDir) -> Result<Record, StoreError> {
        let inventory = declared();
        let mut undeclared = undeclared_files(dir)?;
        undeclared.extend(self.undeclared(&inventory).await?);
        let mut items = Vec::with_capacity(inventory.item.len());
        for item in inventory.item {
            let values = self.values(dir, &item).await?;
            items.push(Held { item, values });
        }
        let place = dir.path().display().to_string();
        Ok(Record { component: inventory.component, place, items, undeclared })
    }

    /// Every `TABLE/COLUMN`, and every `settings/KEY`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn places(&self) -> Result<BTreeSet<String>, StoreError> {
        let columns =
            "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'";
        let mut places = BTreeSet::new();
        for row in sqlx::query(columns).fetch_all(&self.pool).await? {
            places.insert(format!("{}/{}", row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
        }
        for row in sqlx::query("SELECT name FROM settings").fetch_all(&self.pool).await? {
            places.insert(format!("settings/{}", row.try_get::<String, _>(0)?));
        }
        Ok(places)
    }

    /// Which columns, keys and values no declaration allows.
    async fn undeclared(&self, inventory: &Inventory) -> Result<Vec<String>, StoreError> {
        let now = clock::now();
        let mut found = Vec::new();
        for place in self.places().await? {
            found.extend(inventory.violations(&place, b"", now));
            for value in self.column(&place).await? {
                match value {
                    Value::Bytes(bytes) => found.extend(inventory.violations(&place, &bytes, now)),
                    Value::Number(number) if finer_than_declared(inventory, &place, number, now) => {
                        found.push(format!("{place}: holds a time finer than declared"));
                    }
                    Value::Number(_) => {}
                }
            }
        }
        let mut reading = self.read().await?;
        for table in TABLES {
            let place = format!("{}/body", table.name());
            for (_, plain) in reading.rows(table).await? {
                found.extend(inventory.violations(&place, &plain, now));
            }
        }
        found.dedup();
        Ok(found)
    }

    /// All values of a column, or of a key in the settings.
    async fn column(&self, place: &str) -> Result<Vec<Value>, StoreError> {
        let (table, column) = place.split_once('/').unwrap_or((place, ""));
        let rows = if table == "settings" && !["name", "body"].contains(&column) {
            sqlx::query("SELECT body, 'blob' FROM settings WHERE name = ?")
                .bind(column)
                .fetch_all(&self.pool)
                .await?
        } else {
            // Names of tables and columns are the schema's own; a query takes no parameters in their place.
            let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let query = format!("SELECT {0}, typeof({0}) FROM {1}", quote(column), quote(table));
            sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&self.pool).await?
        };
        rows.iter().map(Value::of).collect()
    }

    /// What is stored of an item.
    async fn values(&self, dir: &DataDir, item: &Item) -> Result<Vec<String>, StoreError> {
        if let Some(file) = dir.file(&item.place) {
            return Ok(fs::metadata(file).map(|meta| format!("{} bytes", meta.len())).into_iter().collect());
        }
        if item.place == ENVIRONMENT {
            let text = fs::read_to_string(ENVIRONMENT).unwrap_or_default();
            return Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect());
        }
        Ok(match item.place.as_str() {
            "settings/name" => self.column(&item.place).await?.iter().filter_map(Value::text).collect(),
            "settings/address" => {
                self.public_address().await?.map(|address| address.url).into_iter().collect()
            }
            "accounts/body" => {
                let accounts = self.accounts().await?;
                accounts.into_iter().map(|account| account.name.as_str().to_owned()).collect()
            }
            "networks/body" => {
                let mut told = Vec::new();
                for id in self.networks().await? {
                    let network = self.network(&id).await?;
                    told.extend(network.map(|network| head(network.head.header())));
                }
                told
            }
            "relays/body" => self.relays().await?.into_iter().map(|relay| relay.url).collect(),
            "enrolments/body" => {
                let days = self.enrolment_days().await?;
                days.into_iter().map(|day| format!("a code that is good until unix day {day}")).collect()
            }
            key if key.starts_with("settings/") && key != "settings/body" => self
                .column(key)
                .await?
                .iter()
                .map(|value| format!("1 secret key, {} bytes", value.len()))
                .collect(),
            column => {
                let values = self.column(column).await?;
                let bytes: usize = values.iter().map(Value::len).sum();
                if values.is_empty() {
                    Vec::new()
                } else {
                    vec![format!("{} values, {bytes} bytes", values.len())]
                }
            }
        })
    }
}

/// What stands in one column of one row.
enum Value {
    Number(i64),
    Bytes(Vec<u8>),
}

impl Value {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(match row.try_get::<&str, _>(1)? {
            "integer" => Self::Number(row.try_get(0)?),
            "text" => Self::Bytes(row.try_get::<String, _>(0)?.into_bytes()),
            "blob" => Self::Bytes(row.try_get(0)?),
            _ => Self::Bytes(Vec::new()),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Number(_) => 8,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Number(_) => None,
            Self::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
        }
    }
}

/// Whether a number is a time near `now`, in seconds, milliseconds or days, finer than its column may tell.
fn finer_than_declared(inventory: &Inventory, place: &str, number: i64, now: u64) -> bool {
    const DAY: u64 = 86_400;
    let near = |seconds: u64| seconds.abs_diff(now) < 2 * 365 * DAY;
    let Ok(number) = u64::try_from(number) else { return false };
    let reference = place.split_once('/').is_some_and(|(_, column)| REFERENCES.contains(&column));
    let seconds = [Some(number), Some(number / 1000), number.checked_mul(DAY).filter(|_| !reference)];
    let Some(time) = seconds.into_iter().flatten().find(|&seconds| near(seconds)) else { return false };
    let finest = inventory.at(place).map(|item| item.time).max().unwrap_or_default();
    granularity_of(time).is_none_or(|told| told > finest)
}

/// What is in the directory beside the coordinator's own files, which alone are declared. The database's content is
/// judged by its columns.
fn undeclared_files(dir: &DataDir) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        if !fs::metadata(entry.path()).is_ok_and(|file| dir.owns(&file)) {
            found.push(format!("{}: not declared", entry.file_name().to_string_lossy()));
        }
    }
    Ok(found)
}

fn head(header: &Header) -> String {
    let order = header.order;
    let mut text = format!(
        "id {}, recovery {}, generation {}, version {}, {} entries, fresh until unix time {}",
        header.network.to_hex(),
        order.recovery,
        order.generation,
        order.version,
        header.entries,
        header.not_after
    );
    for invite in &header.invites {
        text += &format!(", an invite with {} uses that ends at unix time {}", invite.uses, invite.expires);
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::{account::AccountName, coordinator::RelayOffer, token::EnrolCode};
    use rand_core::OsRng;

    use super::*;
    use crate::{
        clock::today,
        store::{PublicAddress, rows::Table},
    };

    /// A coordinator's directory as its first start leaves it, with a code, an account and a relay.
    async fn exercised() -> (tempfile::TempDir, DataDir, Store) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path(), None);
        let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
        store.secrets(&mut OsRng).await.unwrap();
        store
            .set_public_address(&PublicAddress { url: "https://203.0.113.7".into(), pinned: true })
            .await
            .unwrap();
        for code in [vec![1; 16], vec![2; 16]] {
            store.add_enrolment(&EnrolCode(code), today()).await.unwrap();
        }
        let name = AccountName::parse("ann").unwrap();
        store.add_account(&name, vec![7; 192], &EnrolCode(vec![1; 16]), today()).await.unwrap();
        let relay = RelayOffer { url: "https://203.0.113.8".into(), key: [1; 32], stun_port: Some(3478) };
        store.put_relay(&relay).await.unwrap();
        (tmp, dir, store)
    }

    #[tokio::test]
    async fn every_table_column_key_and_file_is_declared_and_no_other() {
        let (tmp, _dir, store) = exercised().await;
        let mut there = store.places().await.unwrap();
        for file in fs::read_dir(tmp.path()).unwrap() {
            there.insert(file.unwrap().file_name().into_string().unwrap());
        }
        there.insert(ENVIRONMENT.to_owned());
        let declared: BTreeSet<String> = declared().item.into_iter().map(|item| item.place).collect();
        assert_eq!(there, declared);
    }

    #[tokio::test]
    async fn what_is_stored_breaks_no_declaration_and_the_record_tells_it() {
        let (_tmp, dir, store) = exercised().await;
        let record = store.record(&dir).await.unwrap();
        assert_eq!(record.undeclared, Vec::<String>::new());
        let of =
            |place: &str| record.items.iter().find(|held| held.item.place == place).unwrap().values.clone();
        assert_eq!(of("accounts/body"), ["ann"]);
        assert_eq!(of("settings/address"), ["https://203.0.113.7"]);
        assert_eq!(of("settings/authority"), ["1 secret key, 32 bytes"]);
        assert_eq!(of("enrolments/body"), [format!("a code that is good until unix day {}", today() + 7)]);
        assert_eq!(of("joins/body"), [""; 0]);
    }

    #[tokio::test]
    async fn a_table_a_column_a_key_a_file_an_address_or_a_second_that_is_not_declared_is_found() {
        let (tmp, dir, store) = exercised().await;
        let now = i64::try_from(clock::now()).unwrap();
        let steps = [
            ("CREATE TABLE visits (who TEXT)".to_owned(), "visits/who: not declared"),
            (
                "ALTER TABLE accounts ADD COLUMN last_seen INTEGER".to_owned(),
                "accounts/last_seen: not declared",
            ),
            ("INSERT INTO settings VALUES ('motd', x'00')".to_owned(), "settings/motd: not declared"),
            (
                "UPDATE settings SET body = CAST('from 198.51.100.23' AS BLOB) WHERE name = 'relay'"
                    .to_owned(),
                "settings/relay: holds an IP address",
            ),
            (
                format!("UPDATE settings SET body = x'{now:016x}' WHERE name = 'issuer'"),
                "settings/issuer: holds a time finer than declared",
            ),
        ];
        for (step, finding) in steps {
            sqlx::raw_sql(sqlx::AssertSqlSafe(step)).execute(&store.pool).await.unwrap();
            let found = store.undeclared(&declared()).await.unwrap();
            assert!(found.contains(&finding.to_owned()), "{finding}: {found:?}");
        }
        // What is sealed is looked into.
        let account = store.account(&AccountName::parse("ann").unwrap()).await.unwrap().unwrap().id;
        let second = u64::try_from(now).unwrap().to_be_bytes();
        for (content, finding) in [
            (&b"from 198.51.100.23"[..], "accounts/body: holds an IP address"),
            (&second[..], "accounts/body: holds a time finer than declared"),
        ] {
            let mut change = store.change().await.unwrap();
            change.replace(Table::Accounts, account, content).await.unwrap();
            store.commit(change).await.unwrap();
            let found = store.undeclared(&declared()).await.unwrap();
            assert!(found.contains(&finding.to_owned()), "{finding}: {found:?}");
        }
        let id = format!("UPDATE accounts SET id = {now}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(id)).execute(&store.pool).await.unwrap();
        let mut numbers = store.column("accounts/id").await.unwrap().into_iter();
        assert!(numbers.any(|number| matches!(number, Value::Number(n)
            if finer_than_declared(&declared(), "accounts/id", n, clock::now()))));
        fs::write(tmp.path().join("access.log"), b"").unwrap();
        assert_eq!(undeclared_files(&dir).unwrap(), ["access.log: not declared"]);
    }

    #[tokio::test]
    async fn a_database_of_another_name_is_declared_and_one_that_lies_about_unused_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path(), Some(&tmp.path().join("other.db")));
        let _store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
        fs::write(tmp.path().join("coordinator.db"), b"of before").unwrap();
        assert_eq!(undeclared_files(&dir).unwrap(), ["coordinator.db: not declared"]);
    }
}
