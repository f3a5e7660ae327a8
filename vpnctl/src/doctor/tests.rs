//! Findings, and what they have to mean.

use proto::api::{
    Addresses, Checked, Clock, Damage, Family, Mapping, MappingState, Nat, NatKind, Netcheck, NetworkState,
    NetworkStatus, Own, Path, PortMapping, Portal, Server, ServerState, Udp, Warning,
};

use super::{Carried, Echo, Fault, Findings, Looked, Tunnel, Verdict, judge};

fn server(url: &str, state: ServerState) -> Server {
    Server { url: url.to_owned(), state, connect_ms: None, rtt_ms: None, udp: Vec::new() }
}

/// A relay whose STUN server was asked.
fn stun(server: Server, rtt_ms: Option<f64>) -> Server {
    Server { udp: vec![Udp { family: Family::Ipv4, rtt_ms }], ..server }
}

/// No relay's STUN server answers.
fn no_stun(findings: &mut Findings) {
    findings.around.udp = Some(false);
    for relay in &mut findings.around.networks[0].relays {
        relay.udp[0].rtt_ms = None;
    }
}

/// A coordinator and a relay on hosts of their own, one other machine that answers directly: all is well.
fn well() -> Findings {
    Findings {
        networks: vec![NetworkStatus {
            name: "home".to_owned(),
            roster_name: None,
            state: NetworkState::Up,
            generation: 1,
            version: 1,
            epoch: 1,
            machine: Own {
                name: "laptop".to_owned(),
                ipv4: Some([10, 88, 14, 7].into()),
                ipv6: "fd00::7".parse().unwrap(),
                signer: false,
            },
            peers: Vec::new(),
            warnings: Vec::new(),
            damage: None,
        }],
        around: Netcheck {
            udp: Some(true),
            nat: Nat {
                mapping: Mapping::EndpointIndependent,
                kind: Some(NatKind::Easy),
                port_kept: Some(true),
            },
            ipv4: Addresses { local: vec![[192, 168, 1, 10].into()], ..Addresses::default() },
            ipv6: Addresses::default(),
            port_mapping: PortMapping { state: MappingState::None, protocols: Vec::new() },
            captive_portal: Portal::None,
            proxy: None,
            clock: Some(Clock::Right),
            networks: vec![Checked {
                name: Some("home".to_owned()),
                mapped: None,
                coordinator: server("https://vpn.example", ServerState::Answers),
                relays: vec![stun(server("https://relay.example:8443", ServerState::Answers), Some(11.8))],
            }],
        },
        tunnels: vec![Tunnel {
            network: "home".to_owned(),
            ipv4: Some(true),
            ipv6: true,
            machines: vec![Looked {
                name: "nas".to_owned(),
                provisional: false,
                elsewhere: None,
                echo: Some(Echo { path: Path::Direct, endpoint: None }),
                carried: Some(Carried::Both),
            }],
        }],
        proxy_usual: false,
        one_machine: false,
    }
}

/// What is found once `break_it` has broken something: faults, then notes.
fn found(break_it: impl FnOnce(&mut Findings)) -> (Vec<Fault>, Vec<Fault>) {
    let mut findings = well();
    break_it(&mut findings);
    let verdicts = judge(&findings);
    for Verdict { what, next, .. } in &verdicts {
        assert!(!what.is_empty() && !next.is_empty() && !next.ends_with('\n'), "{what}: {next}");
    }
    let (notes, faults): (Vec<Verdict>, Vec<Verdict>) =
        verdicts.into_iter().partition(|verdict| verdict.note);
    (faults.iter().map(|v| v.fault).collect(), notes.iter().map(|v| v.fault).collect())
}

fn states(findings: &mut Findings, coordinator: ServerState, relay: ServerState) {
    findings.around.networks[0].coordinator.state = coordinator;
    findings.around.networks[0].relays[0].state = relay;
    if coordinator != ServerState::Answers && relay != ServerState::Answers {
        findings.around.captive_portal = Portal::Unknown;
        findings.around.clock = None;
    }
}

#[test]
fn where_all_is_well_nothing_is_said() {
    assert_eq!(found(|_| {}), (vec![], vec![]));
}

#[test]
fn what_keeps_all_servers_away_is_the_one_fault() {
    use ServerState as S;
    for (coordinator, relay, fault) in [
        (S::NameUnknown, S::NameUnknown, Fault::NamesUnknown),
        (S::ResolverSilent, S::ResolverSilent, Fault::ResolverSilent),
        (S::Unreachable, S::Unreachable, Fault::NothingAnswers),
        (S::Silent, S::Unreachable, Fault::NothingAnswers),
        (S::Silent, S::Silent, Fault::NothingAnswers),
        (S::Silent, S::TlsSilent, Fault::NothingAnswers),
        (S::NoRoute, S::NoRoute, Fault::Offline),
        (S::LargeLost, S::LargeLost, Fault::LargePacketsLost),
        (S::ProxyLogin, S::ProxyLogin, Fault::Warned(Warning::ProxyLogin)),
        (S::ProxyUnreachable, S::ProxyUnreachable, Fault::Warned(Warning::ProxyUnreachable)),
        (S::NotAProxy, S::NotAProxy, Fault::Warned(Warning::NotAProxy)),
        (S::ProxyFails, S::ProxyRefuses, Fault::Warned(Warning::ProxyRefuses)),
    ] {
        let (faults, notes) = found(|f| {
            states(f, coordinator, relay);
            f.networks[0].warnings = vec![Warning::CoordinatorUnreachable, Warning::RelayUnreachable];
            no_stun(f);
            f.tunnels[0].machines[0].echo = None;
            f.one_machine = true;
        });
        assert_eq!((faults, notes), (vec![fault], vec![]), "{coordinator:?} {relay:?}");
    }
}

#[test]
fn a_portal_is_named_before_the_servers_that_it_hides() {
    for portal in [Portal::Redirect, Portal::Certificate] {
        let (faults, _) = found(|f| {
            states(f, ServerState::Stranger, ServerState::Stranger);
            f.around.captive_portal = portal;
        });
        assert_eq!(faults, [Fault::CaptivePortal]);
    }
}

#[test]
fn one_server_that_is_away_is_named_by_what_keeps_it_away() {
    use ServerState as S;
    let wrong_pin = Fault::Warned(Warning::WrongPin);
    for (coordinator, relay, expected) in [
        (S::Refused, S::Answers, vec![Fault::CoordinatorDown]),
        (S::Silent, S::Answers, vec![Fault::CoordinatorSilent]),
        (S::Stranger, S::Answers, vec![wrong_pin]),
        (S::NameUnknown, S::Answers, vec![Fault::NamesUnknown]),
        (S::ResolverSilent, S::Answers, vec![Fault::ResolverSilent]),
        (S::Unreachable, S::Answers, vec![Fault::CoordinatorSilent]),
        (S::Answers, S::Refused, vec![Fault::RelaysSilent]),
        (S::Answers, S::Stranger, vec![Fault::RelaysSilent]),
        (S::Refused, S::Refused, vec![Fault::CoordinatorDown, Fault::RelaysSilent]),
    ] {
        let (faults, _) = found(|f| {
            states(f, coordinator, relay);
            no_stun(f);
            if coordinator != S::Answers {
                f.networks[0].warnings = vec![Warning::CoordinatorUnreachable];
            }
        });
        assert_eq!(faults, expected, "{coordinator:?} {relay:?}");
    }
    let (faults, notes) = found(|f| {
        f.around.networks[0].relays.push(server("https://other.example", S::Silent));
    });
    assert_eq!((faults, notes), (vec![], vec![Fault::OneRelaySilent]));
    // One host alone that is silent says nothing of the way there.
    let (faults, _) = found(|f| {
        states(f, S::Silent, S::Silent);
        no_stun(f);
        f.around.networks[0].relays[0].url = "https://vpn.example".to_owned();
    });
    assert_eq!(faults, [Fault::CoordinatorSilent, Fault::RelaysSilent]);
}

/// The first verdict once `break_it` has broken something.
fn first(break_it: impl FnOnce(&mut Findings)) -> Verdict {
    let mut findings = well();
    break_it(&mut findings);
    judge(&findings).into_iter().next().unwrap()
}

#[test]
fn servers_that_answer_over_udp_alone_are_there_and_a_firewall_is_in_between() {
    use ServerState as S;
    for state in [S::Silent, S::Refused, S::Unreachable, S::TlsSilent] {
        let (faults, notes) = found(|f| states(f, state, state));
        assert_eq!((faults, notes), (vec![Fault::TcpBlocked], vec![]), "{state:?}");
        // One host with both: it may be its own firewall.
        let one = first(|f| {
            states(f, state, state);
            f.around.networks[0].relays[0].url = "https://vpn.example".to_owned();
        });
        assert_eq!(one.fault, Fault::TcpBlocked);
        assert!(one.next.contains("from another network") && one.next.contains("operator"), "{}", one.next);
    }
    let relay = first(|f| states(f, S::Answers, S::Refused));
    assert_eq!(relay.fault, Fault::RelaysSilent);
    assert!(
        relay.next.contains("it answers over UDP") && !relay.next.contains("systemctl"),
        "{}",
        relay.next
    );
    let passing = first(|f| {
        states(f, S::Silent, S::Silent);
        no_stun(f);
        f.around.udp = Some(true);
    });
    assert_eq!(passing.fault, Fault::NothingAnswers);
    assert!(passing.what.contains("though UDP"), "not that nothing gets out: {}", passing.what);
}

#[test]
fn a_refusal_is_not_laid_on_the_operator_alone() {
    use ServerState as S;
    let both = |relay: ServerState| {
        let verdict = first(|f| {
            states(f, S::Refused, relay);
            if relay != S::Answers {
                no_stun(f);
            }
        });
        assert_eq!(verdict.fault, Fault::CoordinatorDown);
        assert!(
            verdict.what.contains("does not run") && verdict.what.contains("firewall"),
            "{}",
            verdict.what
        );
        verdict
    };
    let alone = both(S::Answers);
    assert!(!alone.next.contains("from another network"), "others answer from here: {}", alone.next);
    let all = both(S::Refused);
    assert!(all.next.contains("from another network") && all.next.contains("systemctl"), "{}", all.next);
    // Something said that it is forbidden: this machine has an address and a route all the same.
    let forbidden = first(|f| {
        states(f, S::Unreachable, S::Unreachable);
        no_stun(f);
    });
    assert!(
        forbidden.what.contains("on the way") && forbidden.next.contains("firewall"),
        "{}",
        forbidden.what
    );
}

#[test]
fn a_resolver_that_is_silent_is_not_the_domains_fault() {
    use ServerState as S;
    for relay in [S::Answers, S::ResolverSilent] {
        let verdict = first(|f| states(f, S::ResolverSilent, relay));
        assert_eq!(verdict.fault, Fault::ResolverSilent, "{relay:?}");
        assert!(
            verdict.next.contains("/etc/resolv.conf") && !verdict.next.contains("domain"),
            "{}",
            verdict.next
        );
    }
    // Named once, though a relay's name was asked for in vain too.
    let (faults, notes) = found(|f| {
        states(f, S::ResolverSilent, S::ResolverSilent);
        f.around.networks[0].relays.push(stun(server("https://192.0.2.1", S::Answers), Some(9.0)));
    });
    assert_eq!((faults, notes), (vec![Fault::ResolverSilent], vec![]));
}

#[test]
fn a_proxy_that_other_programs_use_is_advised() {
    let mut findings = well();
    states(&mut findings, ServerState::Silent, ServerState::Silent);
    findings.proxy_usual = true;
    assert!(judge(&findings)[0].next.contains("programs here use a proxy"));
    findings.around.proxy = Some("proxy.example:3128".to_owned());
    assert!(!judge(&findings)[0].next.contains("programs here use a proxy"));
}

#[test]
fn a_wrong_clock_comes_first_whoever_noticed() {
    let clock = Fault::Warned(Warning::ClockWrong);
    let noticed = found(|f| {
        f.around.clock = Some(Clock::Wrong);
        f.networks[0].state = NetworkState::Stale;
    });
    assert_eq!(noticed.0, [clock, Fault::State(NetworkState::Stale)]);
    assert_eq!(found(|f| f.networks[0].warnings = vec![Warning::ClockWrong]).0, [clock]);
}

#[test]
fn every_warning_and_state_is_a_fault_with_its_own_word_or_a_note() {
    for warning in [
        Warning::StateNotWritable,
        Warning::NoTun,
        Warning::InterfaceForbidden,
        Warning::PortTaken,
        Warning::InterfaceNameTaken,
        Warning::InterfaceFailed,
        Warning::InterfaceDown,
        Warning::DataPathDown,
        Warning::CoordinatorUntrusted,
        Warning::NetworkUnknown,
        Warning::ChangeRefused,
        Warning::InviteOverused,
        Warning::CoordinatorUnreachable,
        Warning::RelayUnreachable,
    ] {
        let (faults, _) = found(|f| f.networks[0].warnings = vec![warning]);
        assert_eq!(faults, [Fault::Warned(warning)]);
        assert_eq!(serde_json::to_value(faults[0]).unwrap(), serde_json::to_value(warning).unwrap());
    }
    assert_eq!(
        found(|f| f.networks[0].warnings = vec![Warning::Renamed]).1,
        [Fault::Warned(Warning::Renamed)]
    );
    for state in [NetworkState::Forked, NetworkState::Stale] {
        assert_eq!(found(|f| f.networks[0].state = state).0, [Fault::State(state)]);
    }
    // Of one that this machine is not in any more no server is missed.
    let removed = found(|f| {
        f.networks[0].state = NetworkState::Removed;
        states(f, ServerState::Refused, ServerState::Silent);
        f.tunnels.clear();
    });
    assert_eq!(removed, (vec![Fault::State(NetworkState::Removed)], vec![]));
    let damaged = found(|f| {
        f.networks[0].state = NetworkState::Damaged;
        f.networks[0].damage = Some(Damage { why: "a file".into(), next: "restore it".into() });
    });
    assert_eq!(damaged.0, [Fault::State(NetworkState::Damaged)]);
    let down = found(|f| {
        f.networks[0].state = NetworkState::Down;
        f.tunnels.clear();
    });
    assert_eq!(down, (vec![], vec![Fault::State(NetworkState::Down)]));
}

#[test]
fn in_no_network_that_is_the_fault_and_what_is_around_is_looked_at_all_the_same() {
    let none = |f: &mut Findings| {
        f.networks.clear();
        f.tunnels.clear();
        f.around.networks.clear();
    };
    assert_eq!(found(none).0, [Fault::NoNetwork]);
    let offline = found(|f| {
        none(f);
        f.around.ipv4.local.clear();
    });
    assert_eq!(offline.0, [Fault::NoNetwork, Fault::Offline]);
}

#[test]
fn what_other_programs_do_to_the_tunnel_is_told_apart() {
    let machine = |change: fn(&mut Looked)| found(move |f| change(&mut f.tunnels[0].machines[0]));
    assert_eq!(machine(|m| m.carried = Some(Carried::NotSent)).0, [Fault::FirewallOut]);
    assert_eq!(machine(|m| m.carried = Some(Carried::NotTaken)).0, [Fault::FirewallIn]);
    assert_eq!(machine(|m| m.carried = Some(Carried::NoAnswer)), (vec![], vec![Fault::FirewallThere]));
    let elsewhere = machine(|m| {
        m.elsewhere = Some([10, 88, 14, 2].into());
        m.carried = None;
    });
    assert_eq!(elsewhere.0, [Fault::RouteTaken]);
    assert_eq!(found(|f| f.tunnels[0].ipv6 = false).0, [Fault::Ipv6Off]);
    assert_eq!(found(|f| f.tunnels[0].ipv4 = Some(false)).0, [Fault::AddressMissing]);
}

#[test]
fn an_interface_that_was_switched_off_explains_what_does_not_pass_by_it() {
    let off = found(|f| {
        f.networks[0].warnings = vec![Warning::InterfaceDown];
        f.one_machine = true;
        f.tunnels[0].ipv6 = false;
        f.tunnels[0].machines[0].elsewhere = Some([10, 88, 14, 2].into());
        f.tunnels[0].machines[0].echo = None;
    });
    assert_eq!(off, (vec![Fault::Warned(Warning::InterfaceDown)], vec![]));
}

#[test]
fn a_machine_that_is_off_is_a_fault_only_where_it_was_asked_about() {
    let off = |one_machine: bool| {
        found(move |f| {
            f.one_machine = one_machine;
            f.tunnels[0].machines[0].echo = None;
            f.tunnels[0].machines[0].carried = None;
        })
    };
    assert_eq!(off(false), (vec![], vec![]));
    assert_eq!(off(true).0, [Fault::MachineSilent]);
    let there = found(|f| {
        f.one_machine = true;
        f.tunnels[0].machines[0].carried = Some(Carried::NoAnswer);
    });
    assert_eq!(there.0, [Fault::FirewallThere]);
}

#[test]
fn why_a_path_is_not_direct_is_said_by_what_is_known_of_this_side() {
    let why = |change: fn(&mut Findings)| {
        let mut findings = well();
        findings.one_machine = true;
        findings.tunnels[0].machines[0].echo = Some(Echo { path: Path::Relay, endpoint: None });
        change(&mut findings);
        let verdicts = judge(&findings);
        verdicts.into_iter().find(|verdict| verdict.fault == Fault::RelayOnly).unwrap().what
    };
    assert!(why(no_stun).contains("UDP is blocked here"));
    let unseen = why(|f| {
        no_stun(f);
        f.around.udp = Some(true);
    });
    assert!(unseen.contains("STUN") && !unseen.contains("blocked"), "{unseen}");
    assert!(why(|f| f.around.nat.kind = Some(NatKind::Hard)).contains("the NAT here is a hard one"));
    assert!(why(|_| {}).contains("UDP is blocked at nas"));
}

#[test]
fn what_only_makes_paths_longer_is_a_note() {
    assert_eq!(found(no_stun), (vec![], vec![Fault::UdpBlocked]));
    assert_eq!(found(|f| f.around.nat.kind = Some(NatKind::Hard)), (vec![], vec![Fault::HardNat]));
    let mapped = found(|f| {
        f.around.nat.kind = Some(NatKind::Hard);
        f.around.networks[0].mapped = Some("203.0.113.7:51820".parse().unwrap());
    });
    assert_eq!(mapped, (vec![], vec![]), "a port of the router makes up for it");
}

#[test]
fn what_a_direct_path_proves_is_heeded() {
    let proven = found(|f| {
        no_stun(f);
        f.around.udp = Some(true);
    });
    assert_eq!(proven, (vec![], vec![Fault::StunSilent]));
    // Seen from here, after vpnd was asked.
    let at = |endpoint: &'static str| {
        found(move |f| {
            no_stun(f);
            f.tunnels[0].machines[0].echo =
                Some(Echo { path: Path::Direct, endpoint: Some(endpoint.parse().unwrap()) });
        })
    };
    assert_eq!(at("203.0.113.9:51820"), (vec![], vec![Fault::StunSilent]));
    assert_eq!(at("192.168.1.11:51820"), (vec![], vec![Fault::UdpBlocked]), "on one LAN");
    let note = first(|f| {
        no_stun(f);
        f.around.udp = Some(true);
    });
    assert!(note.what.contains("STUN") && note.next.contains("3478"), "{}: {}", note.what, note.next);
}

#[test]
fn that_dead_relays_answer_no_stun_either_is_no_second_fault() {
    let dead = found(|f| {
        states(f, ServerState::Answers, ServerState::Silent);
        no_stun(f);
    });
    assert_eq!(dead, (vec![Fault::RelaysSilent], vec![]));
    // Of one that is dead and one that is there, the second speaks.
    let one = found(|f| {
        states(f, ServerState::Answers, ServerState::Silent);
        f.around.networks[0].relays.push(stun(server("https://other.example", ServerState::Answers), None));
        no_stun(f);
    });
    assert_eq!(one, (vec![], vec![Fault::OneRelaySilent, Fault::UdpBlocked]));
}
