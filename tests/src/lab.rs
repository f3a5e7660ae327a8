//! A laboratory: networks, NATs and computers out of namespaces, built by `tests/lab/natlab.sh`.
//!
//! It comes down whatever happens to us. A guard, a process in a group of its own, holds the reading end of a pipe:
//! when we drop the laboratory, panic, are interrupted or killed, the pipe closes and the guard takes everything down
//! and removes the folder. Should the guard be killed too, the next laboratory sweeps what has no owner any more.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::{Host, Result, Trouble, binaries::lab_file, turn::Turn};

/// Where natlab keeps its runs.
const RUNS: &str = "/run/natlab";

/// A laboratory that is up.
pub struct Lab {
    run: String,
    folder: PathBuf,
    guard: Option<Child>,
    apart: AtomicBool,
    _turn: Option<Turn>,
}

impl Lab {
    /// Builds a laboratory beside others. `topology` is natlab's: `cloud=none:v6=1,home=easy:2`.
    ///
    /// # Errors
    /// Without root, or where namespaces cannot be made.
    pub fn up(topology: &str) -> Result<Arc<Self>> {
        Self::build(topology, Turn::shared()?)
    }

    /// Builds a laboratory while no other is up, for what measures time.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn alone(topology: &str) -> Result<Arc<Self>> {
        Self::build(topology, Turn::alone()?)
    }

    fn build(topology: &str, turn: Turn) -> Result<Arc<Self>> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Trouble::new("a laboratory needs root: it is made of network namespaces"));
        }
        sweep();
        let run = fresh_run();
        let folder = std::env::temp_dir().join(format!("tacet-lab-{run}"));
        fs::create_dir(&folder)?;
        let guard = Some(guard(&run, &folder)?);
        let lab = Self { run, folder, guard, apart: AtomicBool::new(false), _turn: Some(turn) };
        // It must not go on building for us when we are dead.
        let built = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(lab_file("natlab.sh"))
            .args(["-r", &lab.run, "up", topology])
            .stdin(Stdio::null())
            .output()?;
        if !built.status.success() {
            return Err(Trouble::new(format!(
                "no laboratory: {}",
                String::from_utf8_lossy(&built.stderr).trim()
            )));
        }
        fs::write(
            Path::new(RUNS).join(&lab.run).join("owner"),
            format!("{} {}", process::id(), lab.folder.display()),
        )?;
        Ok(Arc::new(lab))
    }

    /// One that was kept; dropping this value leaves it as it is.
    ///
    /// # Errors
    /// If there is none of that run.
    pub fn of_run(run: &str) -> Result<Arc<Self>> {
        let owner = fs::read_to_string(Path::new(RUNS).join(run).join("owner"))
            .map_err(|_| Trouble::new(format!("there is no laboratory {run}")))?;
        let folder = owner.split_once(' ').map(|(_, folder)| PathBuf::from(folder)).unwrap_or_default();
        Ok(Arc::new(Self {
            run: run.to_owned(),
            folder,
            guard: None,
            apart: AtomicBool::new(false),
            _turn: None,
        }))
    }

    /// The computer `name` in it: `srv`, or SITE-NUMBER.
    #[must_use]
    pub fn host(self: &Arc<Self>, name: &str) -> Host {
        Host::new(self, name)
    }

    /// Its run id, for `natlab.sh -r`.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// A folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on every program started here has all of the file system in layers of its own, which show what it changed:
    /// [`crate::host::changed_by`].
    pub fn keep_changes_apart(&self) {
        self.apart.store(true, Ordering::Relaxed);
    }

    pub(crate) fn keeps_changes_apart(&self) -> bool {
        self.apart.load(Ordering::Relaxed)
    }

    /// Changes a condition or asks something: `lab.natlab(&["cut", "home"])`. Returns what natlab printed.
    ///
    /// # Errors
    /// What natlab said, if it failed.
    pub fn natlab(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new(lab_file("natlab.sh"))
            .args(["-r", &self.run])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !done.status.success() {
            return Err(Trouble::new(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Leaves it up when we end; [`remove`] takes it down later.
    ///
    /// # Errors
    /// If it cannot be marked as ownerless by intent.
    pub fn keep(&self) -> Result<()> {
        fs::write(Path::new(RUNS).join(&self.run).join("owner"), format!("kept {}", self.folder.display()))?;
        let Some(mut pipe) = self.guard.as_ref().and_then(|guard| guard.stdin.as_ref()) else {
            return Ok(());
        };
        pipe.write_all(b"keep\n")?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        if let Some(mut pipe) = guard.stdin.take() {
            let _ = pipe.write_all(b"down\n");
        }
        let _ = guard.wait();
    }
}

/// Takes a kept laboratory down.
///
/// # Errors
/// If there is none of that run.
pub fn remove(run: &str) -> Result<()> {
    let owner = Path::new(RUNS).join(run).join("owner");
    let owner =
        fs::read_to_string(owner).map_err(|_| Trouble::new(format!("there is no laboratory {run}")))?;
    take_down(run, owner.split_once(' ').map(|(_, folder)| Path::new(folder)));
    Ok(())
}

/// Laboratories that were kept: their run ids.
#[must_use]
pub fn kept() -> Vec<String> {
    owners().into_iter().filter(|(_, owner)| owner.starts_with("kept ")).map(|(run, _)| run).collect()
}

/// Takes down what belongs to a process that is no more.
fn sweep() {
    for (run, owner) in owners() {
        let Some((pid, folder)) = owner.split_once(' ') else { continue };
        if pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            take_down(&run, Some(Path::new(folder)));
        }
    }
}

/// Every run that one of us built, with what its owner file says.
fn owners() -> Vec<(String, String)> {
    let Ok(runs) = fs::read_dir(RUNS) else { return Vec::new() };
    runs.flatten()
        .filter_map(|run| {
            let owner = fs::read_to_string(run.path().join("owner")).ok()?;
            Some((run.file_name().to_string_lossy().into_owned(), owner))
        })
        .collect()
}

fn take_down(run: &str, folder: Option<&Path>) {
    let _ = Command::new(lab_file("natlab.sh"))
        .args(["-r", run, "down"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Some(folder) = folder.filter(|folder| folder.starts_with(std::env::temp_dir())) {
        unmount_below(folder);
        let _ = fs::remove_dir_all(folder);
    }
}

/// Unmounts what was mounted in a folder, so that removing the folder removes nothing of it.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<&str> = places.filter(|place| Path::new(place).starts_with(folder)).collect();
    below.sort_unstable();
    for place in below.into_iter().rev() {
        let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A run id that no other living process has: 1 to 12 lower-case letters and digits.
fn fresh_run() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{:x}x{:x}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn guard(run: &str, folder: &Path) -> Result<Child> {
    // A closed pipe without a word means that we died, perhaps amid building: let what was under way end first.
    const SCRIPT: &str = r#"
        read -r word || sleep 0.5
        [ "$word" = keep ] && exit
        "$1" -r "$2" down
        # What was mounted below: first what lies deepest.
        grep -o " $3/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l
        rm -rf --one-file-system "$3""#;
    Ok(Command::new("bash")
        .args(["-c", SCRIPT, "guard"])
        .arg(lab_file("natlab.sh"))
        .arg(run)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?)
}
