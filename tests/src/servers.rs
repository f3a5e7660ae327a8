//! Coordinator and relay, each started as its operator would.

use std::path::{Path, PathBuf};

use crate::{Host, Result, Trouble, process::Process};

/// A coordinator on a host, listening on port 443 of its address.
pub struct Coordinator {
    host: Host,
    name: Option<String>,
    options: Vec<String>,
    process: Option<Process>,
}

impl Coordinator {
    /// Starts one with a relay and STUN in it, and waits until it is ready.
    ///
    /// # Errors
    /// What it printed, if it does not become ready.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_with(host, &[])
    }

    /// The same with further options of `coordinator serve`.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn start_with(host: &Host, options: &[&str]) -> Result<Self> {
        Self::begin(host, None, options)
    }

    /// The same as machines know it by this name, not by its address.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn start_called(host: &Host, name: &str) -> Result<Self> {
        Self::start_called_with(host, name, &[])
    }

    /// The same with further options.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn start_called_with(host: &Host, name: &str, options: &[&str]) -> Result<Self> {
        Self::begin(host, Some(name.to_owned()), options)
    }

    fn begin(host: &Host, name: Option<String>, options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut coordinator = Self { host: host.clone(), name, options, process: None };
        coordinator.start_again()?;
        Ok(coordinator)
    }

    /// The arguments that a person would type after `tacet-coordinator`.
    ///
    /// # Errors
    /// If the host has no address.
    pub fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments: Vec<String> =
            ["serve", "--data-dir", DATA, "--public-url"].map(str::to_owned).into();
        arguments.push(self.url()?);
        arguments.extend(self.options.iter().cloned());
        Ok(arguments)
    }

    /// Where machines reach it.
    ///
    /// # Errors
    /// If the host has no address.
    pub fn url(&self) -> Result<String> {
        match &self.name {
            Some(name) => Ok(format!("https://{name}")),
            None => Ok(format!("https://{}", self.host.ipv4()?)),
        }
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its process.
    ///
    /// # Errors
    /// If it was killed.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| Trouble::new("the coordinator does not run"))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Erases all that it stored, its long-lived key included.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn forget(&mut self) -> Result<()> {
        self.host.run("find", &[DATA, "-mindepth", "1", "-delete"]).map(drop)
    }

    /// Runs one of its operator's commands, and returns what it printed.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn operate(&self, arguments: &[&str]) -> Result<String> {
        self.host.run("tacet-coordinator", &[arguments, &["--data-dir", DATA]].concat())
    }

    /// Starts it once more on what it stored.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let mut command = self.host.command("tacet-coordinator")?;
        command.args(self.arguments()?);
        let log = self.host.folder().join("coordinator.log");
        self.process = Some(Process::start_ready("coordinator", &mut command, log)?);
        Ok(())
    }

    /// Starts a relay of this coordinator on a host of its own, with the key file that the operator copies there.
    ///
    /// # Errors
    /// What either printed, if it does not work out.
    pub fn start_relay(&mut self, host: &Host) -> Result<RelayProcess> {
        self.start_relay_called(host, &host.ipv4()?.to_string())
    }

    /// The same where machines know the relay by this name, not by its address.
    ///
    /// # Errors
    /// As [`Coordinator::start_relay`].
    pub fn start_relay_called(&mut self, host: &Host, name: &str) -> Result<RelayProcess> {
        let url = format!("https://{name}");
        let text = self.host.run("tacet-coordinator", &["relay-key", "--data-dir", DATA, "--url", &url])?;
        host.run("true", &[])?; // makes its folders
        let key = host.folder().join("relay.key");
        std::fs::write(&key, text)?;
        RelayProcess::start(host, &key)
    }

    /// A fresh enrolment token, as the operator hands it out.
    ///
    /// # Errors
    /// If there is none in what `enrol` prints.
    pub fn enrol(&self) -> Result<String> {
        let printed = self.operate(&["enrol"])?;
        word_that_starts(&printed, "tacet-enrol1")
    }
}

/// A relay on a host of its own.
pub struct RelayProcess {
    host: Host,
    key: PathBuf,
    process: Option<Process>,
}

impl RelayProcess {
    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts one that trusts the coordinator whose key is in the file `key`.
    ///
    /// # Errors
    /// What it printed, if it does not become ready.
    pub fn start(host: &Host, key: &Path) -> Result<Self> {
        let mut relay = Self { host: host.clone(), key: key.to_owned(), process: None };
        relay.start_again()?;
        Ok(relay)
    }

    /// Its process.
    ///
    /// # Errors
    /// If it was killed.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| Trouble::new("the relay does not run"))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it once more.
    ///
    /// # Errors
    /// As [`RelayProcess::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let mut command = self.host.command("tacet-relay")?;
        command.args(["serve", "--coordinator-key"]).arg(&self.key);
        let log = self.host.folder().join("relay.log");
        self.process = Some(Process::start_ready("relay", &mut command, log)?);
        Ok(())
    }
}

const DATA: &str = "/var/lib/tacet-coordinator";

/// The first word of a text that starts so: a token among what a person reads.
///
/// # Errors
/// If there is none.
pub fn word_that_starts(text: &str, start: &str) -> Result<String> {
    text.split_whitespace()
        .map(|word| word.trim_matches(['"', '\'', ',']))
        .find(|word| word.starts_with(start))
        .map(str::to_owned)
        .ok_or_else(|| Trouble::new(format!("no word {start}… in:\n{text}")))
}
