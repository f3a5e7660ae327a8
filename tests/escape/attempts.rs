//! The list. An attempt is prepared before the walls stand (memory, addresses), and made behind them. All are everybody's, but for
//! those on descriptors that only one kind of process holds.

mod connections;
mod descriptors;
mod devices;
mod memory;
mod paths;
mod processes;
mod sockets;
mod state;

use crate::{kernel::Outcome, stage::Stage, walls::Kind};

/// The call itself.
pub(crate) type Call = Box<dyn FnOnce() -> Outcome>;

type Prepare = Box<dyn Fn(&Stage) -> Call>;

/// What happens where no wall stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Free {
    /// It works.
    Works,
    /// The kernel may refuse it by itself: it is made with arguments that do no harm, or needs what a host may lack.
    Perhaps,
}

pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) free: Free,
    /// It needs a path, and Landlock alone must refuse it.
    pub(crate) path: bool,
    pub(crate) prepare: Prepare,
}

pub(crate) fn attempts(kind: Kind) -> Vec<Attempt> {
    let mut all = List::new();
    paths::list(all.of("paths"));
    memory::list(all.of("memory"));
    sockets::list(all.of("sockets"));
    processes::list(all.of("processes and the system"));
    descriptors::list(all.of("descriptors"));
    match kind {
        Kind::Machine => devices::list(&mut all),
        Kind::Server => connections::list(&mut all),
    }
    state::list(all.of("what control keeps"));
    all.attempts
}

pub(crate) struct List {
    kind: &'static str,
    pub(crate) attempts: Vec<Attempt>,
}

impl List {
    pub(crate) fn new() -> Self {
        Self { kind: "", attempts: Vec::new() }
    }

    fn of(&mut self, kind: &'static str) -> &mut Self {
        self.kind = kind;
        self
    }

    fn add(&mut self, name: String, prepare: impl Fn(&Stage) -> Call + 'static) -> &mut Attempt {
        let (kind, prepare) = (self.kind, Box::new(prepare));
        self.attempts.push(Attempt { name, kind, free: Free::Works, path: false, prepare });
        self.attempts.last_mut().unwrap()
    }

    /// One that works without the walls.
    pub(crate) fn works<F>(&mut self, name: impl Into<String>, prepare: fn(&Stage) -> F)
    where
        F: FnOnce() -> Outcome + 'static,
    {
        self.add(name.into(), move |stage| Box::new(prepare(stage)));
    }

    /// The same, on a path.
    pub(crate) fn path<F>(&mut self, name: &str, prepare: fn(&Stage) -> F)
    where
        F: FnOnce() -> Outcome + 'static,
    {
        self.add(name.to_owned(), move |stage| Box::new(prepare(stage))).path = true;
    }

    /// One of a row, on a path; Landlock alone is tried where the path is sure to be there.
    pub(crate) fn at_path(&mut self, name: String, free: Free, prepare: impl Fn(&Stage) -> Call + 'static) {
        let attempt = self.add(name, prepare);
        (attempt.free, attempt.path) = (free, free == Free::Works);
    }

    /// One that the kernel may refuse anyway.
    pub(crate) fn perhaps<F>(&mut self, name: impl Into<String>, prepare: fn(&Stage) -> F)
    where
        F: FnOnce() -> Outcome + 'static,
    {
        self.add(name.into(), move |stage| Box::new(prepare(stage))).free = Free::Perhaps;
    }

    /// One of a row, with its number.
    pub(crate) fn numbered(&mut self, name: String, free: Free, prepare: impl Fn(&Stage) -> Call + 'static) {
        self.add(name, prepare).free = free;
    }
}
