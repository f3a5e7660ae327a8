//! The loop, once or several times.
//!
//! One is right for one or two cores: it takes no lock, and shares nothing. With more, each has a queue of the device, sockets and
//! a share of the peers, on a thread of its own behind a filter of its own; what is in the wrong place is handed over
//! ([`super::post`], [`super::shard`]). Where one ends, all end: control starts them anew together.

use std::{
    io,
    os::fd::RawFd,
    sync::{Arc, Barrier},
    thread,
};

use mesh::Share;
use netio::{epoll::Epoll, tun::Tun, udp::Socket};
use sandbox::Missing;

use super::{
    DataPathError,
    control::{Inlet, Outlet},
    engine::{Engine, Shared},
    event_loop::{Desk, Ends, EventLoop},
    lockdown::{self, Held},
    post::Post,
    shard::Shard,
};

/// What one worker has.
pub(super) struct Place {
    pub(super) tun: Tun,
    pub(super) sockets: Vec<Socket>,
    /// How many of them have a port from the beginning.
    pub(super) bound: usize,
    pub(super) epoll: Epoll,
    pub(super) held: Held,
}

/// The two pipes.
pub(super) struct Pipes {
    pub(super) inlet: Inlet,
    pub(super) outlet: Outlet,
    pub(super) numbers: (RawFd, RawFd),
}

/// Runs a core in each place until control closes a pipe or the interface is deleted, and ends the process. It returns only
/// where the walls could not be put up.
pub(super) fn run<E: Shared + Send + 'static>(
    places: Vec<Place>,
    pipes: Pipes,
    missing: Missing,
    core: impl Fn(&Place, Share) -> E,
) -> Result<(), DataPathError> {
    match <[Place; 1]>::try_from(places) {
        Ok([place]) => one(place, pipes, missing, core),
        Err(places) => several(places, pipes, missing, core),
    }
}

fn one<E: Engine>(
    mut place: Place,
    Pipes { inlet, outlet, numbers: (rx, tx) }: Pipes,
    missing: Missing,
    core: impl Fn(&Place, Share) -> E,
) -> Result<(), DataPathError> {
    (place.held.rx, place.held.tx) = (Some(rx), Some(tx));
    let (held, core) = (place.held.clone(), core(&place, Share::whole()));
    let event_loop = place.event_loop(core, Ends { inlet: Some(inlet), outlet, desk: None })?;
    if !open() {
        lockdown::lockdown(&held, missing)?;
    }
    lockdown::end(&event_loop.run())
}

fn several<E: Shared + Send + 'static>(
    mut places: Vec<Place>,
    Pipes { inlet, outlet, numbers: (rx, tx) }: Pipes,
    missing: Missing,
    core: impl Fn(&Place, Share) -> E,
) -> Result<(), DataPathError> {
    let workers = u8::try_from(places.len()).map_err(io::Error::other)?;
    let post = Arc::new(Post::new(places.len())?);
    let bells = post.bells();
    for (me, place) in places.iter_mut().enumerate() {
        place.held.bells = bells.clone();
        place.held.bells.swap(0, me);
    }
    let first = places.first_mut().ok_or_else(nobody)?;
    (first.held.rx, first.held.tx) = (Some(rx), Some(tx));
    let held: Vec<Held> = places.iter().map(|place| place.held.clone()).collect();

    let mut pipes = Some((inlet, outlet));
    let loops = (0..workers).zip(places).map(|(me, place)| {
        let shard = Shard::new(core(&place, Share::new(me, workers)), Arc::clone(&post));
        let (inlet, outlet) = match pipes.take() {
            Some((inlet, outlet)) => (Some(inlet), outlet),
            None => (None, Outlet::post(Arc::clone(&post))),
        };
        let desk = Some(Desk::new(Arc::clone(&post), me));
        place.event_loop(shard, Ends { inlet, outlet, desk })
    });
    let mut loops = loops.collect::<Result<Vec<_>, DataPathError>>()?.into_iter().zip(held.clone());
    let (first, first_held) = loops.next().ok_or_else(nobody)?;

    if !open() {
        lockdown::prepare(&held, missing)?;
    }
    // No packet is taken, nor said that one could be, before every thread is behind its filter.
    let confined = Arc::new(Barrier::new(held.len()));
    let behind_filter = move |held: &Held, confined: &Barrier| {
        if !open() {
            missing.tolerate(lockdown::close_calls(held))?;
        }
        confined.wait();
        Ok::<(), DataPathError>(())
    };
    for (event_loop, held) in loops {
        let confined = Arc::clone(&confined);
        thread::Builder::new().spawn(move || {
            // However it ends, nobody else goes on.
            lockdown::end(&behind_filter(&held, &confined).and_then(|()| event_loop.run()))
        })?;
    }
    lockdown::end(&behind_filter(&first_held, &confined).and_then(|()| first.run()))
}

impl Place {
    fn event_loop<E: Engine>(self, core: E, ends: Ends) -> Result<EventLoop<E>, DataPathError> {
        EventLoop::new(self.epoll, self.tun, self.sockets, core, ends)
    }
}

/// Whether a test asked for a process without walls.
fn open() -> bool {
    #[cfg(feature = "leaks")]
    return crate::leaks::chosen("no-walls");
    #[cfg(not(feature = "leaks"))]
    false
}

fn nobody() -> DataPathError {
    io::Error::from(io::ErrorKind::InvalidInput).into()
}
