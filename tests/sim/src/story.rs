//! A plan in words.

use std::fmt::Write as _;

use crate::plan::{Line, Place, Plan, What};

/// What happens in the simulation that bytes stand for: one line for each machine and each event.
#[must_use]
pub fn tell(bytes: &[u8]) -> String {
    let plan = Plan::read(bytes);
    let mut story = format!("{} machines, relays: {}\n", plan.hosts.len(), plan.relays);
    for (number, host) in plan.hosts.iter().enumerate() {
        let fixed = if host.fixed { ", named in the roster" } else { "" };
        let pool = if host.pool { ", many sockets" } else { "" };
        line(&mut story, &format!("machine {number}: {}{fixed}{pool}", place(host.place)));
    }
    for event in &plan.events {
        line(&mut story, &format!("after {:?}: {}", event.after, self::event(event.what)));
    }
    story
}

fn line(story: &mut String, text: &str) {
    let _ = writeln!(story, "{text}");
}

fn place(place: Place) -> String {
    let hairpin = if place.hairpin { ", hairpin" } else { "" };
    let v6 = if place.v6 { ", IPv6" } else { "" };
    let Place { site, life, range, .. } = place;
    format!("{site:?}, range {range}, mappings live {life:?}{hairpin}{v6}, line {}", way(place.line))
}

fn way(Line { delay, jitter, loss, .. }: Line) -> String {
    format!("{delay:?} + {jitter:?}, {}.{} % lost", loss / 100, loss % 100 / 10)
}

/// One event.
pub(crate) fn event(what: What) -> String {
    match what {
        What::Cut(a, b) => format!("{a} and {b} reach each other over relays alone"),
        What::CutRelay(host, relay) => format!("{host} reaches relay {relay} no more"),
        What::Offline(host) => format!("{host} reaches nobody"),
        What::Heal => "all lines and relays are there again".to_owned(),
        What::Roam(host, to) => format!("{host} roams: {}", place(to)),
        What::Return(host, time) => {
            format!("{host} reaches nobody for {time:?}, and is back then with another local address")
        }
        What::NewWan(host) => format!("the router of {host} has another public address"),
        What::Flush(host) => format!("the router of {host} forgets its mappings"),
        What::Sleep(host, time) => format!("{host} sleeps for {time:?}"),
        What::Restart(host) => format!("{host} starts anew"),
        What::RestartAll => "all machines start anew".to_owned(),
        What::RelayRestart(relay, times) => format!("relay {relay} starts anew, {times} times"),
        What::RelayDown(relay) => format!("relay {relay} is gone"),
        What::Quiet(time) => format!("nobody sends anything for {time:?}"),
        What::Epoch => "a new epoch".to_owned(),
        What::Remove(host) => format!("{host} is removed"),
        What::Clock(host, seconds) => format!("the clock of {host} is set by {seconds} s"),
        What::Size(host, mtu) => format!("the line of {host} carries {mtu} bytes, and says nothing"),
        What::Line(host, line) => format!("the line of {host} is now {}", way(line)),
    }
}
