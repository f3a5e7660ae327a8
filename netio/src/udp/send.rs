//! Sending: datagrams of one size to one destination in one system call.

use std::{io, net::SocketAddr, os::fd::AsRawFd};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::{Family, Socket};

/// Datagrams that one `UDP_SEGMENT` call carries: older kernels take 64 (newer ones 128).
const MAX_SEGMENTS: usize = 64;

/// Bytes that one `UDP_SEGMENT` call carries: the largest UDP payload over IPv4. More is refused with `EMSGSIZE`.
const MAX_BYTES: usize = 65_507;

/// Datagrams handed over at once where segmentation is refused.
const SINGLES: usize = 64;

/// Why datagrams did not leave. They are dropped either way: neither the socket nor the caller has a queue for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The socket's buffer is full.
    #[error("the socket's buffer is full")]
    Full,
    /// A datagram is larger than the link takes on which it would leave.
    #[error("a datagram is larger than the link takes")]
    TooBig,
    /// There is no way there, or a firewall forbids it.
    #[error("the destination cannot be reached")]
    Unreachable,
}

impl Socket {
    /// Sends `data`, datagrams of `segment` bytes back to back (the last may be shorter), to `dst`, whose family must
    /// be the socket's; `class` is the type of service or traffic class of their headers. What could not be sent is
    /// dropped.
    ///
    /// # Errors
    /// [`SendError`]: some or all of the datagrams did not leave.
    pub fn send(&mut self, dst: SocketAddr, class: u8, segment: usize, data: &[u8]) -> Result<(), SendError> {
        if data.is_empty() || segment == 0 {
            return Ok(());
        }
        let to = Way { name: SockaddrStorage::from(dst), class };
        let per_call = (MAX_BYTES / segment).clamp(1, MAX_SEGMENTS) * segment;
        let mut result = Ok(());
        for chunk in data.chunks(per_call) {
            if let Err(e) = self.send_chunk(&to, segment, chunk) {
                result = Err(e);
                if e == SendError::Full {
                    break;
                }
            }
        }
        result
    }

    fn send_chunk(&mut self, to: &Way, segment: usize, chunk: &[u8]) -> Result<(), SendError> {
        if chunk.len() <= segment {
            return self.send_once(to, None, chunk).map_err(reason);
        }
        if !self.segments {
            return self.send_singly(to, segment, chunk);
        }
        let Err(errno) = self.send_once(to, Some(segment as u16), chunk) else {
            return Ok(());
        };
        match errno {
            // The card cannot checksum (EIO), or the kernel does not know the option: it will not learn it.
            libc::EIO | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP => {
                let sent = self.send_singly(to, segment, chunk);
                // A destination that is refused either way says nothing about segmentation.
                self.segments = sent.is_err();
                sent
            }
            // Larger than the link's MTU; the last of them may be smaller.
            libc::EMSGSIZE => self.send_singly(to, segment, chunk),
            errno => Err(reason(errno)),
        }
    }

    /// One `sendmsg` call, cut by the kernel into datagrams of `segment` bytes if that is given.
    fn send_once(&self, to: &Way, segment: Option<u16>, data: &[u8]) -> Result<(), i32> {
        let mut control = Controls::new(self.family, to.class, segment);
        let mut vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let mut header = empty_header();
        header.msg_name = to.name.as_ptr().cast_mut().cast();
        header.msg_namelen = to.name.len();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        control.hang_on(&mut header);
        loop {
            // SAFETY: `header` points to the name of `to`, `vector` (which points to `data`) and `control`, with their lengths;
            // all outlive the call, and sending only reads them.
            #[allow(unsafe_code)]
            let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
            if sent >= 0 {
                return Ok(());
            }
            match last_errno() {
                libc::EINTR => {}
                errno => return Err(errno),
            }
        }
    }

    /// The datagrams of `chunk` without segmentation, [`SINGLES`] in a system call.
    fn send_singly(&self, to: &Way, segment: usize, chunk: &[u8]) -> Result<(), SendError> {
        let mut result = Ok(());
        let mut control = Controls::new(self.family, to.class, None);
        for group in chunk.chunks(segment * SINGLES) {
            let mut datagrams = group.chunks(segment);
            let count = datagrams.len();
            let mut vectors: [libc::iovec; SINGLES] = std::array::from_fn(|_| {
                let data = datagrams.next().unwrap_or_default();
                libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() }
            });
            let mut headers: [libc::mmsghdr; SINGLES] = std::array::from_fn(|i| {
                let mut header = empty_header();
                header.msg_name = to.name.as_ptr().cast_mut().cast();
                header.msg_namelen = to.name.len();
                header.msg_iov = &raw mut vectors[i];
                header.msg_iovlen = 1;
                control.hang_on(&mut header);
                libc::mmsghdr { msg_hdr: header, msg_len: 0 }
            });
            let mut first = 0;
            while first < count {
                let rest = &mut headers[first..count];
                // SAFETY: every header of `rest` points to the name of `to`, to `control` and to its own element of
                // `vectors`, which points into `chunk`; all outlive the call, and the kernel writes to `msg_len` in `rest` alone.
                #[allow(unsafe_code)]
                let sent = unsafe {
                    libc::sendmmsg(
                        self.fd.as_raw_fd(),
                        rest.as_mut_ptr(),
                        rest.len() as libc::c_uint,
                        libc::MSG_DONTWAIT,
                    )
                };
                if sent > 0 {
                    first += sent as usize;
                    continue;
                }
                match last_errno() {
                    libc::EINTR => continue,
                    libc::EAGAIN | libc::ENOBUFS => return Err(SendError::Full),
                    errno => result = Err(reason(errno)),
                }
                // The first of the rest was refused; those behind it may pass.
                first += 1;
            }
        }
        result
    }
}

/// Where datagrams go, and what their headers say beside it.
struct Way {
    name: SockaddrStorage,
    class: u8,
}

/// A control message of the kernel's: `cmsghdr`, then a value, padded to the alignment of the next.
#[derive(Clone, Copy)]
#[repr(C)]
struct Message {
    header: libc::cmsghdr,
    value: [u8; size_of::<usize>()],
}

/// The control messages of a send: what is asked of it beyond the destination.
#[repr(C)]
struct Controls {
    messages: [Message; 2],
    count: usize,
}

impl Controls {
    /// To be cut into datagrams of `segment` bytes, if that is given; `class` in their headers, if it is not zero.
    fn new(family: Family, class: u8, segment: Option<u16>) -> Self {
        let mut controls = Self { messages: [Message::new(0, 0, &[]); 2], count: 0 };
        if let Some(segment) = segment {
            controls.add(Message::new(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes()));
        }
        if class != 0 {
            let (level, kind) = match family {
                Family::V4 => (libc::IPPROTO_IP, libc::IP_TOS),
                Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            };
            controls.add(Message::new(level, kind, &libc::c_int::from(class).to_ne_bytes()));
        }
        controls
    }

    fn add(&mut self, message: Message) {
        self.messages[self.count] = message;
        self.count += 1;
    }

    /// Leads `header` here, which must not move from then on.
    fn hang_on(&mut self, header: &mut libc::msghdr) {
        if self.count > 0 {
            header.msg_control = self.messages.as_mut_ptr().cast();
            header.msg_controllen = self.count * size_of::<Message>();
        }
    }
}

impl Message {
    fn new(level: libc::c_int, kind: libc::c_int, bytes: &[u8]) -> Self {
        let cmsg_len = size_of::<libc::cmsghdr>() + bytes.len();
        let mut value = [0; size_of::<usize>()];
        value[..bytes.len()].copy_from_slice(bytes);
        Self { header: libc::cmsghdr { cmsg_len, cmsg_level: level, cmsg_type: kind }, value }
    }
}

/// A `msghdr` of null pointers and zero lengths.
pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` is plain data, pointers and integers, for which all zeroes is a value.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub(super) fn reason(errno: i32) -> SendError {
    match errno {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => SendError::Full,
        libc::EMSGSIZE => SendError::TooBig,
        _ => SendError::Unreachable,
    }
}
