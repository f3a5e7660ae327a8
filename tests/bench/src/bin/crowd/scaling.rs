//! What workers carry on processors that are chosen: one arrangement of them, all three ways.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    flow,
    peers::{self, Crowd, Way},
    server::{Kind, Server},
};

/// One arrangement.
pub(crate) struct Plan {
    vpnd: PathBuf,
    peers: usize,
    seconds: Duration,
    kind: Kind,
    workers: u8,
    /// Of the processes that are measured, and of the crowd.
    processors: [Vec<usize>; 2],
}

impl Plan {
    /// From what the command line says after the seconds.
    pub(crate) fn new(vpnd: PathBuf, peers: usize, seconds: Duration, more: &[String]) -> Result<Self> {
        let [kind, workers, measured, crowd] = more else {
            bail!("crowd scaling VPND PEERS SECONDS device|mesh WORKERS PROCESSORS PROCESSORS");
        };
        let kind = match kind.as_str() {
            "device" => Kind::Device,
            "mesh" => Kind::Mesh,
            other => bail!("there is no {other}"),
        };
        let list = |text: &str| text.split(',').map(|number| Ok(number.parse()?)).collect::<Result<Vec<_>>>();
        let processors = [list(measured)?, list(crowd)?];
        let plan = Self { vpnd, peers, seconds, kind, workers: workers.parse()?, processors };
        if plan.peers < plan.threads() {
            bail!("there are fewer peers than threads of the crowd");
        }
        Ok(plan)
    }

    /// How many threads the crowd has: of processors that it shares every other one, otherwise all.
    fn threads(&self) -> usize {
        let [measured, crowd] = &self.processors;
        if measured == crowd { crowd.len().div_ceil(2) } else { crowd.len() }
    }
}

/// Measures it.
pub(crate) fn measure(plan: &Plan) -> Result<Value> {
    let [measured, crowd] = &plan.processors;
    // What is started from here stays there.
    stay_on(measured)?;
    let mut server = Server::start(plan.kind, &plan.vpnd, plan.workers)?;
    stay_on(crowd)?;
    let _sink = peers::sink()?;
    server.configure(plan.peers)?;
    let (threads, key) = (plan.threads(), server.public_key());
    // Each has peers of every worker.
    let each = plan.peers / threads;
    let crowds = (0..threads).map(|at| Crowd::new(plan.kind, key, at * each));
    let mut crowds = crowds.collect::<Result<Vec<_>>>()?;
    for crowd in &mut crowds {
        crowd.connect(each)?;
    }
    let mut report = json!({});
    // The last one's answers would be remembered still.
    for (way, name) in [(Way::In, "in"), (Way::Out, "out_unanswered"), (Way::Answered, "out")] {
        report[name] = flow(&mut server, &mut crowds, way, each, plan.seconds)?;
    }
    Ok(report)
}

/// Keeps this thread, and those that it will start, on these processors.
fn stay_on(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &processor in processors {
        set.set(processor)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("these processors are not to be had")
}
