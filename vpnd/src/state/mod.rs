//! The state directory: all that a machine stores.
//!
//! ```text
//! /var/lib/tacet/            0700
//!   format                   version of this layout
//!   lock                     held while vpnd runs
//!   account                  coordinator of the account last used: URL and pin
//!   networks/ID/             one folder per network, named by the first bytes of its id
//!     keys                   the machine's four secret keys
//!     roster                 the last roster as the coordinator keeps it, and the epoch keys that open it
//!     settings               up or down, and the coordinator's URL and pin
//!     membership             while provisional: the invite's secret and the record signed with it
//!     credentials            admission to the relays, for this month and the next two
//! ```
//!
//! Every file starts with a version byte. A file changes by [`Folder::replace`] alone: a temporary file is written,
//! flushed to the disk and renamed over the old one, so that a crash leaves the old or the new one, never a mixture.
//! An older format is brought to the present one at the start ([`migrate`]); a newer one is refused and left as it is.
//! A folder for a new network appears in one rename too. What machines do (who they talk to, when, from where) is
//! not stored: connecting, roaming and traffic write nothing.
//!
//! A network whose folder cannot be read is told of as a [`DamagedNetwork`], left as it is, and keeps no other network
//! from running.

mod damaged;
mod directory;
mod error;
mod folder;
#[cfg(test)]
mod formats;
mod migrate;
mod network;

pub use damaged::DamagedNetwork;
pub use directory::{Coordinator, StateDir, Stored};
pub use error::StateError;
pub use folder::{Folder, Unfinished};
pub use network::{Contents, Intent, Membership, NetworkFolder, Settings};
