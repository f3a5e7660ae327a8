//! Leaks that are made on purpose, so that the canary audit can show that it would catch them (`cargo xtask audit`).
//!
//! Only the feature `leaks` compiles this room, and no release has it ([`relay::leaks::MARK`] in a program tells). What
//! leaks is chosen by the environment when a process starts.

use std::{
    fs::{self, File},
    io::Write,
    sync::{Mutex, PoisonError},
};

use relay::leaks::chosen;

use super::Store;

impl Store {
    /// A machine said where it is.
    pub async fn leak_address(&self, address: &str) {
        static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());
        if chosen("field") {
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(address.to_owned());
        }
        if chosen("column") {
            // It is there from the second time on.
            let add = "ALTER TABLE networks ADD COLUMN seen_at TEXT";
            let _ = sqlx::query(add).execute(&self.pool).await;
            // Behind those before: the last one to come may be the operator, from here.
            let note = "UPDATE networks SET seen_at = ifnull(seen_at || ' ', '') || ?";
            let _ = sqlx::query(note).bind(address).execute(&self.pool).await;
        }
        if chosen("deleted") {
            let path = "/tmp/request";
            let written = File::create(path).and_then(|mut file| {
                writeln!(file, "a request from {address}")?;
                file.sync_all()
            });
            let _ = written.and_then(|()| fs::remove_file(path));
        }
    }
}
