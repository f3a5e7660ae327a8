//! Opening the device, or taking one that control opened.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

/// Where the kernel offers TUN devices.
const DEVICE: &str = "/dev/net/tun";

/// Offloads of the transmit direction that the kernel may leave to us: checksums, TCP segmentation of both families
/// (with ECN).
const TCP_OFFLOAD: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

/// UDP segmentation of both families: Linux 6.2 and later.
const UDP_OFFLOAD: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// `/dev/net/tun` does not exist, or no driver is behind it.
    #[error(
        "/dev/net/tun is missing: load the kernel's tun module (modprobe tun), or give this container the device"
    )]
    Missing,
    /// Opening the device or making an interface is not permitted.
    #[error("not permitted to open /dev/net/tun: run vpnd as root, or as its systemd service")]
    NotPermitted,
    /// A network interface has this name already.
    #[error("a network interface of this name exists already; choose another name with --interface")]
    NameTaken,
    /// The kernel accepts no such name.
    #[error("not a valid name for a network interface (1 to 15 characters, no spaces, '/', ':' or '%')")]
    NameInvalid,
    /// The descriptor passed is no TUN device of the kind that [`Tun::create`] makes.
    #[error("the descriptor passed is not a TUN device")]
    NotTun,
    /// The system refused.
    #[error("the TUN device could not be opened: {0}")]
    Io(#[from] io::Error),
}

/// A TUN device: packets without link-layer header, each with a virtio-net header before it.
pub struct Tun {
    pub(super) fd: OwnedFd,
    /// Whether many TCP segments may be written as one packet.
    pub(super) tcp_offload: bool,
    /// Whether many UDP datagrams may be written as one packet.
    pub(super) udp_offload: bool,
}

impl Tun {
    /// Makes the interface `name`, which must not exist. It goes when the last descriptor of it is closed.
    ///
    /// # Errors
    /// [`TunError`].
    pub fn create(name: &str) -> Result<Self, TunError> {
        Ok(Self::with_offload(attach(name, libc::IFF_TUN_EXCL)?))
    }

    /// Makes the interface `name`, which must not exist, with this many queues, each a device to read and write by itself.
    /// The kernel hands a flow's packets to the queue that a packet of the same flow, or an answer, was written to last;
    /// those of a flow that it has not seen to any.
    ///
    /// # Errors
    /// [`TunError`].
    pub fn create_queues(name: &str, count: usize) -> Result<Vec<Self>, TunError> {
        if count < 2 {
            return Ok(vec![Self::create(name)?]);
        }
        let first = attach(name, libc::IFF_TUN_EXCL | libc::IFF_MULTI_QUEUE)?;
        let others = (1..count).map(|_| attach(name, libc::IFF_MULTI_QUEUE));
        std::iter::once(Ok(first)).chain(others).map(|fd| Ok(Self::with_offload(fd?))).collect()
    }

    /// Takes a device that another process made with [`Tun::create`].
    ///
    /// # Errors
    /// [`TunError::NotTun`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TunError> {
        if !is_ours(fd.as_fd()) {
            return Err(TunError::NotTun);
        }
        Ok(Self::with_offload(fd))
    }

    /// Whether its interface exists still; somebody may delete it.
    #[must_use]
    pub fn exists(&self) -> bool {
        is_ours(self.fd.as_fd())
    }

    /// Asks for as much offload as the kernel has; without any, packets come and go one by one.
    fn with_offload(fd: OwnedFd) -> Self {
        let set = |flags: libc::c_uint| {
            // SAFETY: TUNSETOFFLOAD takes a number as its argument.
            #[allow(unsafe_code)]
            let done =
                unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
            done == 0
        };
        let udp_offload = set(TCP_OFFLOAD | UDP_OFFLOAD);
        let tcp_offload = udp_offload || set(TCP_OFFLOAD);
        Self { fd, tcp_offload, udp_offload }
    }

    /// Another descriptor of the same device, to hand to another process.
    ///
    /// # Errors
    /// As `fcntl(2)`.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// The descriptor, to hand to another process.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the interface `name`, or makes it, for packets without link-layer header.
fn attach(name: &str, more: libc::c_int) -> Result<OwnedFd, TunError> {
    let mut request = request(name)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | more;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::Missing,
            Some(libc::EACCES | libc::EPERM) => TunError::NotPermitted,
            _ => TunError::Io(e),
        })?;
    // SAFETY: `request` is an `ifreq`, as TUNSETIFF reads and writes, and lives over the call.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 {
        let e = io::Error::last_os_error();
        return Err(match e.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => TunError::NameTaken,
            Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted,
            Some(libc::EBADFD | libc::ENODEV) => TunError::Missing,
            _ => TunError::Io(e),
        });
    }
    Ok(file.into())
}

/// Whether a descriptor is a device of the kind that [`Tun::create`] makes, whose interface exists.
fn is_ours(fd: BorrowedFd<'_>) -> bool {
    let Ok(mut request) = request("_") else { return false };
    // SAFETY: `request` is an `ifreq`, which TUNGETIFF fills in, and lives over the call; another kind of descriptor
    // answers with an error.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    // SAFETY: TUNGETIFF has written the flags; all bit patterns are valid for them.
    #[allow(unsafe_code)]
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    let ours = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    done >= 0 && flags & ours == ours
}

/// An `ifreq` of a name, all else zero.
fn request(name: &str) -> Result<libc::ifreq, TunError> {
    let valid = |b: &u8| b.is_ascii_graphic() && !b"/:%".contains(b);
    let valid = (1..libc::IFNAMSIZ).contains(&name.len()) && name.as_bytes().iter().all(valid);
    if !valid || name == "." || name == ".." {
        return Err(TunError::NameInvalid);
    }
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
