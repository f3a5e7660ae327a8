//! One computer of a laboratory.
//!
//! Every program on it runs in the host's network namespace and in a mount and a host name namespace of its own: `/run`
//! and `/var/lib` are empty but for `/run/tacet`, `/var/lib/tacet` and `/var/lib/tacet-coordinator`, which are folders of
//! the host. So programs run with their default options, as they do for a user, and two hosts never meet in a file.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::{Lab, Result, Trouble, binaries};

/// A computer: an address on the underlay, a name, folders of its own.
#[derive(Clone)]
pub struct Host {
    lab: Arc<Lab>,
    name: String,
    called: String,
    folder: PathBuf,
}

/// Runs as root inside the network namespace. Arguments: host name, host folder, a shell line to run first, the network
/// namespace, [`LAYERS`] or nothing, the program and its arguments.
const ENTER: &str = r#"
    set -e
    hostname "$1"
    for place in run var/lib; do
        mount -t tmpfs -o mode=755 tacet "/$place"
    done
    for place in run/tacet var/lib/tacet var/lib/tacet-coordinator; do
        mkdir "/$place"
        mount --bind "$2/$place" "/$place"
    done
    cd "$2"
    if [ -n "$5" ]; then
        eval "$5"
    fi
    eval "$3"
    shift 5
    exec "$@""#;

/// All that is not `/run`, `/var/lib` or the host's folder beneath layers of its own, in memory, that show what the program
/// changed; `$4` is the network namespace, whose files in `/etc` go over it again.
const LAYERS: &str = r#"
    mkdir /run/layers /run/layers/host
    mount --bind "$2" /run/layers/host
    for place in /* /var/*; do
        case $place in /proc | /sys | /dev | /run | /var | /var/lib) continue ;; esac
        if [ ! -d "$place" ] || [ -L "$place" ]; then continue; fi
        # A file system that is mounted beneath would be hidden.
        if [ "$place" != /etc ] && grep -q " $place/" /proc/self/mounts; then continue; fi
        layer=/run/layers/$(echo "$place" | tr / %)
        mkdir "$layer" "$layer/changed" "$layer/work"
        mount -t overlay -o "lowerdir=$place,upperdir=$layer/changed,workdir=$layer/work" tacet "$place"
    done
    mount --bind /run/layers/host "$2"
    umount /run/layers/host
    rmdir /run/layers/host
    for file in /etc/netns/"$4"/*; do
        mount --bind "$file" "/etc/${file##*/}"
    done
    rm -rf /run/mount"#;

/// What a running program, of a laboratory that keeps changes apart, changed outside of its host's folders: paths as the
/// program knows them. Every file that it made, wrote, renamed or removed anywhere is among them, or its folder.
///
/// # Errors
/// If the program ended, or has no layers.
pub fn changed_by(process: u32) -> Result<Vec<PathBuf>> {
    let root = PathBuf::from(format!("/proc/{process}/root"));
    let mut changed = Vec::new();
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    for (folder, ours) in [("run", ["tacet", "layers"]), ("var/lib", ["tacet", "tacet-coordinator"])] {
        for path in entries(&root.join(folder))? {
            let name = path.file_name().unwrap_or_default();
            if !ours.iter().any(|ours| name == *ours) {
                changed.push(Path::new("/").join(folder).join(name));
            }
        }
    }
    let layers = entries(&root.join("run/layers"))
        .map_err(|_| Trouble::new(format!("the process {process} has no layers")))?;
    for layer in layers {
        let place = layer.file_name().unwrap_or_default().to_string_lossy().replace('%', "/");
        let top = layer.join("changed");
        let mut left = entries(&top)?;
        while let Some(path) = left.pop() {
            changed.push(Path::new(&place).join(path.strip_prefix(&top).unwrap_or(&path)));
            if path.symlink_metadata()?.is_dir() {
                left.extend(entries(&path)?);
            }
        }
    }
    Ok(changed)
}

impl Host {
    pub(crate) fn new(lab: &Arc<Lab>, name: &str) -> Self {
        let (name, called) = (name.to_owned(), name.to_owned());
        Self { lab: Arc::clone(lab), folder: lab.folder().join(&name), name, called }
    }

    /// The same computer under another host name, which its programs see.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.called);
        self
    }

    /// The name that its programs see.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.called
    }

    /// Its name in the laboratory, which is its host name too unless it is [`Host::called`] otherwise.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The laboratory it is in.
    #[must_use]
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    /// The folder that holds its `run/tacet`, `var/lib/tacet`, `bin` and the output of its programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program on this computer, not started yet. Tacet's programs are found by the names they are installed under.
    ///
    /// # Errors
    /// If the programs are not built.
    pub fn command(&self, program: &str) -> Result<Command> {
        self.command_after("", program)
    }

    /// The same after a shell line, which may mount, limit or hide something for this program alone.
    ///
    /// # Errors
    /// As [`Host::command`].
    pub fn command_after(&self, line: &str, program: &str) -> Result<Command> {
        self.make_folders()?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace()])
            .args(["unshare", "--uts", "sh", "-c", ENTER, "sh", &self.called])
            .arg(&self.folder)
            .args([
                line,
                &self.namespace(),
                if self.lab.keeps_changes_apart() { LAYERS } else { "" },
                program,
            ])
            .env("PATH", path(&self.folder.join("bin")))
            .env_remove("TACET_SOCKET")
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// If it cannot be started. How it ended is in the output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(program)?.args(arguments).output()?)
    }

    /// Runs a program that must end well, and returns what it printed.
    ///
    /// # Errors
    /// If it ends otherwise: what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.output(program, arguments)?;
        if !output.status.success() {
            return Err(Trouble::new(format!(
                "{}: {program} {} failed: {}{}",
                self.name,
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&output.stdout)
            )));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `work` inside the host's network, on a thread of its own: sockets that it opens are the host's.
    ///
    /// # Errors
    /// If the network cannot be entered.
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let network = File::open(format!("/run/netns/{}", self.namespace()))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).map_err(|error| Trouble::new(error.desc()))?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("nl-{}-h-{}", self.lab.run(), self.name)
    }

    /// Where the HTTP proxy of its site is: the router, at a site of the kind `blocked`.
    ///
    /// # Errors
    /// If it has no IPv4 address.
    pub fn proxy(&self) -> Result<String> {
        let [a, b, c, _] = self.ipv4()?.octets();
        Ok(format!("http://{}:3128", Ipv4Addr::new(a, b, c, 1)))
    }

    /// Its address on the underlay.
    ///
    /// # Errors
    /// If it has none.
    pub fn ipv4(&self) -> Result<Ipv4Addr> {
        self.lab.natlab(&["addr", &self.name, "4"])?.parse().map_err(|_| Trouble::new("the host has no IPv4"))
    }

    /// Its IPv6 address on the underlay.
    ///
    /// # Errors
    /// If it has none.
    pub fn ipv6(&self) -> Result<Ipv6Addr> {
        self.lab.natlab(&["addr", &self.name, "6"])?.parse().map_err(|_| Trouble::new("the host has no IPv6"))
    }

    /// Makes the host's folders, once.
    fn make_folders(&self) -> Result<()> {
        let bin = self.folder.join("bin");
        if bin.exists() {
            return Ok(());
        }
        // As tmpfiles.d and systemd make them.
        for (place, mode) in
            [("run/tacet", 0o750), ("var/lib/tacet", 0o700), ("var/lib/tacet-coordinator", 0o700)]
        {
            let place = self.folder.join(place);
            fs::create_dir_all(&place)?;
            fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
        }
        fs::create_dir_all(&bin)?;
        let built = binaries::folder()?;
        for (name, installed) in binaries::PROGRAMS {
            symlink(built.join(name), bin.join(installed))?;
        }
        Ok(())
    }
}

fn path(first: &Path) -> std::ffi::OsString {
    let mut path = first.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    path
}
