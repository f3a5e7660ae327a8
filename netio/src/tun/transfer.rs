//! Reading and writing the device.

use std::io::{self, IoSlice};

use nix::{libc, sys::uio::writev, unistd};

use super::{
    Coalescer, Malformed, Split, Tun, Written,
    coalesce::{Joined, MAX_BATCH},
    vnet::{Gso, HEADER_LEN},
};

/// The largest packet that the kernel hands over: an IPv6 header and what its length field can name.
const MAX_READ: usize = HEADER_LEN + 40 + 65_535;

/// The buffer of one read, reused.
pub struct Frame(Box<[u8]>);

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// A buffer for the largest packet.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; MAX_READ].into_boxed_slice())
    }
}

/// Whether a read failed because the interface was deleted.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

impl Tun {
    /// Reads one packet, or many of one flow, into `frame`. `Ok(None)`: nothing was there.
    ///
    /// # Errors
    /// As `read(2)`; the inner error says that what came was malformed and is dropped.
    pub fn read<'f>(&self, frame: &'f mut Frame) -> io::Result<Option<Result<Split<'f>, Malformed>>> {
        match unistd::read(&self.fd, &mut frame.0) {
            Ok(n) => Ok(Some(Split::new(&mut frame.0[..n]))),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes `packets` in their order within each flow, joined where they can be. What the device does not take is
    /// dropped.
    pub fn write<'p>(
        &mut self,
        packets: impl IntoIterator<Item = &'p [u8]>,
        coalescer: &mut Coalescer,
    ) -> Written {
        let mut written = Written::default();
        let mut packets = packets.into_iter();
        let mut batch: [&[u8]; MAX_BATCH] = [&[]; MAX_BATCH];
        loop {
            let mut count = 0;
            for (place, packet) in batch.iter_mut().zip(packets.by_ref()) {
                *place = packet;
                count += 1;
            }
            if count == 0 {
                return written;
            }
            let batch = &batch[..count];
            coalescer.plan(batch, self.tcp_offload, self.udp_offload);
            for joined in coalescer.joined() {
                self.write_joined(batch, &joined, &mut written);
            }
        }
    }

    fn write_joined(&mut self, batch: &[&[u8]], joined: &Joined<'_>, written: &mut Written) {
        written.writes += 1;
        match joined.with_parts(batch, |parts| self.write_parts(parts)) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::EMSGSIZE) if joined.count() > 1 => {
                // This kernel takes no such packet: never again.
                match joined.gso() {
                    Gso::Tcp => self.tcp_offload = false,
                    Gso::Udp => self.udp_offload = false,
                }
                self.write_singly(batch, joined, written);
            }
            Err(_) => written.dropped += joined.count(),
        }
    }

    fn write_singly(&self, batch: &[&[u8]], joined: &Joined<'_>, written: &mut Written) {
        for packet in joined.packets(batch) {
            written.writes += 1;
            let plain = [0; HEADER_LEN];
            let sent = self.write_parts(&[IoSlice::new(&plain), IoSlice::new(packet)]);
            written.dropped += usize::from(sent.is_err());
        }
    }

    fn write_parts(&self, parts: &[IoSlice<'_>]) -> nix::Result<()> {
        loop {
            match writev(&self.fd, parts) {
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
