//! Reads `/proc`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::landlock;

/// The root of the file system that is looked at: `/`, or a test's own.
pub(crate) struct Kernel {
    root: PathBuf,
    landlock: Vec<&'static str>,
}

/// What `/proc/PID/task/TID/status` says, by name.
pub(super) struct Status(BTreeMap<String, String>);

/// An open descriptor.
pub(super) struct Descriptor {
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// What a descriptor is of.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Tun,
    Udp,
    Tcp,
    Unix,
    /// netlink, packet, raw or another family.
    OtherSocket,
    Pipe,
    /// epoll, timerfd, eventfd, ...; by the kernel's name.
    Anonymous(String),
    /// A device other than the TUN.
    Device(String),
    /// A file; whether it may be written.
    File {
        path: String,
        writable: bool,
    },
}

impl Kernel {
    /// This machine's.
    pub(crate) fn of_this_host() -> Self {
        Self { root: "/".into(), landlock: landlock::features() }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), landlock: vec!["files"] }
    }

    /// What Landlock can forbid here; nothing where it is missing or switched off.
    pub(crate) fn landlock(&self) -> &[&'static str] {
        &self.landlock
    }

    /// Whether anything can be swapped out.
    pub(super) fn swaps(&self) -> bool {
        self.text("/proc/swaps").is_some_and(|table| table.lines().count() > 1)
    }

    /// A file of the host by its absolute path, trimmed; `None` if it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where a link leads, as the kernel spells it.
    pub(super) fn link(&self, path: &str) -> io::Result<String> {
        fs::read_link(self.path(path)).map(|to| to.to_string_lossy().into_owned())
    }

    /// All process ids.
    fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.names("proc").iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// The words of a process's command line.
    pub(super) fn words(&self, pid: u32) -> Vec<String> {
        let line = fs::read(self.path(&format!("proc/{pid}/cmdline"))).unwrap_or_default();
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// The children of `parent` with `word` in their command line.
    pub(super) fn children(&self, parent: u32, word: &str) -> Vec<u32> {
        let of = |pid: &u32| self.status(*pid).is_some_and(|s| s.number("PPid") == Some(u64::from(parent)));
        self.pids().into_iter().filter(of).filter(|pid| self.words(*pid).iter().any(|w| w == word)).collect()
    }

    /// Coordinators and relays that run on this host.
    pub(super) fn servers(&self) -> Vec<(&'static str, u32)> {
        let mut servers = Vec::new();
        for pid in self.pids() {
            let program = self.program(pid);
            let of = match program.as_deref() {
                Some("coordinator" | "tacet-coordinator") => "coordinator",
                Some("relay" | "tacet-relay") => "relay",
                _ => continue,
            };
            if self.words(pid).iter().any(|word| word == "serve") {
                servers.push((of, pid));
            }
        }
        servers
    }

    /// Plain WireGuard interfaces of this host, by the process of each that is asked.
    pub(super) fn devices(&self) -> Vec<u32> {
        let serves = |pid: &u32| self.words(*pid).get(1).is_some_and(|word| word == "device");
        let ours = |pid: &u32| self.program(*pid).as_deref() == Some("vpnd");
        self.pids().into_iter().filter(ours).filter(serves).collect()
    }

    /// Whether no coordinator, no relay and no plain interface runs here.
    pub(crate) fn serves_nothing(&self) -> bool {
        self.servers().is_empty() && self.devices().is_empty()
    }

    /// The name of a coordinator's database: the usual one, or the one that it was started with.
    pub(super) fn database(&self, pid: u32) -> String {
        const FLAG: &str = "--database-url";
        let words = self.words(pid);
        let given = words.iter().zip(words.iter().skip(1).map(Some).chain([None])).find_map(
            |(word, next)| match word.strip_prefix(FLAG)? {
                "" => next.map(String::as_str),
                rest => rest.strip_prefix('='),
            },
        );
        let path = given.and_then(|url| url.strip_prefix("sqlite:"));
        path.and_then(|path| path.rsplit('/').next()).unwrap_or("coordinator.db").to_owned()
    }

    /// The name of the file that a process runs.
    pub(super) fn program(&self, pid: u32) -> Option<String> {
        let exe = self.link(&format!("proc/{pid}/exe")).ok()?;
        let exe = exe.strip_suffix(" (deleted)").unwrap_or(&exe);
        Path::new(exe).file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// The state of a process's first thread.
    pub(super) fn status(&self, pid: u32) -> Option<Status> {
        self.text(&format!("proc/{pid}/status")).map(|text| Status::parse(&text))
    }

    /// The state of every thread: walls are per thread.
    pub(super) fn threads(&self, pid: u32) -> Vec<Status> {
        let task = format!("proc/{pid}/task");
        let status = |tid: &String| self.text(&format!("{task}/{tid}/status"));
        self.names(&task).iter().filter_map(status).map(|text| Status::parse(&text)).collect()
    }

    /// Who owns a process's folder in `/proc`: root if it is not dumpable, else its own user.
    pub(super) fn owner(&self, pid: u32) -> Option<u32> {
        fs::metadata(self.path(&format!("proc/{pid}/environ"))).ok().map(|meta| meta.uid())
    }

    /// All open descriptors; `None` if the kernel does not let us see them.
    pub(super) fn descriptors(&self, pid: u32) -> Option<Vec<Descriptor>> {
        let folder = format!("proc/{pid}/fd");
        fs::read_dir(self.path(&folder)).ok()?;
        let sockets = self.sockets(pid);
        let mut numbers: Vec<u32> = self.names(&folder).iter().filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable();
        let kind = |number: u32| {
            let to = self.link(&format!("{folder}/{number}")).ok()?;
            Some(Descriptor { number, kind: self.kind(pid, number, to, &sockets) })
        };
        Some(numbers.into_iter().filter_map(kind).collect())
    }

    fn kind(&self, pid: u32, number: u32, to: String, sockets: &BTreeMap<String, Kind>) -> Kind {
        if let Some(inode) = to.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            return match sockets.get(inode) {
                Some(Kind::Udp) => Kind::Udp,
                Some(Kind::Tcp) => Kind::Tcp,
                Some(Kind::Unix) => Kind::Unix,
                // A socket that is bound to nothing yet is in no table.
                _ => self.unbound(pid, number).unwrap_or(Kind::OtherSocket),
            };
        }
        if to.starts_with("pipe:[") {
            return Kind::Pipe;
        }
        if let Some(name) = to.strip_prefix("anon_inode:") {
            return Kind::Anonymous(name.trim_matches(['[', ']']).to_owned());
        }
        if to.starts_with("/secretmem") {
            return Kind::Anonymous("secretmem".to_owned());
        }
        if to == "/dev/net/tun" {
            return Kind::Tun;
        }
        if to.starts_with("/dev/") && !to.starts_with("/dev/shm/") {
            return Kind::Device(to);
        }
        // O_WRONLY is 1, O_RDWR is 2, in octal, among the flags that the descriptor was opened with.
        let flags = self.text(&format!("proc/{pid}/fdinfo/{number}")).and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
            u32::from_str_radix(&flags, 8).ok()
        });
        Kind::File { path: to, writable: flags.is_none_or(|flags| flags & 3 != 0) }
    }

    /// What a socket is by its protocol's name.
    fn unbound(&self, pid: u32, number: u32) -> Option<Kind> {
        let (path, mut name) = (self.path(&format!("proc/{pid}/fd/{number}")), [0; 16]);
        let len = rustix::fs::getxattr(path, "system.sockprotoname", &mut name).ok()?;
        match name[..len].split(|byte| *byte == 0).next()? {
            b"UDP" | b"UDPv6" => Some(Kind::Udp),
            b"TCP" | b"TCPv6" => Some(Kind::Tcp),
            _ => None,
        }
    }

    /// The kind of every socket in a process's network, by inode.
    fn sockets(&self, pid: u32) -> BTreeMap<String, Kind> {
        let mut sockets = BTreeMap::new();
        // The column that holds the inode, in each of the kernel's tables.
        let tables = [("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9), ("unix", 6)];
        for (table, column) in tables {
            let text = self.text(&format!("proc/{pid}/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let Some(inode) = line.split_whitespace().nth(column) else { continue };
                let kind = match table {
                    "unix" => Kind::Unix,
                    "udp" | "udp6" => Kind::Udp,
                    _ => Kind::Tcp,
                };
                sockets.insert(inode.to_owned(), kind);
            }
        }
        sockets
    }
}

impl Status {
    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// A decimal number, the first of its line.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.split_whitespace().next()?.parse().ok()
    }

    /// A set of capabilities.
    pub(super) fn capabilities(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.0.get(name)?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        os::{fd::AsRawFd, unix::net::UnixDatagram},
    };

    use super::*;

    #[test]
    fn a_socket_that_has_no_port_is_known_by_its_protocol() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.as_raw_fd().cast_unsigned();
        let kernel = Kernel::of_this_host();
        assert_eq!(kernel.unbound(std::process::id(), number), Some(Kind::Udp));
        let (unix, _other) = UnixDatagram::pair().unwrap();
        assert_eq!(kernel.unbound(std::process::id(), unix.as_raw_fd().cast_unsigned()), None);
        let file = fs::File::open("/dev/null").unwrap();
        assert_eq!(kernel.unbound(std::process::id(), file.as_raw_fd().cast_unsigned()), None);
    }

    #[test]
    fn a_database_elsewhere_is_known_by_the_command_line() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        for (line, name) in [
            ("coordinator\0serve\0", "coordinator.db"),
            ("coordinator\0serve\0--database-url\0sqlite:/srv/a.db\0--no-relay\0", "a.db"),
            ("coordinator\0--database-url=sqlite:///srv/b.db\0serve\0", "b.db"),
            ("coordinator\0serve\0--database-url\0sqlite:c.db\0", "c.db"),
        ] {
            fs::write(root.path().join("proc/7/cmdline"), line).unwrap();
            assert_eq!(Kernel::at(root.path()).database(7), name, "{line}");
        }
    }
}
