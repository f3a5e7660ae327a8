//! One connection: one request line in, reply lines out.

use std::{future::Future, sync::Arc, time::Duration};

use proto::api::{
    Answer, ApiError, ErrorCode, Event, Progress, Reply, Request,
    line::{Lines, MAX_REQUEST, encode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};
use zeroize::Zeroizing;

/// A caller has this long to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Replies that wait for a slow caller; a command that only tells waits with them.
const QUEUE: usize = 16;

/// Does what a request asks.
pub trait Serve: Send + Sync + 'static {
    /// Does it; the last line is the caller's to write.
    fn serve(
        &self,
        request: Request,
        replies: Replies,
    ) -> impl Future<Output = Result<Answer, ApiError>> + Send;
}

/// The caller went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody listens any more")]
pub struct NobodyListens;

/// Where a command tells what happens on the way.
#[derive(Clone)]
pub struct Replies(mpsc::Sender<Reply>);

impl Replies {
    /// Tells which step comes now. Whether anybody listens makes no difference to a command that changes something.
    pub async fn progress(&self, step: Progress) {
        let _ = self.0.send(Reply::Progress(step)).await;
    }

    /// Tells a result on the way.
    ///
    /// # Errors
    /// [`NobodyListens`]: a command that does nothing else may end.
    pub async fn event(&self, event: Event) -> Result<(), NobodyListens> {
        self.0.send(Reply::Event(event)).await.map_err(|_| NobodyListens)
    }

    /// Returns once nobody listens.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Serves one connection to its end.
pub(super) async fn answer<S: Serve>(mut stream: UnixStream, permitted: bool, server: Arc<S>) {
    let Ok(Some(line)) = timeout(REQUEST_TIME, read_line(&mut stream)).await else { return };
    if !permitted {
        let refusal = ApiError::new(
            ErrorCode::NotPermitted,
            "vpnd refused the command",
            "only root and members of the group tacet may use it",
            "run it with sudo, or add yourself to the group: usermod -aG tacet USER, then log in again",
        );
        return write(&mut stream, &Reply::Error(refusal)).await.unwrap_or(());
    }
    let request = match Request::parse(&line) {
        Ok(request) => request,
        Err(e) => return write(&mut stream, &Reply::Error(e.into())).await.unwrap_or(()),
    };
    drop(line);

    let (sender, mut replies) = mpsc::channel(QUEUE);
    let last = sender.clone();
    tokio::spawn(async move {
        let reply = match server.serve(request, Replies(sender)).await {
            Ok(answer) => Reply::Ok(answer),
            Err(error) => Reply::Error(error),
        };
        let _ = last.send(reply).await;
    });
    let mut spill = [0; 16];
    loop {
        tokio::select! {
            reply = replies.recv() => {
                let Some(reply) = reply else { return };
                if write(&mut stream, &reply).await.is_err() || matches!(reply, Reply::Ok(_) | Reply::Error(_)) {
                    return;
                }
            }
            // A caller has nothing more to say: whatever ends this read ends the connection.
            _ = stream.read(&mut spill) => return,
        }
    }
}

async fn read_line(stream: &mut UnixStream) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = Lines::new(MAX_REQUEST);
    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let n = stream.read(&mut chunk[..]).await.ok().filter(|&n| n > 0)?;
        lines.push(&chunk[..n]);
        if let Some(line) = lines.next_line().ok()? {
            return Some(line);
        }
    }
}

async fn write(stream: &mut UnixStream, reply: &Reply) -> std::io::Result<()> {
    stream.write_all(&encode(reply)).await
}

#[cfg(test)]
mod tests {
    use proto::api::Command;
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    /// Answers `up` at once and pings until nobody listens, which it then tells.
    struct Fake(mpsc::Sender<&'static str>);

    impl Serve for Fake {
        async fn serve(&self, request: Request, replies: Replies) -> Result<Answer, ApiError> {
            replies.progress(Progress::Starting).await;
            if !matches!(request.cmd, Command::Ping { .. }) {
                return Ok(Answer::Done {});
            }
            let mut seq = 0;
            while replies.event(Event::Lost { seq }).await.is_ok() {
                seq += 1;
            }
            let _ = self.0.send("ended").await;
            Ok(Answer::Done {})
        }
    }

    fn start(permitted: bool) -> (BufReader<UnixStream>, mpsc::Receiver<&'static str>) {
        let (client, server) = UnixStream::pair().unwrap();
        let (sender, ended) = mpsc::channel(1);
        tokio::spawn(answer(server, permitted, Arc::new(Fake(sender))));
        (BufReader::new(client), ended)
    }

    async fn all_lines(mut client: BufReader<UnixStream>) -> String {
        let mut text = String::new();
        while client.read_line(&mut text).await.unwrap_or(0) > 0 {}
        text
    }

    #[tokio::test]
    async fn a_command_is_answered_with_its_steps_and_one_last_line() {
        let (mut client, _) = start(true);
        client.get_mut().write_all(b"{\"v\":1,\"cmd\":{\"up\":{}}}\n").await.unwrap();
        assert_eq!(all_lines(client).await, "{\"progress\":\"starting\"}\n{\"ok\":{\"done\":{}}}\n");
    }

    #[tokio::test]
    async fn a_caller_without_permission_is_told_so_and_nothing_is_done() {
        let (mut client, _) = start(false);
        client.get_mut().write_all(b"{\"v\":1,\"cmd\":{\"up\":{}}}\n").await.unwrap();
        assert!(all_lines(client).await.starts_with("{\"error\":{\"code\":\"not_permitted\""));
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_read_is_an_error_and_not_a_silence() {
        let (mut client, _) = start(true);
        client.get_mut().write_all(b"{\"v\":2,\"cmd\":{}}\n").await.unwrap();
        assert!(all_lines(client).await.starts_with("{\"error\":{\"code\":\"newer\""));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_ends_a_command_that_only_tells() {
        let (mut client, mut ended) = start(true);
        let ping = b"{\"v\":1,\"cmd\":{\"ping\":{\"name\":\"a\",\"count\":0,\"interval_ms\":1}}}\n";
        client.get_mut().write_all(ping).await.unwrap();
        client.read_line(&mut String::new()).await.unwrap();
        drop(client);
        assert_eq!(timeout(Duration::from_secs(5), ended.recv()).await.unwrap(), Some("ended"));
    }
}
