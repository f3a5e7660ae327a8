//! The sockets of an interface, which the data path has copies of before they have a port.
//!
//! The data path opens nothing and takes nothing in. So it is started with a pool of sockets that are bound to nothing;
//! control holds the same, binds one of each family when a port is wanted, and says which. Both then close those before,
//! and the port is free. Control puts a fresh socket in the place of each it closed, for the next data path: `given` tells
//! which of them the present one has.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use netio::udp::{Family, UdpError, bind_spare, set_mark, share, spare};

use crate::workers::CHOICE;

/// Pairs of sockets in a pool: so often the port changes before a data path has to be started anew. Where each is as many sockets
/// as there are workers, there are fewer, but [`FEWEST`] at least.
const PAIRS: usize = 32;

/// See [`PAIRS`].
const FEWEST: usize = 4;

/// Ports that are tried where any will do, and the one that is free for IPv4 is not for IPv6.
const TRIES: usize = 16;

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The data path has no socket left that was never bound.
    #[error("no socket is left")]
    Exhausted,
    /// It is in use, may not be had, or the system refused.
    #[error(transparent)]
    Udp(#[from] UdpError),
}

/// The sockets that are in use, by place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Used {
    /// For IPv4.
    pub v4: Option<u8>,
    /// For IPv6, where the system has it.
    pub v6: Option<u8>,
    /// Their port.
    pub port: u16,
}

/// The pool.
#[derive(Clone)]
pub struct Ports {
    places: Arc<Mutex<Vec<Place>>>,
}

/// One socket, or one for each worker on the same port.
struct Place {
    fds: Vec<OwnedFd>,
    family: Family,
    bound: bool,
    /// Counts the sockets that were here.
    serial: u32,
    /// Which of them the present data path has.
    given: Option<u32>,
}

impl Ports {
    /// A pool of both families, or of the one that the system has, with sockets for so many workers.
    ///
    /// # Errors
    /// No socket may be opened.
    pub fn new(workers: u8) -> Result<Self, UdpError> {
        let mut places = Vec::new();
        for family in [Family::V4, Family::V6] {
            for _ in 0..(PAIRS / usize::from(workers)).max(FEWEST) {
                match spares(family, workers.into()) {
                    Ok(fds) => places.push(Place { fds, family, bound: false, serial: 0, given: None }),
                    Err(UdpError::NoFamily) => break,
                    Err(e) => return Err(e),
                }
            }
        }
        if places.is_empty() {
            return Err(UdpError::NoFamily);
        }
        Ok(Self { places: Arc::new(Mutex::new(places)) })
    }

    /// Copies of all for one more data path, worker by worker, each worker's in their order.
    ///
    /// # Errors
    /// No more descriptors may be opened.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let mut places = self.lock();
        let workers = places.first().map_or(0, |place| place.fds.len());
        let all =
            (0..workers).flat_map(|worker| places.iter().filter_map(move |place| place.fds.get(worker)));
        let copies = all.map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        for place in places.iter_mut() {
            place.given = Some(place.serial);
        }
        Ok(copies)
    }

    /// Binds a pair that the data path has to `port` (0: any), for datagrams with this mark.
    ///
    /// # Errors
    /// [`PortError`]; nothing is bound then.
    pub fn bind(&self, port: u16, mark: u32) -> Result<Used, PortError> {
        let mut last = UdpError::PortTaken(port);
        // Before it is bound in one family only: the data path's copy would keep it there from everybody, us included.
        if port != 0 && !self.is_free(port) {
            return Err(last.into());
        }
        for _ in 0..if port == 0 { TRIES } else { 1 } {
            match self.bind_once(port, mark) {
                Err(PortError::Udp(UdpError::PortTaken(taken))) => last = UdpError::PortTaken(taken),
                bound => return bound,
            }
        }
        Err(last.into())
    }

    fn bind_once(&self, port: u16, mark: u32) -> Result<Used, PortError> {
        let mut used = Used { v4: None, v6: None, port };
        for family in [Family::V4, Family::V6] {
            let bound = self.bind_one(family, used.port, mark);
            match (bound, family) {
                (Ok((place, port)), Family::V4) => (used.v4, used.port) = (Some(place), port),
                (Ok((place, port)), Family::V6) => (used.v6, used.port) = (Some(place), port),
                (Err(PortError::Udp(UdpError::NoFamily)), _) => {}
                (Err(e), _) => {
                    self.close(used);
                    return Err(e);
                }
            }
        }
        if used.v4.or(used.v6).is_none() { Err(UdpError::NoFamily.into()) } else { Ok(used) }
    }

    fn bind_one(&self, family: Family, port: u16, mark: u32) -> Result<(u8, u16), PortError> {
        let mut places = self.lock();
        if !places.iter().any(|place| place.family == family) {
            return Err(UdpError::NoFamily.into());
        }
        let free =
            |place: &Place| place.family == family && !place.bound && place.given == Some(place.serial);
        let at = places.iter().position(free).ok_or(PortError::Exhausted)?;
        let place = &mut places[at];
        place.mark(mark).map_err(UdpError::from)?;
        let [first, others @ ..] = place.fds.as_slice() else { return Err(PortError::Exhausted) };
        let port = bind_spare(first, family, port)?;
        // Whatever comes of it now, these sockets can be bound to nothing else.
        place.bound = true;
        if !others.is_empty()
            && let Err(e) = share(first, others, family, port, CHOICE)
        {
            place.renew();
            return Err(e.into());
        }
        Ok((at as u8, port))
    }

    /// Whether a port could be had just now, in both families. Nothing that a data path has is used up by asking.
    #[must_use]
    pub fn is_free(&self, port: u16) -> bool {
        let taken = |family| {
            let bound = spare(family).and_then(|fd| bind_spare(&fd, family, port));
            matches!(bound, Err(UdpError::PortTaken(_)))
        };
        !taken(Family::V4) && !taken(Family::V6)
    }

    /// Closes a pair here, and puts fresh sockets in their places.
    pub fn close(&self, used: Used) {
        let mut places = self.lock();
        for at in [used.v4, used.v6].into_iter().flatten() {
            let Some(place) = places.get_mut(usize::from(at)) else { continue };
            place.renew();
        }
    }

    /// Whether the present data path has this pair.
    #[must_use]
    pub fn has(&self, used: Used) -> bool {
        let places = self.lock();
        let given =
            |at: u8| places.get(usize::from(at)).is_some_and(|place| place.given == Some(place.serial));
        [used.v4, used.v6].into_iter().flatten().all(given)
    }

    /// Marks what leaves by a pair.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn mark(&self, used: Used, mark: u32) -> io::Result<()> {
        let places = self.lock();
        let mut used = [used.v4, used.v6].into_iter().flatten().filter_map(|at| places.get(usize::from(at)));
        used.try_for_each(|place| place.fds.iter().try_for_each(|fd| set_mark(fd, mark)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Closes the sockets here, and puts fresh ones in their place. Those that cannot be replaced stay as they are, and are not
    /// used any more.
    fn renew(&mut self) {
        if let Ok(fds) = spares(self.family, self.fds.len()) {
            self.fds = fds;
            self.bound = false;
        }
        self.serial += 1;
    }

    fn mark(&self, mark: u32) -> io::Result<()> {
        if mark == 0 { Ok(()) } else { self.fds.iter().try_for_each(|fd| set_mark(fd, mark)) }
    }
}

fn spares(family: Family, count: usize) -> Result<Vec<OwnedFd>, UdpError> {
    (0..count).map(|_| spare(family)).collect()
}

#[cfg(test)]
mod tests {
    use netio::udp::Socket;

    use super::*;

    #[test]
    fn a_port_changes_as_often_as_there_are_pairs_and_then_again_with_a_new_data_path() {
        let ports = Ports::new(1).unwrap();
        assert!(matches!(ports.bind(0, 0), Err(PortError::Exhausted)), "no data path has any");
        for _ in 0..2 {
            let copies = ports.copies().unwrap();
            let mut used = ports.bind(0, 0).unwrap();
            for _ in 1..PAIRS {
                let next = ports.bind(0, 0).unwrap();
                ports.close(used);
                used = next;
            }
            assert!(ports.has(used));
            assert!(matches!(ports.bind(0, 0), Err(PortError::Exhausted)));
            ports.close(used);
            assert!(!ports.has(used));
            drop(copies);
        }
    }

    #[test]
    fn a_port_that_is_taken_in_one_family_is_not_kept_in_the_other() {
        let ports = Ports::new(1).unwrap();
        let copies = ports.copies().unwrap();
        let taken = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!ports.is_free(port));
        assert!(matches!(ports.bind(port, 0), Err(PortError::Udp(UdpError::PortTaken(_)))));
        drop(taken);
        assert!(ports.is_free(port) && ports.is_free(0), "the data path has it");
        assert_eq!(ports.bind(port, 0).unwrap().port, port);
        drop(copies);
    }

    #[test]
    fn every_worker_has_a_socket_on_the_port_and_the_next_port_has_as_many() {
        let ports = Ports::new(3).unwrap();
        let copies = ports.copies().unwrap();
        let each = copies.len() / 3;
        assert_eq!(each, 2 * (PAIRS / 3));
        let mut before = None;
        for _ in 0..3 {
            let used = ports.bind(0, 0).unwrap();
            let place = usize::from(used.v4.unwrap());
            for worker in 0..3 {
                let copy = Socket::from_fd(copies[worker * each + place].try_clone().unwrap()).unwrap();
                assert_eq!(copy.port().unwrap(), used.port);
            }
            if let Some(before) = before.replace(used) {
                ports.close(before);
            }
        }
    }
}
