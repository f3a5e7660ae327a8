//! Reads much at once from a busy connection.
//!
//! The TLS library asks for 4 KiB each time, which are three of our frames. Where that is filled there is more behind it
//! most likely, and from then on the kernel is asked for [`GULP`]; when it has little again, the room for it is given back.
//! So a quiet connection holds none, and what comes to it is copied no more than before.

use std::{
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::GULP;

/// Less than this, and the connection is not busy any more: what would have been read anyway.
const SIP: usize = 4 << 10;

/// A connection that is read in gulps while it is busy.
pub(crate) struct Gulping<S> {
    inner: S,
    /// Empty, or as large as a gulp.
    room: Vec<u8>,
    /// What of it was read and not handed out yet.
    waiting: Range<usize>,
}

impl<S> Gulping<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, room: Vec::new(), waiting: 0..0 }
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// What is read.
    pub(crate) fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Hands out what was read before.
    fn pour(&mut self, out: &mut ReadBuf<'_>) {
        let n = out.remaining().min(self.waiting.len());
        out.put_slice(&self.room[self.waiting.start..self.waiting.start + n]);
        self.waiting.start += n;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gulping<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.waiting.is_empty() {
            this.pour(out);
            return Poll::Ready(Ok(()));
        }
        if this.room.is_empty() {
            let before = out.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, out))?;
            if out.remaining() == 0 && out.filled().len() - before >= SIP {
                this.room = vec![0; GULP];
            }
            return Poll::Ready(Ok(()));
        }
        let mut room = ReadBuf::new(&mut this.room);
        ready!(Pin::new(&mut this.inner).poll_read(context, &mut room))?;
        this.waiting = 0..room.filled().len();
        let busy = this.waiting.len() >= SIP;
        this.pour(out);
        if !busy && this.waiting.is_empty() {
            this.room = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gulping<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// How much is read of the other end at once.
    struct Counting<S>(S, Vec<usize>);

    impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            ready!(Pin::new(&mut this.0).poll_read(context, out))?;
            this.1.push(out.filled().len());
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_busy_connection_is_read_in_gulps_and_a_quiet_one_holds_no_room() {
        let (mut far, near) = duplex(1 << 20);
        let mut reading = Gulping::new(Counting(near, Vec::new()));
        let sent: Vec<u8> = (0..300_000_usize).map(|i| (i % 251) as u8).collect();
        far.write_all(&sent).await.unwrap();
        let (mut got, mut part) = (Vec::new(), [0; SIP]);
        while got.len() < sent.len() {
            let n = reading.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..n]);
        }
        assert_eq!(got, sent);
        assert!(reading.inner.1.len() <= 2 + sent.len() / GULP, "{:?}", reading.inner.1);

        far.write_all(b"little").await.unwrap();
        assert_eq!(reading.read(&mut part).await.unwrap(), 6);
        assert_eq!(reading.room.capacity(), 0);
        far.write_all(b"less").await.unwrap();
        assert_eq!(reading.read(&mut part).await.unwrap(), 4);
        drop(far);
        assert_eq!(reading.read(&mut part).await.unwrap(), 0);
    }
}
