//! What `wgbench.sh` measures, and what is asked of it.

/// One thing that is measured.
pub(super) struct Column {
    /// As wgbench.sh calls it.
    pub(super) metric: &'static str,
    pub(super) head: &'static str,
    decimals: usize,
}

impl Column {
    /// A value with as many decimals as say something.
    pub(super) fn show(&self, value: f64) -> String {
        format!("{value:.*}", self.decimals)
    }
}

/// In the order of the table.
pub(super) fn columns() -> [Column; 9] {
    let column = |metric, head, decimals| Column { metric, head, decimals };
    [
        column("tcp1", "TCP 1 Gbit/s", 2),
        column("tcp4", "TCP 4 Gbit/s", 2),
        column("tcpr", "TCP back Gbit/s", 2),
        column("udp", "UDP 64 B packets/s", 0),
        column("rtt", "RTT idle µs", 0),
        column("rttload", "RTT loaded µs", 0),
        column("cpugb", "CPU s/GB", 2),
        column("allgb", "machine s/GB", 2),
        column("rss", "RSS MiB", 1),
    ]
}

/// A ratio that must hold.
pub(super) struct Bound {
    pub(super) what: &'static str,
    pub(super) metric: &'static str,
    /// Whose.
    pub(super) of: &'static str,
    /// Divided by whose; by nobody's if empty.
    pub(super) beside: &'static str,
    pub(super) at_least: bool,
    /// With segments that cross the link together, and each by itself.
    pub(super) limit: [f64; 2],
}

const fn more(what: &'static str, metric: &'static str, limit: [f64; 2]) -> Bound {
    Bound { what, metric, of: "vpnd device", beside: "boringtun-cli", at_least: true, limit }
}

const fn less(what: &'static str, metric: &'static str, limit: [f64; 2]) -> Bound {
    Bound { what, metric, of: "vpnd device", beside: "boringtun-cli", at_least: false, limit }
}

/// What the fastest userspace implementation is to reach, beside boringtun-cli in the same rounds.
pub(super) const BOUNDS: [Bound; 12] = [
    more("TCP, one stream", "tcp1", [8.0, 5.0]),
    more("TCP, four streams", "tcp4", [8.0, 5.0]),
    more("TCP, one stream back", "tcpr", [8.0, 5.0]),
    less("CPU time for a gigabyte", "cpugb", [0.13, 0.24]),
    more("UDP, 64 bytes", "udp", [1.9, 2.0]),
    less("round trip, idle", "rtt", [1.1, 1.1]),
    less("round trip, loaded", "rttload", [1.0, 1.0]),
    Bound {
        what: "memory in MiB",
        metric: "rss",
        of: "vpnd device",
        beside: "",
        at_least: false,
        limit: [20.0, 20.0],
    },
    Bound {
        what: "TCP, one stream, a mesh beside a plain device",
        metric: "tcp1",
        of: "vpnd mesh",
        beside: "vpnd device",
        at_least: true,
        limit: [0.95, 0.95],
    },
    Bound {
        what: "UDP, 64 bytes, a mesh beside a plain device",
        metric: "udp",
        of: "vpnd mesh",
        beside: "vpnd device",
        at_least: true,
        limit: [0.95, 0.95],
    },
    Bound {
        what: "CPU time, a mesh beside a plain device",
        metric: "cpugb",
        of: "vpnd mesh",
        beside: "vpnd device",
        at_least: false,
        limit: [1.05, 1.05],
    },
    Bound {
        what: "TCP, one stream, a mesh beside boringtun-cli",
        metric: "tcp1",
        of: "vpnd mesh",
        beside: "boringtun-cli",
        at_least: true,
        limit: [8.0, 5.0],
    },
];
