use std::time::{Duration, Instant};

use super::*;

fn pair(family: Family) -> (Socket, Socket, SocketAddr) {
    let (a, b) = (Socket::bind(family, 0, None).unwrap(), Socket::bind(family, 0, None).unwrap());
    let port = b.port().unwrap();
    let ip = if family == Family::V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    (a, b, SocketAddr::new(ip, port))
}

/// Receives until `bytes` have come, and returns the datagrams, taken apart.
fn collect(socket: &Socket, bytes: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut batch, mut out, mut buffers) = (Batch::new(), Vec::new(), 0);
    let end = Instant::now() + Duration::from_secs(5);
    while out.iter().map(Vec::len).sum::<usize>() < bytes && Instant::now() < end {
        buffers += socket.recv(&mut batch).unwrap();
        for datagram in batch.datagrams() {
            out.extend(datagram.data.chunks(datagram.segment).map(<[u8]>::to_vec));
        }
    }
    (out, buffers)
}

fn datagrams(segment: usize, count: usize, last: usize) -> Vec<u8> {
    (0..segment * (count - 1) + last).map(|i| (i / segment + i) as u8).collect()
}

#[test]
fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
    for family in [Family::V4, Family::V6] {
        let (mut a, b, dst) = pair(family);
        let data = datagrams(1_452, 100, 77);
        a.send(dst, 0, 1_452, &data).unwrap();
        let (got, buffers) = collect(&b, data.len());
        assert!(got.concat() == data);
        assert!(got[..99].iter().all(|d| d.len() == 1_452) && got[99].len() == 77);
        assert!(a.segments && buffers < 100, "neither segmentation nor coalescing was at work");
    }
}

#[test]
fn small_and_single_datagrams_arrive() {
    let (mut a, b, dst) = pair(Family::V4);
    for (segment, count) in [(1, 1), (1, 300), (148, 1), (65_000, 2)] {
        let data = datagrams(segment, count, segment);
        a.send(dst, 0, segment, &data).unwrap();
        assert!(collect(&b, data.len()).0.concat() == data);
    }
}

#[test]
fn one_datagram_is_taken_alone_and_the_others_stay() {
    let (mut a, b, dst) = pair(Family::V4);
    let mut batch = Batch::new();
    assert_eq!(b.recv_one(&mut batch).unwrap(), 0);
    for said in [b"one".as_slice(), b"two", b"three"] {
        a.send(dst, 0, said.len(), said).unwrap();
    }
    assert_eq!(b.recv_one(&mut batch).unwrap(), 1);
    assert!(batch.datagrams().map(|datagram| datagram.data.to_vec()).eq([b"one".to_vec()]));
    assert!(!batch.is_full(), "it was asked for one");
    assert_eq!(collect(&b, 8), (vec![b"two".to_vec(), b"three".to_vec()], 2));
}

#[test]
fn the_class_of_datagrams_goes_with_them_however_they_are_sent() {
    for family in [Family::V4, Family::V6] {
        let (mut a, b, dst) = pair(family);
        for segments in [true, false] {
            a.segments = segments;
            for (class, count) in [(0, 1), (2, 1), (0xb9, 20), (0, 20), (3, 20)] {
                let data = datagrams(1_000, count, 10);
                a.send(dst, class, 1_000, &data).unwrap();
                let (mut batch, mut bytes) = (Batch::new(), 0);
                let end = Instant::now() + Duration::from_secs(5);
                while bytes < data.len() && Instant::now() < end {
                    b.recv(&mut batch).unwrap();
                    for datagram in batch.datagrams() {
                        assert_eq!(
                            (datagram.class, datagram.data.len() > 1_000),
                            (class, segments && count > 1)
                        );
                        bytes += datagram.data.len();
                    }
                }
                assert_eq!(bytes, data.len());
            }
        }
        assert!(!a.segments, "refused nothing");
    }
}

#[test]
fn without_segmentation_datagrams_leave_one_by_one() {
    let (mut a, b, dst) = pair(Family::V6);
    a.segments = false;
    let data = datagrams(1_200, 150, 1_200);
    a.send(dst, 0, 1_200, &data).unwrap();
    let (got, _) = collect(&b, data.len());
    assert!(got.len() == 150 && got.concat() == data);
}

#[test]
fn a_socket_that_refuses_segmentation_is_remembered() {
    let (mut a, b, dst) = pair(Family::V4);
    // The kernel refuses UDP_SEGMENT on a socket that sends no checksums.
    // SAFETY: sets an integer option on a descriptor that is open.
    #[allow(unsafe_code)]
    let done = unsafe {
        let on: libc::c_int = 1;
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&a.fd),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(done, 0);
    let data = datagrams(1_000, 10, 10);
    a.send(dst, 0, 1_000, &data).unwrap();
    assert!(!a.segments);
    assert!(collect(&b, data.len()).0.concat() == data);
}

#[test]
fn a_destination_that_cannot_be_reached_is_told_apart_from_a_refusal() {
    let (mut a, ..) = pair(Family::V4);
    let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    assert_eq!(a.send(broadcast, 0, 100, &[0; 300]), Err(SendError::Unreachable));
    assert!(a.segments);
}

#[test]
fn a_taken_port_is_named_and_the_next_free_one_is_found() {
    let taken = Socket::bind(Family::V6, 0, None).unwrap();
    let port = taken.port().unwrap();
    assert!(matches!(bind_pair(port, true, None), Err(UdpError::PortTaken(p)) if p == port));
    let pair = bind_pair(port, false, None).unwrap();
    assert!(pair.port > port && pair.v6.is_some_and(|v6| v6.port().unwrap() == pair.port));
}

#[test]
fn a_socket_is_taken_over_by_descriptor_and_nothing_else_is() {
    let socket = Socket::bind(Family::V6, 0, None).unwrap();
    let port = socket.port().unwrap();
    let again = Socket::from_fd(socket.into_fd()).unwrap();
    assert!(again.family() == Family::V6 && again.port().unwrap() == port);
    let (rx, _tx) = io::pipe().unwrap();
    assert!(matches!(Socket::from_fd(rx.into()), Err(UdpError::NotUdp)));
}

#[test]
fn large_buffers_come_few_at_a_time_and_small_ones_many() {
    let (mut a, b, dst) = pair(Family::V4);
    let mut batch = Batch::new();
    let mut most = |sends: usize, data: &[u8], segment: usize| {
        // Not more at once than a socket's buffer holds.
        let mut counts = Vec::new();
        for _ in 0..4 {
            (0..sends).for_each(|_| a.send(dst, 0, segment, data).unwrap());
            while counts.last() != Some(&0) {
                let open = batch.open();
                counts.push(b.recv(&mut batch).unwrap());
                assert_eq!(
                    batch.is_full(),
                    counts.last() == Some(&open),
                    "a full one says that more may be there"
                );
            }
            counts.pop();
        }
        counts.into_iter().max().unwrap()
    };
    let large = datagrams(1_400, 40, 1_400);
    assert!(most(20, &large, 1_400) <= SLOTS / 4);
    // None of another size follows, so that nothing is coalesced.
    assert_eq!(most(200, &[7; 100], 100), SLOTS);
    most(20, &large, 1_400);
    assert!(most(20, &large, 1_400) <= SLOTS / 4, "and large ones again");
}
