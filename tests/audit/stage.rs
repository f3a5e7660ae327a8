//! One life from its beginning to its end, and everything that is looked for in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use nix::sys::signal::Signal;
use tests::{Result, Trouble, wait};

use crate::{
    canary::{Canary, Kind},
    disk::{Disk, Snapshot},
    finding::{Detector, Finding},
    house::{self, COMPONENTS, COORDINATOR, FIRST, House, Outfit, PATIENCE, RELAY},
    kernel,
    kernel_log::Log,
    life, memory,
    plan::{CLOUD, FLAT, HOME, Member, Plan},
    rules::{self, When},
    search::{Hit, Searcher},
    writes::{self, Destination, Table},
};

/// What came of a life.
#[derive(Default)]
pub(crate) struct Evidence {
    /// What is where it must not be.
    pub(crate) findings: Vec<Finding>,
    /// Matches of so few bytes that they may be chance.
    pub(crate) chance: Vec<Finding>,
    /// What the kernel holds that is no finding: kinds of canaries by component and table.
    pub(crate) reported: BTreeMap<(usize, String), BTreeSet<Kind>>,
    /// Calls by destination, for each component.
    pub(crate) writes: Vec<Table>,
    /// Bytes written to state directories before, during, and after ordinary life.
    pub(crate) state_bytes: [u64; 3],
    /// Canaries that were seen where they have to be.
    pub(crate) controls: usize,
    /// What each component keeps after ordinary life.
    pub(crate) states: Vec<Snapshot>,
    /// How the kernel ended processes of ours that did what they must not.
    pub(crate) stopped: Vec<String>,
    /// What could not be looked at.
    pub(crate) blind: Vec<String>,
}

/// How a life is lived.
pub(crate) struct Way<'a> {
    pub(crate) plan: &'a Plan,
    /// Where machines stood before, and what is so too.
    pub(crate) earlier: &'a Plan,
    pub(crate) members: &'a [Member],
    pub(crate) outfit: &'a Outfit<'a>,
    /// Whether the last machine is removed from the network at the end.
    pub(crate) removal: bool,
    /// How everything ends: killed, or crashed, which may leave core files.
    pub(crate) end: Signal,
    /// A leak that a data path behind its walls tries at the end.
    pub(crate) walled: Option<&'a str>,
}

/// A life in progress.
struct Stage {
    canaries: Vec<Canary>,
    searcher: Searcher,
    evidence: Evidence,
    house: House,
}

/// The first life: the network is made, everybody joins, all are killed.
///
/// # Errors
/// What went wrong.
pub(crate) fn found(
    work: &Path,
    disks: &[Disk],
    plan: &Plan,
    outfit: &Outfit<'_>,
) -> Result<(Vec<Member>, Evidence)> {
    let log = Log::now().ok();
    let house = open(work, disks, plan, outfit)?;
    let members = life::join(&house)?;
    let canaries = plan.canaries(&members);
    let searcher = Searcher::new(&canaries);
    let mut stage = Stage { canaries, searcher, evidence: Evidence::default(), house };
    stage.shown()?;
    stage.house.end_machines(Signal::SIGKILL)?;
    stage.house.end_servers(Signal::SIGKILL)?;
    stage.logged(log)?;
    // All of it is a change of the roster.
    stage.calls(0.0, 0.0)?;
    stage.said();
    stage.files()?;
    stage.house.close()?;
    Ok((members, stage.evidence))
}

/// Lives a life on these disks and looks everywhere. The disks are unmounted after it.
///
/// # Errors
/// What went wrong: that is no finding, but nothing can be said.
pub(crate) fn live(work: &Path, disks: &[Disk], way: &Way<'_>) -> Result<Evidence> {
    let mut canaries = way.plan.canaries(way.members);
    canaries.extend(way.earlier.canaries(&[]));
    let searcher = Searcher::new(&canaries);
    let log = Log::now().ok();
    let house = open(work, disks, way.plan, way.outfit)?;
    let mut stage = Stage { canaries, searcher, evidence: Evidence::default(), house };

    life::wake(&stage.house)?;
    let before = stage.snapshots()?;
    let began = house::now();
    life::live(&stage.house, way.plan)?;
    let ended = house::now();
    stage.evidence.states = stage.snapshots()?;
    stage.unchanged(&before);
    stage.memory(0..COMPONENTS.len(), When::Live, Detector::Memory)?;
    stage.shown()?;
    stage.tables()?;

    if way.removal {
        stage.remove()?;
        stage.memory(FIRST + CLOUD..FIRST + FLAT, When::Removed(FLAT), Detector::MemoryAfterRemoval)?;
    }
    if let Some(leak) = way.walled {
        stage.try_walls(leak)?;
    }
    stage.house.end_machines(way.end)?;
    stage.forgotten_connections()?;
    stage.memory(COORDINATOR..RELAY + 1, When::Ended, Detector::MemoryAfterEnd)?;
    stage.house.end_servers(way.end)?;

    stage.tables()?;
    stage.logged(log)?;
    stage.calls(began, ended)?;
    stage.said();
    stage.files()?;
    let Stage { canaries, searcher, mut evidence, house, .. } = stage;
    house.close()?;
    for (number, disk) in disks.iter().enumerate() {
        for hit in disk.scan(&searcher)? {
            if !rules::on_disk(number, &canaries[hit.canary]) {
                let place = format!("byte {} of the disk", hit.offset);
                note(&mut evidence, Finding::of(Detector::Disk, number, &place, &canaries, &hit), &hit);
            }
        }
    }
    Ok(evidence)
}

fn open(work: &Path, disks: &[Disk], plan: &Plan, outfit: &Outfit<'_>) -> Result<House> {
    let topology = work.join("topology.json");
    fs::write(&topology, plan.topology())?;
    House::open(&topology, disks, outfit)
}

fn note(evidence: &mut Evidence, finding: Finding, hit: &Hit) {
    let list = if hit.weight.chance() { &mut evidence.chance } else { &mut evidence.findings };
    if !list.contains(&finding) {
        list.push(finding);
    }
}

impl Stage {
    fn add(&mut self, detector: Detector, component: usize, place: &str, hit: &Hit) {
        note(&mut self.evidence, Finding::of(detector, component, place, &self.canaries, hit), hit);
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>> {
        (0..COMPONENTS.len()).map(|component| self.house.snapshot(component)).collect()
    }

    /// No file of any component is another than before.
    fn unchanged(&mut self, before: &[Snapshot]) {
        for (component, (before, after)) in before.iter().zip(&self.evidence.states).enumerate() {
            for change in before.changes(after) {
                self.evidence.findings.push(Finding::plain(Detector::Changes, component, &change));
            }
        }
    }

    /// Looks through the memory of some components' processes.
    fn memory(
        &mut self,
        components: impl IntoIterator<Item = usize>,
        when: When,
        detector: Detector,
    ) -> Result<()> {
        for component in components {
            for (process, pid) in self.house.processes(component)? {
                let hits = memory::scan(pid, &self.searcher)?;
                for (region, hit) in &hits {
                    let canary = &self.canaries[hit.canary];
                    if !rules::in_memory(component, process, when, canary) {
                        self.add(detector, component, &format!("{process}, {region}"), hit);
                    }
                }
                if when == When::Live {
                    self.control(component, process, &hits)?;
                }
            }
        }
        Ok(())
    }

    /// What has to be there was found: so what is not found is not there.
    fn control(&mut self, component: usize, process: &str, hits: &[(String, Hit)]) -> Result<()> {
        for (number, canary) in self.canaries.iter().enumerate() {
            if !rules::must_be_in_memory(component, process, canary) {
                continue;
            }
            if !hits.iter().any(|(_, hit)| hit.canary == number) {
                return Err(Trouble::new(format!(
                    "{} of {} must hold the {} {} and it was not found: the search of memory proves nothing",
                    process,
                    COMPONENTS[component].0,
                    canary.kind.text(),
                    canary.value
                )));
            }
            self.evidence.controls += 1;
        }
        Ok(())
    }

    /// What anybody on the host sees of the processes.
    fn shown(&mut self) -> Result<()> {
        for component in 0..COMPONENTS.len() {
            for (process, pid) in self.house.processes(component)? {
                for (place, hit) in memory::shown(pid, &self.searcher)? {
                    self.add(Detector::Processes, component, &format!("{process}: {place}"), &hit);
                }
            }
        }
        Ok(())
    }

    /// What the kernel's tables say, on every host.
    fn tables(&mut self) -> Result<()> {
        for component in 0..COMPONENTS.len() {
            for table in kernel::tables(&self.house.hosts[component], &self.searcher)? {
                for hit in table.hits {
                    let canary = &self.canaries[hit.canary];
                    if rules::of_ours(component, &table.name, canary) {
                        self.add(Detector::KernelTables, component, &table.name, &hit);
                    } else if !hit.weight.chance() {
                        let row = self.evidence.reported.entry((component, table.name.clone()));
                        row.or_default().insert(canary.kind);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the kernel's log gained. Where it cannot be read, the report says so.
    fn logged(&mut self, log: Option<Log>) -> Result<()> {
        let Some(log) = log else { return Ok(()) };
        let heard = log.since(&self.searcher)?;
        for hit in heard.hits {
            self.add(Detector::KernelLog, 0, "dmesg", &hit);
        }
        if heard.lost {
            self.evidence.blind.push("the kernel's log: it lost what it said first in a life".to_owned());
        }
        Ok(())
    }

    /// The first machine removes the last.
    fn remove(&mut self) -> Result<()> {
        let [first, others @ .., last] = self.house.nodes.as_slice() else { return Ok(()) };
        first.ask(&["machines", "remove", last.name(), "--yes"])?;
        for node in others.iter().chain([first]) {
            wait::until("the removed machine is gone", PATIENCE, || node.peer(last.name()).is_err())?;
        }
        // The data path is told after control knows.
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok(())
    }

    /// One machine has its walls again, and leaks as well.
    fn try_walls(&mut self, leak: &str) -> Result<()> {
        self.house.leak(HOME, leak)?;
        let address = self.house.nodes[CLOUD].address("ipv4")?;
        let (house, node) = (&self.house, &self.house.nodes[HOME]);
        // Whether it was stopped is told by the record; here it has its chance.
        let _ = wait::until("the kernel ends a data path that leaks", PATIENCE, || {
            let _ = node.pings(&address);
            house.ended_by_the_kernel(FIRST + HOME).is_ok_and(|ended| !ended.is_empty())
        });
        Ok(())
    }

    /// Ends what is left of connections at the servers: a machine that moved could not say goodbye from where it was.
    /// The servers would notice within two minutes; where the kernel can, it tells them now.
    fn forgotten_connections(&self) -> Result<()> {
        for server in [COORDINATOR, RELAY] {
            let host = &self.house.hosts[server];
            wait::until("the servers know that all connections ended", PATIENCE * 4, || {
                let _ = host.output("ss", &["-K", "state", "established", "state", "close-wait"]);
                host.run("ss", &["-Htn", "state", "established", "state", "close-wait"])
                    .is_ok_and(|open| open.is_empty())
            })?;
        }
        Ok(())
    }

    /// Where every call went.
    fn calls(&mut self, began: f64, ended: f64) -> Result<()> {
        for (component, (whose, _)) in COMPONENTS.iter().enumerate() {
            let calls = self.house.calls(component)?;
            let mut table = Table::new();
            writes::count(&mut table, &calls);
            for call in &calls {
                let (living, removing) = (call.at >= began && call.at < ended, call.at >= ended);
                // When it starts, a program opens its files; it has nothing to write.
                let written = living || (!removing && call.bytes > 0);
                match &call.to {
                    Destination::Elsewhere(place) => {
                        let what = format!("{} to {place}", call.name);
                        self.evidence.findings.push(Finding::plain(Detector::Writes, component, &what));
                    }
                    Destination::State(path) => {
                        let phase = usize::from(living) + 2 * usize::from(removing);
                        self.evidence.state_bytes[phase] += call.bytes;
                        if written {
                            let what = format!("{} to {path} while the roster was the same", call.name);
                            self.evidence.findings.push(Finding::plain(Detector::Writes, component, &what));
                        }
                    }
                    _ => {}
                }
            }
            self.evidence.writes.push(table);
            self.evidence.stopped.extend(
                self.house.ended_by_the_kernel(component)?.into_iter().map(|how| format!("{whose}: {how}")),
            );
        }
        Ok(())
    }

    /// What was printed, and what went to the journal.
    fn said(&mut self) {
        for component in 0..COMPONENTS.len() {
            for (detector, text) in [
                (Detector::Output, self.house.printed(component)),
                (Detector::Journal, self.house.journal(component)),
            ] {
                for hit in self.searcher.bytes(&text) {
                    self.add(detector, component, detector.text(), &hit);
                }
            }
            let journal = self.house.journal(component);
            if !journal.is_empty() {
                let what = format!("{} bytes went to /dev/log", journal.len());
                self.evidence.findings.push(Finding::plain(Detector::Journal, component, &what));
            }
        }
    }

    /// Names and contents of files, and cores.
    fn files(&mut self) -> Result<()> {
        for component in 0..COMPONENTS.len() {
            let snapshot = self.house.snapshot(component)?;
            for (path, content) in snapshot.contents() {
                let place = format!("/{}", path.display());
                let named = self.searcher.bytes(place.as_bytes());
                for hit in self.searcher.bytes(content).iter().chain(&named) {
                    if !rules::on_disk(component, &self.canaries[hit.canary]) {
                        self.add(Detector::Files, component, &place, hit);
                    }
                }
            }
            for core in kernel::cores(&self.house.hosts[component].folder().join("disk")) {
                let place = core.rsplit('/').next().unwrap_or("core").to_owned();
                self.evidence.findings.push(Finding::plain(Detector::Cores, component, &place));
            }
        }
        Ok(())
    }
}
