//! The unix socket that `wg` talks to: made for root alone, and gone with the interface.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::net::if_::if_nametoindex;
use proto::uapi::{self, MAX_LINE, Parser, Request};
use rustix::fs::inotify;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::unix::pipe,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::DeviceError;

/// Where `wg` looks for it.
const FOLDER: &str = "/var/run/wireguard";

/// Callers at once. For one more, the one that came first has to go.
const MAX_CALLERS: usize = 64;

/// A caller that neither writes nor reads for so long is in the way of others.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, and where its answer goes.
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Zeroizing<String>>,
}

/// The bound socket. It is removed when this is dropped, if it is still this one.
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    /// Tells of what is removed from its folder.
    removals: std::os::fd::OwnedFd,
}

impl Listener {
    /// Binds the socket of an interface. One that nobody serves any more is replaced.
    pub(super) fn bind(name: &str) -> Result<Self, DeviceError> {
        Self::bind_in(Path::new(FOLDER), name)
    }

    fn bind_in(folder: &Path, name: &str) -> Result<Self, DeviceError> {
        let unusable = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => DeviceError::SocketPlace,
            kind => DeviceError::Socket(kind),
        };
        if !folder.exists() {
            DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(unusable)?;
        }
        // Behind a link (`/var/run`) the walls would not know it.
        let folder = fs::canonicalize(folder).map_err(unusable)?;
        let path = folder.join(format!("{name}.sock"));
        match UnixStream::connect(&path) {
            Ok(_) => return Err(DeviceError::SocketTaken),
            // So says a file that is no socket, too: whosoever it is, it stays.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && is_socket(&path) => {
                fs::remove_file(&path).map_err(unusable)?;
            }
            Err(_) => {}
        }
        let socket = UnixListener::bind(&path).map_err(unusable)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(unusable)?;
        socket.set_nonblocking(true).map_err(unusable)?;
        let inode = fs::symlink_metadata(&path).map_err(unusable)?.ino();
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let removals = inotify::init(flags).map_err(io::Error::from)?;
        let watched = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM;
        inotify::add_watch(&removals, &folder, watched).map_err(io::Error::from)?;
        Ok(Self { socket, path, inode, removals })
    }

    /// Where the socket is.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(FOLDER))
    }

    /// Whether the socket at its path is this one.
    fn stands(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Returns once somebody removed the socket.
    pub(super) async fn removed(&self) -> io::Result<()> {
        // Not a pipe, but read like one: non-blocking, in pieces, for ever.
        let mut removals = pipe::Receiver::from_owned_fd_unchecked(self.removals.try_clone()?)?;
        while self.stands() {
            // What was removed is not looked at: whether ours is there is.
            if removals.read(&mut [0; 4_096]).await? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Serves callers, whose requests go to `calls`.
    pub(super) async fn serve(&self, calls: mpsc::Sender<Call>) -> io::Result<()> {
        let socket = tokio::net::UnixListener::from_std(self.socket.try_clone()?)?;
        let mut callers: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(MAX_CALLERS);
        loop {
            // An accept fails when the caller is gone already, or descriptors ran out: wait rather than spin.
            let Ok((stream, _)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            callers.retain(|caller| !caller.is_finished());
            if callers.len() == MAX_CALLERS
                && let Some(first) = callers.pop_front()
            {
                first.abort();
            }
            let calls = calls.clone();
            callers.push_back(tokio::spawn(async move {
                // What was asked and answered, keys and endpoints among it, however it ends.
                let _wiped = Wiped;
                let (reader, mut writer) = stream.into_split();
                // Whoever goes away in the middle of something is owed nothing.
                let _ = answer(&mut BufReader::new(reader), &mut writer, &calls, PATIENCE).await;
            }));
        }
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.stands() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Wipes the stack once it is gone.
struct Wiped;

impl Drop for Wiped {
    fn drop(&mut self) {
        tokio::spawn(async { sandbox::wipe::stack() });
    }
}

/// Answers one caller until it hangs up, or does nothing for too long.
async fn answer(
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    calls: &mpsc::Sender<Call>,
    patience: Duration,
) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE + 1));
    loop {
        if !timeout(patience, next_line(reader, &mut line)).await?? {
            return Ok(());
        }
        let request = parser.line(&line, |name| if_nametoindex(name).ok());
        let text = match request {
            None => continue,
            Some(Ok(request)) => {
                let (answer, answered) = oneshot::channel();
                let called = calls.send(Call { request, answer }).await;
                match (called, answered.await) {
                    (Ok(()), Ok(text)) => text,
                    _ => return Ok(()),
                }
            }
            Some(Err(errno)) => Zeroizing::new(uapi::done(Err(errno))),
        };
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = timeout(patience, writer.write(rest)).await??;
            rest = rest.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
        }
    }
}

/// The next line without its end; false at the end of the stream. Of a line that is too long the first bytes, one more than
/// a line may have: the rest is passed over.
async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Zeroizing<Vec<u8>>,
) -> io::Result<bool> {
    line.zeroize();
    line.clear();
    loop {
        let there = reader.fill_buf().await?;
        if there.is_empty() {
            // A line without its end says nothing.
            return Ok(false);
        }
        let end = there.iter().position(|byte| *byte == b'\n');
        let piece = &there[..end.unwrap_or(there.len())];
        let room = MAX_LINE + 1 - line.len();
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let taken = piece.len() + usize::from(end.is_some());
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proto::uapi::TOO_MUCH;

    use super::*;

    /// What callers are answered by somebody who says yes to everything, and what was asked.
    async fn ask(text: &[u8]) -> (String, usize) {
        let (calls, mut called) = mpsc::channel::<Call>(1);
        let count = tokio::spawn(async move {
            let mut count = 0;
            while let Some(call) = called.recv().await {
                count += 1;
                let _ = call.answer.send(Zeroizing::new(uapi::done(Ok(()))));
            }
            count
        });
        let mut answers = Vec::new();
        let _ = answer(&mut BufReader::with_capacity(16, text), &mut answers, &calls, PATIENCE).await;
        drop(calls);
        (String::from_utf8(answers).unwrap(), count.await.unwrap())
    }

    #[tokio::test]
    async fn several_requests_of_one_caller_are_answered_in_their_order() {
        let (answers, count) = ask(b"get=1\n\nset=1\nlisten_port=x\n\nset=1\nlisten_port=5\n\n").await;
        assert_eq!((answers.as_str(), count), ("errno=0\n\nerrno=-22\n\nerrno=0\n\n", 2));
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory_and_what_follows_is_understood() {
        let long = [b"set=1\n".as_slice(), &vec![b'a'; 1 << 20], b"\n\nget=1\n\n"].concat();
        let (answers, count) = ask(&long).await;
        assert_eq!((answers.as_str(), count), (format!("errno=-{}\n\nerrno=0\n\n", TOO_MUCH.0).as_str(), 1));
    }

    #[tokio::test]
    async fn half_a_request_changes_nothing() {
        let (answers, count) = ask(b"set=1\nlisten_port=5\n").await;
        assert_eq!((answers.as_str(), count), ("", 0));
        let (answers, count) = ask(b"\xff\xfe\n\n").await;
        assert_eq!((answers.as_str(), count), ("errno=-71\n\n", 0));
    }

    #[tokio::test]
    async fn who_neither_writes_nor_reads_is_hung_up_on() {
        let (calls, mut called) = mpsc::channel::<Call>(1);
        tokio::spawn(async move {
            while let Some(call) = called.recv().await {
                let _ = call.answer.send(Zeroizing::new("a".repeat(1 << 20)));
            }
        });
        for said in [b"".as_slice(), b"get=1\n", b"get=1\n\n"] {
            let (mut caller, served) = UnixStream::pair().unwrap();
            caller.write_all(said).unwrap();
            served.set_nonblocking(true).unwrap();
            let (reader, mut writer) = tokio::net::UnixStream::from_std(served).unwrap().into_split();
            let mut reader = BufReader::new(reader);
            let answered = answer(&mut reader, &mut writer, &calls, Duration::from_millis(50));
            assert!(timeout(PATIENCE / 2, answered).await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn callers_that_do_nothing_keep_nobody_out() {
        let tmp = tempfile::tempdir().unwrap();
        let listener = Listener::bind_in(tmp.path(), "wg0").unwrap();
        let path = tmp.path().join("wg0.sock");
        let (calls, mut called) = mpsc::channel::<Call>(1);
        let busy = async {
            while let Some(call) = called.recv().await {
                let much = "a".repeat(8 << 20);
                let _ = call.answer.send(Zeroizing::new(much));
            }
        };
        let ask = async {
            let mut idle = Vec::new();
            for n in 0..MAX_CALLERS {
                let mut caller = tokio::net::UnixStream::connect(&path).await.unwrap();
                // Some say nothing, some stop in the middle, some do not read.
                caller.write_all([b"".as_slice(), b"get=1\n", b"get=1\n\n"][n % 3]).await.unwrap();
                idle.push(caller);
            }
            // Whoever had its answer and hung up has no place any more.
            for _ in 0..2 {
                let mut caller = tokio::net::UnixStream::connect(&path).await.unwrap();
                caller.write_all(b"nonsense\n\n").await.unwrap();
                let mut answer = [0; 10];
                caller.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"errno=-22\n");
            }
            // The first had to go; the others may still ask.
            assert_eq!(idle[0].read(&mut [0]).await.unwrap(), 0);
            idle[MAX_CALLERS - 3].write_all(b"nonsense\n\n").await.unwrap();
            idle[MAX_CALLERS - 3].read_exact(&mut [0; 10]).await.unwrap();
        };
        tokio::select! {
            _ = listener.serve(calls) => panic!("it goes on"),
            () = busy => panic!("it goes on"),
            asked = timeout(PATIENCE / 2, ask) => asked.unwrap(),
        }
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone_and_its_removal_is_noticed() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join("wireguard");
        let listener = Listener::bind_in(&folder, "wg0").unwrap();
        let path = folder.join("wg0.sock");
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind_in(&folder, "wg0"), Err(DeviceError::SocketTaken)));
        fs::write(folder.join("other"), "").unwrap();
        fs::remove_file(folder.join("other")).unwrap();
        assert!(timeout(Duration::from_millis(50), listener.removed()).await.is_err(), "another file");
        fs::remove_file(&path).unwrap();
        timeout(Duration::from_secs(5), listener.removed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn it_goes_with_its_owner_but_not_another_in_its_place() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("wg0.sock");
        drop(Listener::bind_in(tmp.path(), "wg0").unwrap());
        assert!(!path.exists());
        fs::write(&path, "somebody's").unwrap();
        assert!(matches!(Listener::bind_in(tmp.path(), "wg0"), Err(DeviceError::SocketPlace)));
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
        fs::remove_file(&path).unwrap();
        let first = Listener::bind_in(tmp.path(), "wg0").unwrap();
        fs::rename(&path, tmp.path().join("moved")).unwrap();
        let second = Listener::bind_in(tmp.path(), "wg0").unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
