//! One JSON document a line, in bounded buffers that are wiped.
//!
//! [`encode`] makes a line; [`Lines`] takes whatever a read returned and gives whole lines back. Neither leaves a copy
//! behind when its buffer grows: the old one is wiped first.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

/// The longest request: a token is under 2 KiB, everything else shorter.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The longest reply: a status of 10,000 peers is under 3 MiB.
pub const MAX_REPLY: usize = 8 * 1024 * 1024;

/// The other side sent more than a line may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the line is too long")]
pub struct TooLong;

/// `value` as one line, its newline included.
///
/// # Panics
/// If `value` cannot be JSON, which no type of the local API can be.
pub fn encode<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut buffer = Buffer(Zeroizing::new(Vec::with_capacity(1024)));
    serde_json::to_writer(&mut buffer, value)
        .expect("the API's types have text keys and a buffer takes every write");
    buffer.extend(b"\n");
    buffer.0
}

/// Cuts a stream of bytes into lines.
pub struct Lines {
    buffer: Buffer,
    /// Bytes before this hold no newline.
    scanned: usize,
    max: usize,
}

impl Lines {
    /// Lines of at most `max` bytes: [`MAX_REQUEST`] in vpnd, [`MAX_REPLY`] in vpnctl.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { buffer: Buffer(Zeroizing::new(Vec::new())), scanned: 0, max }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// The next whole line without its newline; `None` until there is one.
    ///
    /// # Errors
    /// [`TooLong`] once more than the bound arrived without a newline: close the connection.
    pub fn next_line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, TooLong> {
        let Some(at) = self.buffer.0[self.scanned..].iter().position(|b| *b == b'\n') else {
            self.scanned = self.buffer.0.len();
            return if self.scanned > self.max { Err(TooLong) } else { Ok(None) };
        };
        let end = self.scanned + at;
        if end > self.max {
            return Err(TooLong);
        }
        let line = Zeroizing::new(self.buffer.0[..end].to_vec());
        self.buffer = Buffer(Zeroizing::new(self.buffer.0[end + 1..].to_vec()));
        self.scanned = 0;
        Ok(Some(line))
    }
}

/// Bytes that leave no copy when they grow.
struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    fn extend(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            grown.extend_from_slice(&self.0);
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
