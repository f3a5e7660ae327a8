//! Several sockets on one port: the kernel gives each datagram to one of them, by a few bits of it.
//!
//! The first is bound alone, so that a port which another program has is refused as ever; then it opens the port to the
//! others (`SO_REUSEPORT`), which only sockets of the same user can join. A classic BPF program chooses among them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{setsockopt, sockopt};

use super::{Family, UdpError, bind_spare};

/// The code of an instruction of classic BPF.
const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const SHIFT_RIGHT: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const RETURN_ACCUMULATOR: u16 = (libc::BPF_RET | libc::BPF_A) as u16;

/// Which of the sockets a datagram is for: one that begins with these four bytes for the one whose number is in some bits of
/// a byte, any other for the first.
#[derive(Clone, Copy)]
pub struct Choice {
    /// The first bytes.
    pub start: [u8; 4],
    /// Where the byte is.
    pub byte: u32,
    /// How many bits below the number are something else.
    pub shift: u32,
    /// The bits of the number, shifted.
    pub mask: u32,
}

/// Lets `others`, which are bound to nothing, share the port that `first`, of the same family, is bound to; their numbers are 1
/// and up. A datagram for a number that none has goes to any.
///
/// # Errors
/// [`UdpError`].
pub fn share<O: AsFd>(
    first: &impl AsFd,
    others: &[O],
    family: Family,
    port: u16,
    choice: Choice,
) -> Result<(), UdpError> {
    setsockopt(first, sockopt::ReusePort, &true).map_err(io::Error::from)?;
    for other in others {
        setsockopt(other, sockopt::ReusePort, &true).map_err(io::Error::from)?;
        bind_spare(other, family, port)?;
    }
    Ok(choose(first, choice)?)
}

/// Has the kernel choose among the sockets that share the port of `socket`.
fn choose(socket: &impl AsFd, choice: Choice) -> io::Result<()> {
    let step = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        // A load beyond the end returns 0.
        step(LOAD_WORD, 0, 0),
        step(JUMP_EQUAL, u32::from_be_bytes(choice.start), 4),
        step(LOAD_BYTE, choice.byte, 0),
        step(SHIFT_RIGHT, choice.shift, 0),
        step(AND, choice.mask, 0),
        step(RETURN_ACCUMULATOR, 0, 0),
        step(RETURN, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the option takes a `sock_fprog`, which leads to `steps` with their number; the kernel copies both during the call.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
        os::fd::OwnedFd,
        time::{Duration, Instant},
    };

    use super::{super::spare, *};

    const CHOICE: Choice = Choice { start: [4, 0, 0, 0], byte: 5, shift: 2, mask: 15 };

    fn row(family: Family, count: usize) -> (Vec<OwnedFd>, u16) {
        let row: Vec<OwnedFd> = (0..count).map(|_| spare(family).unwrap()).collect();
        let port = bind_spare(&row[0], family, 0).unwrap();
        share(&row[0], &row[1..], family, port, CHOICE).unwrap();
        (row, port)
    }

    /// Which of the sockets a datagram comes to.
    fn place(row: &[UdpSocket], sender: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> usize {
        sender.send_to(datagram, to).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(at) = row.iter().position(|socket| socket.recv(&mut [0; 64]).is_ok()) {
                return at;
            }
            assert!(Instant::now() < end, "it came to none");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_datagram_comes_to_the_socket_that_its_bits_name_wherever_it_is_from() {
        let ends: [(Family, SocketAddr); 2] =
            [(Family::V4, (Ipv4Addr::LOCALHOST, 0).into()), (Family::V6, (Ipv6Addr::LOCALHOST, 0).into())];
        for (family, here) in ends {
            let (row, port) = row(family, 4);
            let row: Vec<UdpSocket> = row.into_iter().map(UdpSocket::from).collect();
            let to = SocketAddr::new(here.ip(), port);
            for _ in 0..3 {
                let sender = UdpSocket::bind(here).unwrap();
                for number in 0..4_u8 {
                    let datagram = [4, 0, 0, 0, 0xff, 0b1100_0011 | number << 2, 0xff, 0xff];
                    assert_eq!(place(&row, &sender, to, &datagram), usize::from(number));
                }
                let others =
                    [&[1, 0, 0, 0, 0, 0xff, 0, 0][..], &[4, 0, 0, 1, 0, 0xff], &[4, 0, 0, 0], &[9], &[]];
                for datagram in others {
                    assert_eq!(place(&row, &sender, to, datagram), 0);
                }
            }
        }
    }

    #[test]
    fn a_port_that_is_shared_is_taken_for_everybody_else() {
        let (row, port) = row(Family::V4, 2);
        let other = spare(Family::V4).unwrap();
        assert!(matches!(bind_spare(&other, Family::V4, port), Err(UdpError::PortTaken(p)) if p == port));
        drop(row);
        assert_eq!(bind_spare(&other, Family::V4, port).unwrap(), port);
    }
}
