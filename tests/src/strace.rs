//! What system calls of running processes do to files, as the kernel's tracer sees them: strace, attached from outside.
//!
//! A [`Trace`] follows processes with all of their threads, and whatever they start. Its record is read when it ends, as
//! [`Call`]s; [`Call::mark`] tells what a call left on a file system, if anything.
//!
//! Bytes that go into a socket, a pipe, a device, an event counter or memory are not on a disk. All else with a path is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Result, Trouble, wait};

/// Calls that can change a file or a file system. Those marked `?` do not exist on every processor. Two rings are among
/// them because writes that go through them would be seen by no tracer.
pub const CALLS: &str = "trace=write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,tee,vmsplice,\
    fallocate,truncate,ftruncate,mmap,?open,openat,openat2,?creat,?mkdir,mkdirat,?rmdir,?unlink,unlinkat,?rename,?renameat,\
    renameat2,?link,linkat,?symlink,symlinkat,?mknod,mknodat,?chmod,fchmod,fchmodat,?chown,fchown,?lchown,fchownat,?utime,\
    ?utimes,?futimesat,utimensat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,bind,mount,move_mount,\
    umount2,swapon,quotactl,io_uring_setup,io_setup,ioctl,sendto,sendmsg,sendmmsg,connect";

/// Options of strace that [`calls`] can read: paths of descriptors, no contents, no signals.
pub const OPTIONS: [&str; 6] = ["-f", "-y", "-s0", "-qq", "-esignal=none", "-e"];

/// A line for the shell that becomes a program: it goes on when the program is followed, from its first call on, and its
/// record is written to `record`. The record is whole when all that is followed has ended.
#[must_use]
pub fn from_birth(record: &str) -> String {
    let options = OPTIONS.join(" ");
    format!(
        "(setsid strace {options} {CALLS} -o {record} -p $$ </dev/null >/dev/null 2>&1 &)
        until grep -q '^TracerPid:.*[1-9]' /proc/$$/status; do sleep 0.02; done"
    )
}

/// A tracer that runs.
pub struct Trace {
    tracer: Child,
    record: PathBuf,
}

/// One call, whole again where the tracer saw its beginning and its end apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments as strace writes them, outermost commas apart.
    pub arguments: Vec<String>,
    /// What it returned, `?` if it never did.
    pub result: String,
}

/// What a call left on a file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The file that it was done to, as the process knows it.
    pub path: String,
    /// The call.
    pub call: String,
    /// Bytes written; none for a change of the file itself: made, renamed, removed, cut, mapped to be written.
    pub bytes: u64,
}

impl Trace {
    /// Follows processes with all their threads. What they do is written to the file `record`.
    ///
    /// # Errors
    /// If strace is missing or is not let.
    pub fn attach(processes: &[u32], record: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(OPTIONS).arg(CALLS).arg("-o").arg(record);
        for process in processes {
            command.args(["-p", &process.to_string()]);
        }
        // A group of its own: an interrupt at the terminal ends the test first.
        let said = record.with_extension("said");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said)?);
        let mut trace = Self { tracer: command.spawn()?, record: record.to_owned() };
        let mut ended = false;
        let attached = wait::until("the tracer is attached", wait::SOON, || {
            ended = !matches!(trace.tracer.try_wait(), Ok(None));
            ended || processes.iter().all(|process| is_traced(*process))
        });
        if ended || attached.is_err() {
            return Err(Trouble::new(format!(
                "strace does not trace: {}",
                fs::read_to_string(said).unwrap_or_default()
            )));
        }
        Ok(trace)
    }

    /// Lets the processes go and returns what they did.
    ///
    /// # Errors
    /// If the tracer ended before, or its record cannot be read.
    pub fn end(mut self) -> Result<Vec<Call>> {
        // It ends by itself only when all that it followed ended.
        let _ = kill(Pid::from_raw(self.tracer.id().cast_signed()), Signal::SIGINT);
        self.tracer.wait()?;
        Ok(calls(&fs::read_to_string(&self.record)?))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Killed, it would leave its tracees stopped where the kernel is unlucky: it lets go when asked.
        let _ = kill(Pid::from_raw(self.tracer.id().cast_signed()), Signal::SIGINT);
        let _ = self.tracer.wait();
    }
}

/// Whether every thread of a process has a tracer.
fn is_traced(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().all(|thread| {
        fs::read_to_string(thread.path().join("status")).is_ok_and(|status| {
            status
                .lines()
                .any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
        })
    })
}

/// The calls in a record of strace.
#[must_use]
pub fn calls(record: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut begun: BTreeMap<u32, String> = BTreeMap::new();
    for line in record.lines() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse() else { continue };
        let text = text.trim_start();
        if let Some(head) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, head.trim_end().to_owned());
            continue;
        }
        let whole = match text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => begun.remove(&thread).unwrap_or_default() + rest,
            None => text.to_owned(),
        };
        calls.extend(call(thread, &whole));
    }
    // Who was killed within a call may have done it.
    for (thread, head) in begun {
        calls.extend(call(thread, &format!("{head}) = ?")));
    }
    calls
}

fn call(thread: u32, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None; // `+++ exited with 0 +++` and the like
    }
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    Some(Call {
        thread,
        name: name.to_owned(),
        arguments: apart(arguments),
        result: result.trim().to_owned(),
    })
}

/// Cuts at commas that are in no bracket, quotation or path.
fn apart(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut before = ' ';
    for letter in text.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' | '(' => depth += 1,
            // A path follows a descriptor at once; `1<<20` is a number.
            '<' if before != '<' && before != ' ' => depth += 1,
            '>' | ']' | '}' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                before = letter;
                continue;
            }
            _ => {}
        }
        before = letter;
        part.push(letter);
    }
    if !part.trim().is_empty() || !parts.is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

impl Call {
    /// Whether it did what it is for. One that never returned counts as if it had.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        !self.result.starts_with("-1")
    }

    /// What it left on a file system. Nothing if it failed.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        if !self.succeeded() {
            return None;
        }
        let argument = |index: usize| self.arguments.get(index).map_or("", String::as_str);
        let has = |index: usize, words: &[&str]| {
            argument(index).split('|').any(|flag| words.contains(&flag.trim()))
        };
        let (path, bytes) = match self.name.as_str() {
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "vmsplice" => {
                (of_descriptor(argument(0)), self.count())
            }
            "sendfile" => (of_descriptor(argument(0)), self.count()),
            "tee" => (of_descriptor(argument(1)), self.count()),
            "copy_file_range" | "splice" => (of_descriptor(argument(2)), self.count()),
            "fallocate" | "ftruncate" | "fchmod" | "fchown" | "fsetxattr" | "fremovexattr" => {
                (of_descriptor(argument(0)), 0)
            }
            "mmap" if has(2, &["PROT_WRITE"]) && has(3, &["MAP_SHARED", "MAP_SHARED_VALIDATE"]) => {
                (of_descriptor(argument(4)), 0)
            }
            // What is made is seen when it is written, named or removed, and in the files themselves.
            "open" if has(1, &["O_TRUNC"]) => (quoted(argument(0)), 0),
            "openat" | "openat2" if argument(2).contains("O_TRUNC") => (quoted(argument(1)), 0),
            "mmap" | "open" | "openat" | "openat2" => return None,
            "creat" | "mkdir" | "rmdir" | "unlink" | "mknod" | "chmod" | "chown" | "lchown" | "utime"
            | "utimes" | "truncate" | "setxattr" | "lsetxattr" | "removexattr" | "lremovexattr"
            | "swapon" => (quoted(argument(0)), 0),
            "mkdirat" | "unlinkat" | "mknodat" | "fchmodat" | "fchownat" | "futimesat" | "utimensat"
            | "rename" | "link" | "symlink" | "move_mount" | "quotactl" | "mount" | "umount2" => {
                (self.arguments.iter().rev().find_map(|argument| quoted(argument)), 0)
            }
            "renameat" | "renameat2" | "linkat" | "symlinkat" => {
                (self.arguments.iter().rev().find_map(|argument| quoted(argument)), 0)
            }
            "bind" => (socket_path(argument(1)), 0),
            // No tracer sees what is written through these.
            "io_uring_setup" | "io_setup" => (Some("/".to_owned()), 0),
            "ioctl"
                if ["FICLONE", "FS_IOC_SETFLAGS", "FS_IOC_FSSETXATTR"].iter().any(|call| has(1, &[call])) =>
            {
                (of_descriptor(argument(0)), 0)
            }
            _ => return None,
        };
        let path = path?;
        is_on_disk(&path).then(|| Mark { path, call: self.name.clone(), bytes })
    }

    /// The path of the unix socket that it sends to: a service manager, a system log, a name service.
    #[must_use]
    pub fn speaks_to(&self) -> Option<String> {
        let address = match self.name.as_str() {
            "connect" => self.arguments.get(1)?,
            "sendto" => self.arguments.get(4)?,
            "sendmsg" | "sendmmsg" => self.arguments.get(1)?,
            _ => return None,
        };
        self.succeeded().then(|| socket_path(address))?
    }

    fn count(&self) -> u64 {
        self.result.split([' ', '<']).next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }
}

/// What a descriptor is: `5</var/lib/x>`.
fn of_descriptor(argument: &str) -> Option<String> {
    let (_, path) = argument.split_once('<')?;
    Some(path.strip_suffix('>')?.to_owned())
}

/// A path that is given as such: `"/var/lib/x"`.
fn quoted(argument: &str) -> Option<String> {
    Some(argument.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// The path in a unix socket's address. An abstract name (`@"x"`) is none.
fn socket_path(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("sun_path=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// A path is of a file system that outlives the machine's power, or may be.
fn is_on_disk(path: &str) -> bool {
    if !path.starts_with('/') {
        // `socket:[1]`, `pipe:[1]`, `anon_inode:[eventfd]`; else relative to some folder.
        return !path.contains(":[");
    }
    let in_memory = ["/dev/", "/proc/", "/sys/", "/memfd:", "/secretmem"];
    path.starts_with("/dev/shm/") || !in_memory.iter().any(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(record: &str) -> Vec<(String, String, u64)> {
        calls(record).iter().filter_map(Call::mark).map(|mark| (mark.path, mark.call, mark.bytes)).collect()
    }

    fn mark(path: &str, call: &str, bytes: u64) -> (String, String, u64) {
        (path.to_owned(), call.to_owned(), bytes)
    }

    #[test]
    fn what_goes_to_a_disk_is_told_from_what_goes_elsewhere() {
        let record = r#"10 write(5</var/lib/tacet/format>, ""..., 12) = 12
10 write(3<anon_inode:[eventfd]>, ""..., 8) = 8
10 writev(4<socket:[77]>, [{iov_base=""..., iov_len=5}, {iov_base=""..., iov_len=9}], 2) = 14
11 write(6</dev/net/tun>, ""..., 84)   = 84
11 write(7</dev/shm/x>, ""..., 4) = 4
11 write(7</proc/sys/net/ipv4/ip_forward>, ""..., 1) = 1
12 renameat2(AT_FDCWD</>, "/a/format.new", AT_FDCWD</>, "/a/format", 0) = 0
12 unlink("/a/old") = -1 ENOENT (No such file or directory)
12 openat(AT_FDCWD</tmp>, "/a/b", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 9</a/b>
12 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 9</a/b-shm>, 0) = 0x7f
12 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f
12 sendfile(9</a/b>, 8<pipe:[3]>, NULL, 1<<20) = 70
12 +++ exited with 0 +++
"#;
        assert_eq!(
            marks(record),
            [
                mark("/var/lib/tacet/format", "write", 12),
                mark("/dev/shm/x", "write", 4),
                mark("/a/format", "renameat2", 0),
                mark("/a/b", "openat", 0),
                mark("/a/b-shm", "mmap", 0),
                mark("/a/b", "sendfile", 70),
            ]
        );
    }

    #[test]
    fn a_call_that_others_interrupt_is_put_together_again() {
        let record = "7 pwrite64(3</a>, \"\"..., 4096, 8192 <unfinished ...>\n\
                      8 write(4</b>, \"\"..., 2 <unfinished ...>\n\
                      7 <... pwrite64 resumed>) = 4096\n";
        assert_eq!(marks(record), [mark("/a", "pwrite64", 4096), mark("/b", "write", 0)]);
    }

    #[test]
    fn a_path_with_commas_and_brackets_in_it_stays_whole() {
        assert_eq!(apart(r#"3</a,b (deleted)>, "x\",[y", {a=[1, 2]}, 1<<20"#).len(), 4);
        assert_eq!(marks("7 write(3</a,b (deleted)>, \"\"..., 2) = 2"), [mark("/a,b (deleted)", "write", 2)]);
    }

    #[test]
    fn a_datagram_to_a_log_is_heard() {
        let record = "9 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path=\"/dev/log\"}, 110) = 0\n\
                      9 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443)}, 16) = 0\n";
        let heard: Vec<String> = calls(record).iter().filter_map(Call::speaks_to).collect();
        assert_eq!(heard, ["/dev/log"]);
    }

    #[test]
    fn a_running_process_is_followed_and_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("written");
        let script = format!("read -r go; echo four > {}; read -r end", file.display());
        let mut shell = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let trace = Trace::attach(&[shell.id()], &folder.path().join("record")).unwrap();
        let mut pipe = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, b"go\n").unwrap();
        wait::until("it wrote", wait::SOON, || fs::read(&file).is_ok_and(|text| text == b"four\n")).unwrap();
        let calls = trace.end().unwrap();
        let written: Vec<Mark> = calls.iter().filter_map(Call::mark).filter(|mark| mark.bytes > 0).collect();
        assert_eq!(written, [Mark { path: file.display().to_string(), call: "write".to_owned(), bytes: 5 }]);
        drop(pipe);
        assert!(shell.wait().is_ok());
    }
}
