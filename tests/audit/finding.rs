//! What was found where.

use serde_json::{Value, json};

use crate::{canary::Canary, house::COMPONENTS, search::Hit};

/// Who found it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detector {
    /// Memory of running processes.
    Memory,
    /// The same after a machine was removed.
    MemoryAfterRemoval,
    /// Memory of the servers after all machines were killed.
    MemoryAfterEnd,
    /// What the kernel shows of processes: threads' names, arguments, environment, open files.
    Processes,
    /// Where calls went.
    Writes,
    /// Files, folders and times that are others than before.
    Changes,
    /// Two lives that left different states.
    SameState,
    /// Contents and names of files.
    Files,
    /// The raw disk.
    Disk,
    /// Standard output and error.
    Output,
    /// What went to the journal.
    Journal,
    /// Core files.
    Cores,
    /// The kernel's log.
    KernelLog,
    /// The kernel's tables.
    KernelTables,
}

impl Detector {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 14] = [
        Self::Memory,
        Self::MemoryAfterRemoval,
        Self::MemoryAfterEnd,
        Self::Processes,
        Self::Writes,
        Self::Changes,
        Self::SameState,
        Self::Files,
        Self::Disk,
        Self::Output,
        Self::Journal,
        Self::Cores,
        Self::KernelLog,
        Self::KernelTables,
    ];

    /// For a reader.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryAfterRemoval => "memory after a removal",
            Self::MemoryAfterEnd => "servers' memory after the end",
            Self::Processes => "threads, arguments, environment, open files",
            Self::Writes => "calls by destination",
            Self::Changes => "changed files and times",
            Self::SameState => "two lives, one state",
            Self::Files => "files",
            Self::Disk => "raw disk, deleted pages too",
            Self::Output => "standard output and error",
            Self::Journal => "journal (/dev/log)",
            Self::Cores => "core files",
            Self::KernelLog => "kernel log",
            Self::KernelTables => "sockets in /proc/net",
        }
    }
}

/// One thing that is where it must not be.
#[derive(Clone)]
pub(crate) struct Finding {
    pub(crate) detector: Detector,
    /// The number of the component.
    pub(crate) component: usize,
    pub(crate) place: String,
    /// Kind and value of the canary and its form; nothing where the place says all.
    pub(crate) what: String,
    /// Kind of the canary and form, which is the same in every life.
    pub(crate) sort: String,
    /// The bytes around it, readable ones as they are.
    pub(crate) context: String,
}

/// The same canary in the same form at another offset is no other finding; with other bytes around it on a disk it is.
impl PartialEq for Finding {
    fn eq(&self, other: &Self) -> bool {
        let same =
            (self.detector, self.component, &self.what) == (other.detector, other.component, &other.what);
        same && match self.detector {
            Detector::Disk => self.context == other.context,
            _ => self.place == other.place,
        }
    }
}

impl Finding {
    /// Of a canary.
    pub(crate) fn of(
        detector: Detector,
        component: usize,
        place: &str,
        canaries: &[Canary],
        hit: &Hit,
    ) -> Self {
        let canary = &canaries[hit.canary];
        let machine =
            canary.machine.map(|machine| format!(" of machine {}", machine + 1)).unwrap_or_default();
        let sort = format!("{}{machine}, {}", canary.kind.text(), hit.form);
        Self {
            detector,
            component,
            place: place.to_owned(),
            what: format!("{}{machine}: {}, {}", canary.kind.text(), canary.value, hit.form),
            sort,
            context: readable(&hit.context),
        }
    }

    /// Of something that needs no canary.
    pub(crate) fn plain(detector: Detector, component: usize, place: &str) -> Self {
        Self {
            detector,
            component,
            place: place.to_owned(),
            what: String::new(),
            sort: String::new(),
            context: String::new(),
        }
    }

    /// Whether another life has the like: the same detector, of the same component, a canary of the same kind in the same
    /// form.
    pub(crate) fn again_in(&self, others: &[Self]) -> bool {
        others.iter().any(|other| {
            (self.detector, self.component, &self.sort) == (other.detector, other.component, &other.sort)
        })
    }

    /// The component's name.
    pub(crate) fn whose(&self) -> &'static str {
        COMPONENTS[self.component].0
    }

    /// For a reader.
    pub(crate) fn line(&self) -> String {
        let what = if self.what.is_empty() { String::new() } else { format!(" holds {}", self.what) };
        let context = if self.context.is_empty() { String::new() } else { format!("  [{}]", self.context) };
        format!("{}, {}: {}{what}{context}", self.detector.text(), self.whose(), self.place)
    }

    pub(crate) fn json(&self) -> Value {
        json!({"detector": self.detector.text(), "component": self.whose(), "place": self.place, "what": self.what})
    }
}

fn readable(bytes: &[u8]) -> String {
    let show = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte).to_string(),
        byte => format!("\\{byte:02x}"),
    };
    bytes.iter().map(show).collect()
}
