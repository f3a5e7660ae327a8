//! A certificate that an operator has, in two files, which change when it is renewed.
//!
//! New connections are shown what was read last; those that are open stay as they are. Files that cannot be used leave the
//! certificate that is there in its place.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};

use crate::tls::{TlsError, config, provider};

/// How often the files are read by themselves: a certificate is renewed days before its end at the latest, and twice a day
/// costs nothing.
pub const AGAIN: Duration = Duration::from_secs(12 * 3_600);

/// A certificate chain and its private key, in two PEM files.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    shown: Arc<Shown>,
}

struct Shown(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads the two files.
    ///
    /// # Errors
    /// [`TlsError::Certificate`], [`TlsError::Key`], [`TlsError::Mismatch`].
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        // A relative path would be another one if the process went elsewhere.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (chain, key) = (absolute(chain), absolute(key));
        let shown = Arc::new(Shown(RwLock::new(read(&chain, &key)?)));
        Ok(Self { chain, key, shown })
    }

    /// A TLS configuration that shows what was read last.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        config(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>)
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Certificate::from_files`]; the certificate read before stays.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let read = read(&self.chain, &self.key)?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// The folders that the files and, where they are links, what they lead to lie in: a renewed file is another one
    /// there.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = [&self.chain, &self.key]
            .into_iter()
            .flat_map(|path| [Some(path.clone()), path.canonicalize().ok()])
            .flatten()
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Reads the files again at each signal, and every [`AGAIN`]; tells `told` how it went.
    pub async fn keep_fresh(self, mut signal: Signal, told: impl Fn(Result<(), TlsError>)) {
        let mut clock = interval(AGAIN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clock.tick().await; // the first comes at once
        loop {
            tokio::select! {
                _ = signal.recv() => {}
                _ = clock.tick() => {}
            }
            told(self.read_again());
        }
    }
}

fn read(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_file_iter(chain)
        .map_err(|_| TlsError::Certificate)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| TlsError::Key)?;
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| TlsError::Mismatch)?;
    Ok(Arc::new(certified))
}
