//! A vpnd that records what it is asked and answers with given lines, and a way to run the built vpnctl against it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use proto::api::{Answer, ApiError, ErrorCode, Reply, Request, line};
use serde_json::Value;
use tempfile::TempDir;

/// A vpnd behind a socket of its own.
pub(crate) struct Vpnd {
    dir: TempDir,
    asked: Receiver<Vec<u8>>,
}

impl Vpnd {
    /// Answers every request with these lines and hangs up.
    pub(crate) fn saying(replies: &[Reply]) -> Self {
        let lines: Vec<Vec<u8>> = replies.iter().map(|reply| line::encode(reply).to_vec()).collect();
        Self::acting(move |mut stream| {
            for line in &lines {
                let _ = stream.write_all(line);
            }
        })
    }

    /// Answers the first request with the first reply, and so on.
    pub(crate) fn in_turn(replies: &[Reply]) -> Self {
        let lines: Vec<Vec<u8>> = replies.iter().map(|reply| line::encode(reply).to_vec()).collect();
        let turn = AtomicUsize::new(0);
        Self::acting(move |mut stream| {
            let _ = stream.write_all(&lines[turn.fetch_add(1, Ordering::Relaxed)]);
        })
    }

    /// Answers every request with this answer.
    pub(crate) fn answering(answer: Answer) -> Self {
        Self::saying(&[Reply::Ok(answer)])
    }

    /// Answers every request with an error of this kind.
    pub(crate) fn failing(code: ErrorCode) -> Self {
        Self::saying(&[Reply::Error(ApiError::new(code, "it failed", "for a reason", "do this"))])
    }

    /// Reads a request, then does `act` with the connection.
    pub(crate) fn acting(act: impl Fn(UnixStream) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vpnd.sock")).unwrap();
        let (tell, asked) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut line = Vec::new();
                BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
                // A connection without a request only asks whether vpnd runs.
                if !line.is_empty() && tell.send(line).is_ok() {
                    act(stream);
                }
            }
        });
        Self { dir, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("vpnd.sock")
    }

    /// Where a test may put files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs vpnctl with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, "")
    }

    /// Runs vpnctl with these arguments and this standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &str) -> Run {
        run(&self.socket(), arguments, stdin)
    }

    /// What the next request was, as JSON.
    pub(crate) fn asked(&self) -> Value {
        let line = self.asked.recv_timeout(Duration::from_secs(10)).expect("vpnctl asked nothing");
        assert!(Request::parse(&line).is_ok(), "not a request: {}", String::from_utf8_lossy(&line));
        serde_json::from_slice(&line).unwrap()
    }

    /// That nothing more was asked.
    pub(crate) fn asked_nothing(&self) -> bool {
        self.asked.try_recv().is_err()
    }
}

/// How a vpnctl ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("vpnctl was killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one document on standard output; nothing may stand on standard error beside it.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.err, "");
        serde_json::from_str(&self.out).expect("standard output is not one JSON document")
    }

    /// That it went well, and what it printed.
    pub(crate) fn done(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.err);
        &self.out
    }
}

/// A vpnctl that has no terminal and none of the caller's settings.
pub(crate) fn vpnctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_vpnctl")).args(arguments);
    command.env_remove("NO_COLOR").env("TACET_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(socket: &Path, arguments: &[&str], stdin: &str) -> Run {
    let mut child = vpnctl(socket, arguments).spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Run::of(child.wait_with_output().unwrap())
}
