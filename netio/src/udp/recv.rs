//! Receiving: up to [`SLOTS`] buffers in one system call, each holding one datagram or several of one size from one
//! sender, back to back.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use super::Socket;

/// Buffers in a batch, at most: what small datagrams fill.
pub const SLOTS: usize = 32;

/// Buffers in a batch at first, and at least: coalesced ones of 64 KB make this half a megabyte, which a caller works through in a
/// millisecond. What waits for its turn meanwhile waits no longer, and buffers that are not used take no memory.
const FEW: usize = 8;

/// A full batch with fewer bytes than this makes the next one larger, one with more bytes smaller.
const ENOUGH: usize = FEW * (16 << 10);

/// Bytes of a slot: the largest coalesced datagram (65,535), and so much more that slots do not fall on the same
/// sets of the cache, as they would at a power of two.
const SLOT: usize = (64 << 10) + 192;

/// Room for the control messages that carry the segment size and the class, an `int` each.
const CONTROL: usize = 2 * (size_of::<libc::cmsghdr>() + size_of::<usize>());

/// Space for control messages, aligned as the kernel's `cmsghdr` demands.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Buffers for one receive call, reused for ever.
pub struct Batch {
    data: Vec<u8>,
    names: [libc::sockaddr_in6; SLOTS],
    controls: [Control; SLOTS],
    received: [Received; SLOTS],
    count: usize,
    /// Buffers that the next call may fill.
    open: usize,
    /// Whether the last call filled all of them.
    full: bool,
}

#[derive(Clone, Copy, Default)]
struct Received {
    len: usize,
    segment: usize,
    class: u8,
}

/// What one sender sent: `data` holds datagrams of `segment` bytes back to back, the last may be shorter. Their headers
/// say the same.
pub struct Datagram<'a> {
    /// Where it came from.
    pub src: SocketAddr,
    /// The type of service (IPv4) or traffic class (IPv6) with which they arrived.
    pub class: u8,
    /// Bytes of every datagram but the last; at least 1.
    pub segment: usize,
    /// The datagrams.
    pub data: &'a mut [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

const NO_NAME: libc::sockaddr_in6 = libc::sockaddr_in6 {
    sin6_family: 0,
    sin6_port: 0,
    sin6_flowinfo: 0,
    sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
    sin6_scope_id: 0,
};

impl Batch {
    /// Empty buffers; their memory is taken when it is first written to.
    #[must_use]
    pub fn new() -> Self {
        Self {
            data: vec![0; SLOTS * SLOT],
            names: [NO_NAME; SLOTS],
            controls: [Control([0; CONTROL]); SLOTS],
            received: [Received::default(); SLOTS],
            count: 0,
            open: FEW,
            full: false,
        }
    }

    /// Buffers that the next call may fill.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Opens as many buffers to the next call as fit what the last one brought.
    fn adapt(&mut self) {
        let bytes: usize = self.received[..self.count].iter().map(|received| received.len).sum();
        if bytes > ENOUGH {
            self.open = (self.open / 2).max(FEW);
        } else if self.count == self.open {
            self.open = (self.open * 2).min(SLOTS);
        }
    }

    /// Whether the last [`Socket::recv`] filled every buffer it was given, so that more may be there.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What the last [`Socket::recv`] brought. Empty and cut datagrams are left out.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let (names, received) = (&self.names, &self.received);
        self.data.chunks_exact_mut(SLOT).take(self.count).enumerate().filter_map(move |(i, slot)| {
            let Received { len, segment, class } = received[i];
            let data = slot.get_mut(..len).filter(|data| !data.is_empty())?;
            Some(Datagram { src: address(&names[i])?, class, segment, data })
        })
    }
}

/// The address that the kernel wrote. `sockaddr_in` lies over the start of `sockaddr_in6`: its address is where the
/// flow label is.
fn address(name: &libc::sockaddr_in6) -> Option<SocketAddr> {
    let port = u16::from_be(name.sin6_port);
    match i32::from(name.sin6_family) {
        libc::AF_INET => {
            Some(SocketAddrV4::new(Ipv4Addr::from(name.sin6_flowinfo.to_ne_bytes()), port).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

impl Socket {
    /// Receives what is there, at most [`SLOTS`] buffers, into `batch`; returns how many. 0: nothing was there.
    ///
    /// # Errors
    /// As `recvmmsg(2)`; an error reported for an earlier send is passed over.
    pub fn recv(&self, batch: &mut Batch) -> io::Result<usize> {
        let open = batch.open;
        self.receive::<SLOTS>(batch, open)?;
        batch.full = batch.count == open;
        batch.adapt();
        Ok(batch.count)
    }

    /// As [`Self::recv`], but one buffer at most, for less than a receive of several costs. Whether more is there it does not say.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn recv_one(&self, batch: &mut Batch) -> io::Result<usize> {
        self.receive::<1>(batch, 1)?;
        Ok(batch.count)
    }

    /// Receives into the first `open` buffers of `N`.
    fn receive<const N: usize>(&self, batch: &mut Batch, open: usize) -> io::Result<()> {
        const { assert!(N <= SLOTS) };
        (batch.count, batch.full) = (0, false);
        let data = batch.data.as_mut_ptr();
        let mut vectors: [libc::iovec; N] = std::array::from_fn(|i| libc::iovec {
            // In bounds: `data` has `SLOTS * SLOT` bytes, and `N` is not more than `SLOTS`.
            iov_base: data.wrapping_add(i * SLOT).cast(),
            iov_len: SLOT,
        });
        let names = batch.names.as_mut_ptr();
        let controls = batch.controls.as_mut_ptr();
        let mut headers: [libc::mmsghdr; N] = std::array::from_fn(|i| {
            let mut header = super::send::empty_header();
            header.msg_name = names.wrapping_add(i).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = controls.wrapping_add(i).cast();
            header.msg_controllen = CONTROL;
            libc::mmsghdr { msg_hdr: header, msg_len: 0 }
        });
        // SAFETY: every pointer in `headers` leads to its own element of an array that outlives the call, with the
        // length given beside it; the kernel writes within those lengths. No timeout is passed.
        #[allow(unsafe_code)]
        let n = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                open.min(N) as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            return match e.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(()),
                // Left by an ICMP answer to something that was sent: the next call receives.
                Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) => Ok(()),
                _ => Err(e),
            };
        }
        batch.count = n as usize;
        for (i, header) in headers[..batch.count].iter().enumerate() {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if cut { 0 } else { header.msg_len as usize };
            let control = &batch.controls[i].0[..header.msg_hdr.msg_controllen.min(CONTROL)];
            let Said { segment, class } = read_controls(control);
            let segment = segment.filter(|&s| s > 0).unwrap_or(len).min(len);
            batch.received[i] = Received { len, segment, class };
        }
        Ok(())
    }
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Default)]
struct Said {
    /// The segment size, if the kernel coalesced.
    segment: Option<usize>,
    class: u8,
}

/// Reads control messages. Each is a header (length of `usize`, level and type of `int`), then its data, padded to the
/// size of a length.
fn read_controls(mut bytes: &[u8]) -> Said {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let int = |bytes: &[u8]| bytes.first_chunk().map(|bytes| libc::c_int::from_ne_bytes(*bytes));
    let mut said = Said::default();
    while let Some(len) = bytes.first_chunk().map(|len| usize::from_ne_bytes(*len)) {
        let Some(message) = bytes.get(WORD..len) else { break };
        let (Some(level), Some(kind)) = (int(message), message.get(4..).and_then(int)) else { break };
        let data = &bytes[HEADER.min(len)..len];
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => said.segment = int(data).and_then(|n| usize::try_from(n).ok()),
            // One byte.
            (libc::IPPROTO_IP, libc::IP_TOS) => said.class = data.first().copied().unwrap_or(0),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => said.class = int(data).unwrap_or(0) as u8,
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(WORD)..).unwrap_or_default();
    }
    said
}
