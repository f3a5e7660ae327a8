//! The byte codec that every format of Tacet shares: big-endian integers, length-prefixed byte strings, and a
//! trailing list of optional fields.
//!
//! A format starts with a version byte ([`Writer::version`], [`Reader::version`]). A reader that meets a newer
//! version refuses it in plain words; within a version, an optional field that it does not know is skipped
//! ([`Reader::optional`]), so that fields can be added without breaking older machines. What is signed is kept
//! as the bytes that were signed, never encoded again.
//!
//! Types that carry metadata have no `Serialize`; these hand-written codecs are their only way over a wire.

/// The longest byte string that a reader accepts, in bytes; a bound on what a hostile length can make us allocate.
pub const MAX_BYTES: usize = 16 << 20;

/// Why bytes could not be read as what they claim to be. It never carries the bytes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("the data ends too early")]
    Truncated,
    /// Bytes are left after the value.
    #[error("the data goes on after its end")]
    Trailing,
    /// A length is larger than the format allows.
    #[error("a length in the data is over its limit")]
    TooLong,
    /// A newer Tacet wrote this.
    #[error(
        "this was written by a newer version of Tacet (format {found}, this program knows up to {known}): update it"
    )]
    Newer {
        /// The version byte found.
        found: u8,
        /// The newest version that this program reads.
        known: u8,
    },
    /// A value is outside what the format allows; the text names the field, never its content.
    #[error("the data is not valid: {0}")]
    Invalid(&'static str),
}

/// A value with a byte format.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, w: &mut Writer);

    /// Reads one value and leaves the reader behind it.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are not a value of this type.
    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError>;

    /// The value alone, as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode(&mut w);
        w.finish()
    }

    /// Reads a value that must fill `bytes` exactly.
    ///
    /// # Errors
    /// As [`Wire::decode`], and [`WireError::Trailing`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let value = Self::decode(&mut r)?;
        r.end()?;
        Ok(value)
    }
}

/// Builds a byte format front to back.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer that appends to `bytes`, so that a buffer can be used again.
    #[must_use]
    pub fn after(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// The version byte that a format starts with.
    pub fn version(&mut self, version: u8) {
        self.u8(version);
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// Bytes of a length that the reader knows.
    pub fn raw(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }

    /// A byte string: four bytes of length, then the bytes.
    ///
    /// # Panics
    /// If `v` is longer than [`MAX_BYTES`].
    pub fn bytes(&mut self, v: &[u8]) {
        assert!(v.len() <= MAX_BYTES, "a byte string over MAX_BYTES");
        self.u32(v.len() as u32);
        self.raw(v);
    }

    /// UTF-8 text as a byte string.
    pub fn text(&mut self, v: &str) {
        self.bytes(v.as_bytes());
    }

    /// A list: four bytes of count, then the values.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(items.len() as u32);
        for item in items {
            each(self, item);
        }
    }

    /// An optional field: tag, then its bytes. Optional fields come last in a format, tags rising.
    pub fn optional(&mut self, tag: u8, v: &[u8]) {
        self.u8(tag);
        self.bytes(v);
    }

    /// An optional field of `len` zero bytes.
    ///
    /// # Panics
    /// If `len` is over [`MAX_BYTES`].
    pub fn padding(&mut self, tag: u8, len: usize) {
        assert!(len <= MAX_BYTES, "a byte string over MAX_BYTES");
        self.u8(tag);
        self.u32(len as u32);
        self.0.resize(self.0.len() + len, 0);
    }
}

/// Reads a byte format front to back. Never panics on any input.
#[derive(Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn end(&self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }

    /// The version byte; anything above `known` is refused, and so is 0.
    ///
    /// # Errors
    /// [`WireError::Newer`], [`WireError::Invalid`], [`WireError::Truncated`].
    pub fn version(&mut self, known: u8) -> Result<u8, WireError> {
        match self.u8()? {
            0 => Err(WireError::Invalid("version")),
            v if v > known => Err(WireError::Newer { found: v, known }),
            v => Ok(v),
        }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A byte string of at most `max` bytes.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::Truncated`].
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let n = self.u32()? as usize;
        if n > max.min(MAX_BYTES) {
            return Err(WireError::TooLong);
        }
        self.raw(n)
    }

    /// UTF-8 text of at most `max` bytes.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::Truncated`], [`WireError::Invalid`].
    pub fn text(&mut self, max: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(max)?).map_err(|_| WireError::Invalid("text"))
    }

    /// A list of at most `max` values.
    ///
    /// # Errors
    /// [`WireError::TooLong`], and what `each` returns.
    pub fn list<T>(
        &mut self,
        max: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let n = self.u32()? as usize;
        if n > max {
            return Err(WireError::TooLong);
        }
        // A hostile count must not reserve memory that no bytes stand behind.
        let mut out = Vec::with_capacity(n.min(self.0.len()));
        for _ in 0..n {
            out.push(each(self)?);
        }
        Ok(out)
    }

    /// The next optional field, `None` at the end; the caller skips a tag that it does not know.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::Truncated`].
    pub fn optional(&mut self) -> Result<Option<(u8, &'a [u8])>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.u8()?;
        Ok(Some((tag, self.bytes(MAX_BYTES)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_refused_in_plain_words() {
        let err = Reader::new(&[9]).version(1).unwrap_err();
        assert_eq!(err, WireError::Newer { found: 9, known: 1 });
        assert!(err.to_string().contains("newer version of Tacet"));
    }

    #[test]
    fn a_hostile_length_allocates_nothing() {
        assert_eq!(Reader::new(&[0xff; 4]).bytes(usize::MAX).unwrap_err(), WireError::TooLong);
        assert_eq!(
            Reader::new(&[0, 0, 0xff, 0xff]).list(1 << 20, Reader::u8).unwrap_err(),
            WireError::Truncated
        );
    }

    #[test]
    fn an_unknown_optional_field_is_skipped() {
        let mut w = Writer::new();
        w.optional(1, b"a");
        w.optional(200, b"from the future");
        let bytes = w.finish();
        let mut r = Reader::new(&bytes);
        let mut known = None;
        while let Some((tag, v)) = r.optional().unwrap() {
            if tag == 1 {
                known = Some(v);
            }
        }
        assert_eq!(known, Some(&b"a"[..]));
    }
}
