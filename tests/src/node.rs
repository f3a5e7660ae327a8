//! A machine: a host with vpnd on it, and vpnctl to talk to it.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Host, Result, Trouble, process::Process, wait};

/// A machine of a network, or one to be.
pub struct Node {
    host: Host,
    options: Vec<String>,
    before: String,
    process: Option<Process>,
}

/// How a vpnctl ended.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// The JSON document it printed, null if it printed none.
    pub json: Value,
    /// What it said to a person.
    pub text: String,
}

/// The password of every account in the laboratory.
pub const PASSWORD: &str = "correct horse battery staple";

impl Node {
    /// Starts vpnd with its default options and waits until it is ready.
    ///
    /// # Errors
    /// What it printed, if it does not become ready.
    pub fn start(host: &Host) -> Result<Self> {
        let mut node = Self::prepare(host);
        node.start_again()?;
        Ok(node)
    }

    /// A machine whose vpnd is not started yet.
    #[must_use]
    pub fn prepare(host: &Host) -> Self {
        Self { host: host.clone(), options: Vec::new(), before: String::new(), process: None }
    }

    /// Options for vpnd from its next start on.
    pub fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// A shell line to run before vpnd from its next start on: it may mount or hide something for it alone.
    pub fn before(&mut self, line: &str) {
        line.clone_into(&mut self.before);
    }

    /// Starts vpnd once more on what it stored.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let mut command = self.host.command_after(&self.before, "vpnd")?;
        command.args(&self.options);
        let log = self.host.folder().join("vpnd.log");
        self.process = Some(Process::start_ready(&format!("vpnd on {}", self.name()), &mut command, log)?);
        Ok(())
    }

    /// Starts a vpnd that will not become ready, and returns its exit code and what it printed.
    ///
    /// # Errors
    /// If it does not end.
    pub fn fails_to_start(&mut self) -> Result<(Option<i32>, String)> {
        self.process = None;
        let mut command = self.host.command_after(&self.before, "vpnd")?;
        command.args(&self.options);
        let log = self.host.folder().join("vpnd-failing.log");
        let _ = fs::remove_file(&log);
        let mut process = Process::start("vpnd", &mut command, log)?;
        let status = process.ended(wait::SOON)?;
        Ok((status.code(), process.printed()))
    }

    /// `kill -9` of control; its child must notice by itself.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends vpnd as systemd does.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop()?;
        }
        Ok(())
    }

    /// vpnd's process.
    ///
    /// # Errors
    /// If it was stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| Trouble::new("vpnd does not run"))
    }

    /// All that vpnd and its forerunners here printed.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(self.host.folder().join("vpnd.log")).unwrap_or_default()
    }

    /// The process id of its data path.
    ///
    /// # Errors
    /// If there is none.
    pub fn data_path(&mut self) -> Result<u32> {
        let control = self.process()?.pid();
        let children = fs::read_to_string(format!("/proc/{control}/task/{control}/children"))?;
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid: &u32| {
                fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"data-path"))
            })
            .ok_or_else(|| Trouble::new("there is no data path"))
    }

    /// The host it is on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its host name, which it brings into the network as its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.hostname()
    }

    /// The file or folder `name` of its state directory, as seen from outside.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.host.folder().join("var/lib/tacet").join(name)
    }

    /// Runs `vpnctl --json` to its end, with `stdin` as its standard input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn vpnctl_with(&self, arguments: &[&str], stdin: &str) -> Result<Said> {
        let mut command = self.host.command("vpnctl")?;
        command.arg("--json").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            let _ = pipe.write_all(stdin.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout),
        })
    }

    /// Runs `vpnctl --json` to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn vpnctl(&self, arguments: &[&str]) -> Result<Said> {
        self.vpnctl_with(arguments, "")
    }

    /// Runs a `vpnctl --json` that must do what it is told, and returns its document.
    ///
    /// # Errors
    /// What it said, if it did not.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        self.done(arguments, self.vpnctl(arguments)?)
    }

    /// Registers an account.
    ///
    /// # Errors
    /// What vpnctl said.
    pub fn create_account(&self, name: &str, enrol: &str) -> Result<()> {
        let arguments = ["account", "create", name, "--enrol", enrol, "--password-stdin"];
        self.done(&arguments, self.vpnctl_with(&arguments, PASSWORD)?).map(drop)
    }

    /// Makes a network and returns its recovery key.
    ///
    /// # Errors
    /// What vpnctl said.
    pub fn create_network(&self, name: &str) -> Result<String> {
        text(&self.ask(&["network", "create", name])?, "recovery_key")
    }

    /// A fresh invite token.
    ///
    /// # Errors
    /// What vpnctl said.
    pub fn invite(&self, options: &[&str]) -> Result<String> {
        text(&self.ask(&[&["invite", "create"], options].concat())?, "token")
    }

    /// Joins.
    ///
    /// # Errors
    /// What vpnctl said.
    pub fn join(&self, token: &str) -> Result<Value> {
        self.ask(&["join", token])
    }

    /// The status of its one network.
    ///
    /// # Errors
    /// If it is in none.
    pub fn status(&self) -> Result<Value> {
        let status = self.ask(&["status"])?;
        status["networks"].get(0).cloned().ok_or_else(|| Trouble::new("the machine is in no network"))
    }

    /// What its status says of another machine.
    ///
    /// # Errors
    /// If it does not know that one.
    pub fn peer(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let peers = status["peers"].as_array().into_iter().flatten();
        peers
            .into_iter()
            .find(|peer| peer["name"] == name)
            .cloned()
            .ok_or_else(|| Trouble::new(format!("{} knows no machine {name}", self.name())))
    }

    /// Its own address inside the network: `ipv4` or `ipv6`.
    ///
    /// # Errors
    /// If it has none yet.
    pub fn address(&self, family: &str) -> Result<String> {
        text(&self.status()?["machine"], family)
    }

    /// Whether an ICMP echo comes back within a second.
    #[must_use]
    pub fn pings(&self, address: &str) -> bool {
        self.host
            .output("ping", &["-n", "-c", "1", "-W", "1", address])
            .is_ok_and(|output| output.status.success())
    }

    /// Whether one ping is answered, however long it waits for a session.
    #[must_use]
    pub fn first_ping(&self, address: &str) -> bool {
        self.host
            .output("ping", &["-n", "-c", "1", "-W", "8", address])
            .is_ok_and(|output| output.status.success())
    }

    /// Pings until an answer comes, and returns how long that took.
    ///
    /// # Errors
    /// If none comes in time.
    pub fn reaches(&self, address: &str, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        // Ten a second, so that the first answer is seen when it comes and not a second later.
        let seconds = within.as_secs().max(1).to_string();
        let arguments = ["-n", "-i", "0.1", "-w", &seconds, "-c", "1", "-W", "1", address];
        let mut last = String::new();
        while began.elapsed() < within {
            let output = self.host.output("ping", &arguments)?;
            if output.status.success() {
                return Ok(began.elapsed());
            }
            last = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Trouble::new(format!("{} gets no answer within {seconds} s: {last}", self.name())))
    }

    fn done(&self, arguments: &[&str], said: Said) -> Result<Value> {
        if said.code == 0 {
            return Ok(said.json);
        }
        let printed = self.process.as_ref().map(Process::printed).unwrap_or_default();
        Err(Trouble::new(format!(
            "{}: vpnctl {} ended with {}: {}\nvpnd printed:\n{printed}",
            self.name(),
            arguments.join(" "),
            said.code,
            said.text
        )))
    }
}

fn text(document: &Value, field: &str) -> Result<String> {
    document[field]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Trouble::new(format!("no {field} in the document {document}")))
}
