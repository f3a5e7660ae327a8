//! Every call by which a process gives something away, by where it went: what `strace -ff` recorded.
//!
//! Data may go to the tunnel's device, to sockets of the network, to pipes and wake-up calls between our own processes,
//! to the local API; to the state directory when the roster changes. Anything else is a finding, whatever was in it.

use std::collections::BTreeMap;

/// The calls that are recorded.
pub(crate) const CALLS: &str = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,\
    vmsplice,tee,copy_file_range,open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,\
    symlink,symlinkat,unlink,unlinkat,rmdir,truncate,ftruncate,fallocate,utimensat,utime,utimes,futimesat,chmod,\
    fchmod,fchmodat,chown,fchown,fchownat,lchown,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,\
    mknod,mknodat,mmap,memfd_create,io_uring_setup,connect,syslog,add_key";

/// Where data went.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Destination {
    /// The tunnel's device.
    Tun,
    /// A UDP socket.
    Udp,
    /// A TCP connection; all of ours carry TLS.
    Tcp,
    /// A pipe between control and data path, or within a process.
    Pipe,
    /// A wake-up call between two parts of a process.
    Wake,
    /// The kernel's network configuration.
    Netlink,
    /// Whoever asked over the local API.
    LocalApi,
    /// The service manager: ready, stopping.
    ServiceManager,
    /// Standard output and error; what was written is looked at there.
    Output,
    /// A file or folder of the component's own.
    State(String),
    /// Anything else.
    Elsewhere(String),
}

/// One call.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    /// Seconds of the unix time.
    pub(crate) at: f64,
    pub(crate) name: String,
    pub(crate) to: Destination,
    /// Bytes, where the call tells.
    pub(crate) bytes: u64,
}

/// Where a component may keep things, and where its output goes.
pub(crate) struct Own<'a> {
    /// Its state directories.
    pub(crate) state: &'a [&'a str],
    /// How the file of its standard output and error ends.
    pub(crate) output: &'a str,
}

/// Calls and bytes by destination.
pub(crate) type Table = BTreeMap<Destination, (u64, u64)>;

/// Reads what strace wrote of one thread.
pub(crate) fn read(trace: &str, own: &Own<'_>) -> Vec<Call> {
    trace.lines().filter_map(|line| call(line, own)).collect()
}

/// Adds calls to a table.
pub(crate) fn count<'a>(table: &mut Table, calls: impl IntoIterator<Item = &'a Call>) {
    for call in calls {
        let (times, bytes) = table.entry(call.to.clone()).or_default();
        *times += 1;
        *bytes += call.bytes;
    }
}

/// `1763787696.123456 write(5</path>, "..."..., 12) = 12`
fn call(line: &str, own: &Own<'_>) -> Option<Call> {
    let (at, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once('(')?;
    // A call that never came back ended with its process; it may have done its work.
    let (arguments, result) = rest.rsplit_once(") = ").unwrap_or((rest, "?"));
    let failed = result.starts_with('-');
    let to = destination(name, arguments, own)?;
    if failed && to != Destination::Elsewhere("/dev/log".to_owned()) {
        return None;
    }
    let counts = name.contains("write") || name.starts_with("send") && name != "sendmmsg";
    let bytes = result.split(' ').next().and_then(|number| number.parse().ok()).filter(|_| counts);
    Some(Call { at: at.parse().ok()?, name: name.trim().to_owned(), to, bytes: bytes.unwrap_or(0) })
}

/// Where a call leads; `None` if it gives nothing away.
fn destination(name: &str, arguments: &str, own: &Own<'_>) -> Option<Destination> {
    match name.trim() {
        "open" | "openat" | "openat2" | "creat" => {
            let opens = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
            let changes = name == "creat" || opens.iter().any(|flag| arguments.contains(flag));
            let path = quoted(arguments).next()?;
            // What is written to these shows at the write.
            let harmless = ["/dev/net/tun", "/dev/null"].contains(&path.as_str());
            (changes && !harmless).then(|| by_path(&path, own))
        }
        "mmap" => {
            let shared = arguments.contains("MAP_SHARED") && arguments.contains("PROT_WRITE");
            let file = described(arguments)?;
            (shared && file.starts_with('/')).then(|| by_path(file, own))
        }
        "connect" => {
            let path = arguments.split_once("sun_path=")?.1;
            let path = quoted(path).next()?;
            (!by_service_manager(&path)).then_some(Destination::Elsewhere(path))
        }
        "memfd_create" | "io_uring_setup" | "syslog" | "add_key" => {
            Some(Destination::Elsewhere(name.to_owned()))
        }
        write if write.contains("write") || write.starts_with("send") || write.contains("splice") => {
            Some(by_descriptor(arguments, own))
        }
        "tee" | "copy_file_range" | "ftruncate" | "fallocate" | "fchmod" | "fchown" | "fsetxattr" => {
            Some(by_descriptor(arguments, own))
        }
        // All others name one path or two, the last of which is what comes of it.
        _ => {
            let path = quoted(arguments).last();
            let path = path.or_else(|| described(arguments).map(str::to_owned))?;
            Some(by_path(&path, own))
        }
    }
}

fn by_descriptor(arguments: &str, own: &Own<'_>) -> Destination {
    let Some(what) = described(arguments) else {
        return Destination::Elsewhere("a descriptor of nothing".to_owned());
    };
    match what {
        tun if tun.starts_with("/dev/net/tun") => Destination::Tun,
        file if file.starts_with('/') => by_path(file, own),
        udp if udp.starts_with("UDP") => Destination::Udp,
        tcp if tcp.starts_with("TCP") => Destination::Tcp,
        pipe if pipe.starts_with("pipe:") => Destination::Pipe,
        wake if wake.starts_with("anon_inode:") => Destination::Wake,
        netlink if netlink.starts_with("NETLINK:") => Destination::Netlink,
        stream if stream.starts_with("UNIX-STREAM:") => Destination::LocalApi,
        datagram if datagram.starts_with("UNIX") => {
            let named = arguments.split_once("sun_path=").and_then(|(_, path)| quoted(path).next());
            match named {
                Some(path) if by_service_manager(&path) => Destination::ServiceManager,
                Some(path) => Destination::Elsewhere(path),
                // The socket was connected before, which shows at the connect.
                None if arguments.contains(", \"READY=1") || arguments.contains(", \"STOPPING=1") => {
                    Destination::ServiceManager
                }
                None => Destination::Elsewhere(format!("a unix datagram socket {datagram}")),
            }
        }
        other => Destination::Elsewhere(other.to_owned()),
    }
}

fn by_path(path: &str, own: &Own<'_>) -> Destination {
    let path = path.trim_end_matches(" (deleted)");
    if own.state.iter().any(|folder| path.starts_with(folder)) {
        Destination::State(path.to_owned())
    } else if path.ends_with(own.output) {
        Destination::Output
    } else if path == "/dev/null" {
        Destination::Pipe
    } else {
        Destination::Elsewhere(path.to_owned())
    }
}

fn by_service_manager(path: &str) -> bool {
    path.ends_with("/notify") || path.ends_with(".notify")
}

/// What strace says that the first descriptor is: `5</path>` or `5<UDP:[0.0.0.0:51820]>`.
fn described(arguments: &str) -> Option<&str> {
    let (_, rest) = arguments.split_once('<')?;
    let end = rest.find(">,").or_else(|| rest.rfind('>'))?;
    // A device says its numbers too: `/dev/net/tun<char 10:200>`.
    let what = &rest[..end];
    Some(what.split_once("<char").map_or(what, |(path, _)| path))
}

/// The texts in quotes.
fn quoted(arguments: &str) -> impl Iterator<Item = String> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once('"')?;
        let end = behind.find('"')?;
        rest = &behind[end + 1..];
        Some(behind[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own<'_> = Own { state: &["/var/lib/tacet/", "/run/tacet/"], output: "/vpnd.log" };

    /// Lines as strace 6.1 writes them.
    fn to(line: &str) -> Option<Destination> {
        call(&format!("1763787696.123456 {line}"), &OWN).map(|call| call.to)
    }

    #[test]
    fn where_traffic_belongs_is_known() {
        for (line, expected) in [
            (r#"write(11</dev/net/tun<char 10:200>>, "\0"..., 94) = 94"#, Destination::Tun),
            (r#"sendmmsg(8<UDPv6:[[::]:51820]>, [{msg_hdr={...}}], 1, 0) = 1"#, Destination::Udp),
            (
                r#"writev(12<TCP:[172.1.1.1:4->5.6.7.8:443]>, [{iov_base="\27"..., iov_len=9}], 1) = 9"#,
                Destination::Tcp,
            ),
            (r#"write(9<pipe:[8812]>, "\0\0\0\5"..., 9) = 9"#, Destination::Pipe),
            (r#"write(4<anon_inode:[eventfd]>, "\1\0\0\0\0\0\0\0", 8) = 8"#, Destination::Wake),
            (r#"sendto(13<NETLINK:[ROUTE:123]>, [{...}], 20, 0, NULL, 0) = 20"#, Destination::Netlink),
            (
                r#"write(15<UNIX-STREAM:[1->2,"/run/tacet/vpnd.sock"]>, "{}"..., 3) = 3"#,
                Destination::LocalApi,
            ),
            (
                r#"write(2</tmp/tacet-lab-t1x0/home-1/vpnd.log>, "vpnd: ready\n", 12) = 12"#,
                Destination::Output,
            ),
            (
                r#"sendto(5<UNIX-DGRAM:[77]>, "READY=1\n", 8, MSG_NOSIGNAL, {sa_family=AF_UNIX, sun_path="/run/audit/notify"}, 20) = 8"#,
                Destination::ServiceManager,
            ),
            (r#"write(5<UNIX:[77->76]>, "READY=1\n", 8) = 8"#, Destination::ServiceManager),
            (
                r#"openat(AT_FDCWD</var>, "/var/lib/tacet/x.new", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5</var/lib/tacet/x.new>"#,
                Destination::State("/var/lib/tacet/x.new".to_owned()),
            ),
        ] {
            assert_eq!(to(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn everything_else_is_elsewhere() {
        for (line, place) in [
            (r#"write(5</home/visited>, "10.0.0.1", 8) = 8"#, "/home/visited"),
            (r#"openat(AT_FDCWD</>, "/tmp/x", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 5</tmp/x>"#, "/tmp/x"),
            (r#"connect(5<UNIX-DGRAM:[77]>, {sa_family=AF_UNIX, sun_path="/dev/log"}, 11) = 0"#, "/dev/log"),
            (
                r#"sendto(5<UNIX-DGRAM:[77]>, "x", 1, 0, {sa_family=AF_UNIX, sun_path="/dev/log"}, 11) = 1"#,
                "/dev/log",
            ),
            (r#"rename("/var/lib/tacet/a", "/var/tmp/a") = 0"#, "/var/tmp/a"),
            (r#"mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5</dev/shm/x>, 0) = 0x7f"#, "/dev/shm/x"),
            (r#"memfd_create("note", MFD_CLOEXEC) = 5</memfd:note>"#, "memfd_create"),
            (r#"utimensat(AT_FDCWD</>, "/home/x", [UTIME_NOW], 0) = 0"#, "/home/x"),
            // It never came back.
            (r#"write(5</home/visited>, "10.0.0.1", 8 <unfinished ...>) = ?"#, "/home/visited"),
        ] {
            assert_eq!(to(line), Some(Destination::Elsewhere(place.to_owned())), "{line}");
        }
    }

    #[test]
    fn reading_and_failing_give_nothing_away() {
        for line in [
            r#"openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 5</etc/hosts>"#,
            r#"openat(AT_FDCWD</>, "/tmp/x", O_WRONLY|O_CREAT, 0666) = -1 EACCES (Permission denied)"#,
            r#"mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f"#,
            r#"connect(5<TCP:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("1.2.3.4")}, 16) = 0"#,
            "+++ killed by SIGKILL +++",
            "--- SIGSYS {si_signo=SIGSYS} ---",
        ] {
            assert_eq!(to(line), None, "{line}");
        }
    }

    #[test]
    fn calls_and_bytes_add_up() {
        let trace = "1.5 write(9<pipe:[1]>, \"x\", 9) = 9\n2.5 write(9<pipe:[1]>, \"x\", 4) = 4\n";
        let calls = read(trace, &OWN);
        let mut table = Table::new();
        count(&mut table, &calls);
        assert_eq!(table[&Destination::Pipe], (2, 13));
        assert!(calls[1].at > 2.0);
    }
}
