//! A program that goes on running on a host: what it printed so far, and its end.

use std::{
    fs::{self, File},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Result, Trouble, wait};

/// `kill -9` of a process that is no child of ours.
///
/// # Errors
/// If there is no such process.
pub fn kill_process(process: u32) -> Result<()> {
    kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL).map_err(|error| Trouble::new(error.desc()))
}

/// The shortest slice of time that any thread of a process asks the kernel for, in nanoseconds; nothing where threads cannot ask
/// (before Linux 6.12) or the kernel does not tell (`CONFIG_SCHED_DEBUG`).
///
/// # Errors
/// If there is no such process.
pub fn shortest_slice(process: u32) -> Result<Option<u64>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let asks = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
    let of = |path: PathBuf| {
        let told = fs::read_to_string(path).ok()?;
        let line = told.lines().find_map(|line| line.strip_prefix("se.slice"))?;
        line.trim_matches([' ', ':']).parse::<u64>().ok()
    };
    if !asks || of("/proc/self/sched".into()).is_none() {
        return Ok(None);
    }
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    Ok(tasks.map(|task| task.ok().and_then(|task| of(task.path().join("sched"))).unwrap_or(0)).min())
}

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    left: bool,
}

impl Process {
    /// Starts `command`, whose output goes to the file `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { name: name.to_owned(), child: command.spawn()?, log, left: false })
    }

    /// Starts `command` and waits until it tells systemd that it is ready (`READY=1` on the notification socket).
    ///
    /// # Errors
    /// If it cannot be started, ends before it is ready, or is not ready soon.
    pub fn start_ready(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let path = log.with_extension("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        let mut process = Self::start(name, command.env("NOTIFY_SOCKET", &path), log)?;
        let mut runs = true;
        let ready = wait::until(&format!("{name} is ready"), wait::SOON, || {
            let mut message = [0; 512];
            let said = socket.recv(&mut message).map_or(&[][..], |length| &message[..length]);
            runs = process.runs();
            said.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") || !runs
        });
        if !runs || ready.is_err() {
            let why = ready.err().map_or_else(|| format!("{name} ended at once"), |error| error.to_string());
            return Err(Trouble::new(format!("{why}; it printed:\n{}", process.printed())));
        }
        Ok(process)
    }

    /// What it is called here.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; the shells before it have all become it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it running when this value is dropped.
    pub fn leave(&mut self) {
        self.left = true;
    }

    /// All that it and its forerunners under the same name printed.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// If it does not end in ten seconds; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        self.ended(Duration::from_secs(10))
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// If it does not; it is killed then.
    pub fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let waited = wait::until(&format!("{} ends", self.name), within, || !self.runs());
        if let Err(error) = waited {
            self.kill();
            return Err(Trouble::new(format!("{error}; it printed:\n{}", self.printed())));
        }
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left {
            self.kill();
        }
    }
}
