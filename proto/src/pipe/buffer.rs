//! Frames out of and into byte buffers, for whoever reads and writes the pipe.

use zeroize::Zeroize;

use super::{FromData, ToData};
use crate::wire::{WireError, Writer};

/// The longest frame, in bytes, without its length field.
pub const MAX_FRAME: usize = 1 << 20;

/// The length field, in bytes.
const HEADER: usize = 4;

/// Room that [`FrameReader::space`] offers at least, in bytes: what a pipe holds.
const READ_AT_LEAST: usize = 64 << 10;

/// Cuts a byte stream into frames.
///
/// Read into [`space`](Self::space), say how much with [`filled`](Self::filled), then take frames with
/// [`next_frame`](Self::next_frame) until there is none.
#[derive(Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// The frame handed out last, wiped when the next call comes.
    start: usize,
    /// Behind it.
    next: usize,
    /// Behind what was read.
    end: usize,
}

impl FrameReader {
    /// An empty reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to read to; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.forget();
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            // What was moved may be a part of a frame with a key.
            let moved = self.end - self.start;
            wipe(&mut self.bytes[moved.max(self.start)..self.end]);
            (self.end, self.next, self.start) = (moved, 0, 0);
        }
        if self.bytes.len() - self.end < READ_AT_LEAST {
            grow(&mut self.bytes, self.end, self.end + READ_AT_LEAST);
        }
        &mut self.bytes[self.end..]
    }

    /// `n` bytes were read into [`space`](Self::space).
    ///
    /// # Panics
    /// If there was less space than that.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.end, "more read than there was space");
        self.end += n;
    }

    /// The next whole frame, type and body; nothing until more is read.
    ///
    /// # Errors
    /// [`WireError::TooLong`] or [`WireError::Truncated`] for a length that no frame has; the stream can't be read
    /// any further.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, WireError> {
        self.forget();
        let Some((header, rest)) = self.bytes[self.start..self.end].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(WireError::TooLong);
        }
        if len == 0 {
            return Err(WireError::Truncated);
        }
        if rest.len() < len {
            return Ok(None);
        }
        self.next = self.start + HEADER + len;
        Ok(Some(&self.bytes[self.start + HEADER..self.next]))
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Wipes the frame handed out last.
    fn forget(&mut self) {
        if self.next > self.start {
            wipe(&mut self.bytes[self.start..self.next]);
            self.start = self.next;
        }
        self.next = self.start;
    }
}

/// Frames waiting to be written.
///
/// The owner writes [`pending`](Self::pending) and reports with [`written`](Self::written); it also decides how much
/// may wait: relayed datagrams are dropped where [`len`](Self::len) is large, never queued without end.
#[derive(Default)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameWriter {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame for the data path.
    ///
    /// # Panics
    /// If the frame is longer than [`MAX_FRAME`].
    pub fn to_data(&mut self, frame: &ToData<'_>) {
        self.append(|w| frame.encode(w));
    }

    /// Appends a frame for control.
    ///
    /// # Panics
    /// If the frame is longer than [`MAX_FRAME`].
    pub fn from_data(&mut self, frame: &FromData<'_>) {
        self.append(|w| frame.encode(w));
    }

    /// What is to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `n` bytes of [`pending`](Self::pending) are written.
    ///
    /// # Panics
    /// If less was pending.
    pub fn written(&mut self, n: usize) {
        assert!(n <= self.len(), "more written than was pending");
        wipe(&mut self.bytes[self.start..self.start + n]);
        self.start += n;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    fn append(&mut self, encode: impl FnOnce(&mut Writer)) {
        self.compact();
        let at = self.bytes.len();
        let mut w = Writer::after(std::mem::take(&mut self.bytes));
        w.u32(0);
        encode(&mut w);
        self.bytes = w.finish();
        let len = self.bytes.len() - at - HEADER;
        assert!(len <= MAX_FRAME, "a frame over MAX_FRAME");
        self.bytes[at..at + HEADER].copy_from_slice(&(len as u32).to_be_bytes());
    }
}

impl FrameWriter {
    #[cfg(test)]
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives back the room in front once it is the larger part, so that a pipe that never runs dry stays small.
    fn compact(&mut self) {
        let waiting = self.len();
        if self.start >= READ_AT_LEAST && self.start >= waiting {
            self.bytes.copy_within(self.start.., 0);
            wipe(&mut self.bytes[waiting..]);
            self.bytes.truncate(waiting);
            self.start = 0;
        }
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Overwrites bytes of a buffer that lives on. Every relayed packet comes by here: `zeroize`, which promises the same even of
/// memory that is given back next, writes byte by byte.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Somebody may look, as far as the compiler knows.
    std::hint::black_box(bytes);
}

/// Makes `bytes` `len` long without leaving a copy of its first `used` bytes behind in freed memory.
fn grow(bytes: &mut Vec<u8>, used: usize, len: usize) {
    let mut larger = vec![0; len.next_power_of_two()];
    larger[..used].copy_from_slice(&bytes[..used]);
    bytes.zeroize();
    *bytes = larger;
}
