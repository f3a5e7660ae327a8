use super::*;

const KEY: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";

/// What the lines of one request come to.
fn parse(text: &str) -> Result<Request, Errno> {
    let mut parser = Parser::default();
    let mut lines = text.split('\n');
    loop {
        let line = lines.next().unwrap();
        if let Some(request) = parser.line(line.as_bytes(), |name| (name == "eth0").then_some(3)) {
            return request;
        }
    }
}

fn set(text: &str) -> Result<Set, Errno> {
    match parse(&format!("set=1\n{text}\n\n"))? {
        Request::Set(set) => Ok(*set),
        Request::Get => panic!("that is no get"),
    }
}

fn peer(text: &str) -> Result<SetPeer, Errno> {
    Ok(set(&format!("public_key={KEY}\n{text}"))?.peers.pop().unwrap())
}

fn errno(result: Result<impl Sized, Errno>) -> Option<Errno> {
    result.err()
}

#[test]
fn every_key_of_the_protocol_is_understood() {
    let set = set(&format!(
        "private_key={KEY}\nlisten_port=51820\nfwmark=4294967295\nreplace_peers=true\n\
         public_key={KEY}\nremove=true\nupdate_only=true\npreshared_key={KEY}\nendpoint=[2001:db8::1]:51820\n\
         persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\nallowed_ip=-fd00::/8\n\
         allowed_ip=+0.0.0.0/0\nprotocol_version=1"
    ))
    .unwrap();
    let key = *key(KEY).unwrap();
    assert!(set.private_key.as_ref().is_some_and(|private| private.as_deref() == Some(&key)));
    assert_eq!((set.listen_port, set.fwmark, set.replace_peers), (Some(51_820), Some(u32::MAX), true));
    let [peer] = set.peers.as_slice() else { panic!("one peer was named") };
    assert!(peer.public_key == key && **peer.preshared_key.as_ref().unwrap() == key);
    assert!(peer.remove && peer.update_only && peer.replace_allowed_ips);
    assert!(peer.endpoint == Some(Endpoint("[2001:db8::1]:51820".parse().unwrap())));
    assert_eq!(peer.keepalive, Some(25));
    let ranges: Vec<_> = peer
        .allowed
        .iter()
        .map(|(net, add)| (format!("{}/{}", net.addr(), net.prefix_len()), *add))
        .collect();
    let expected = [("10.0.0.0/8", true), ("fd00::/8", false), ("0.0.0.0/0", true)];
    assert_eq!(ranges, expected.map(|(net, add)| (net.to_owned(), add)));
}

#[test]
fn a_key_of_zeros_takes_the_private_key_away() {
    assert!(set(&format!("private_key={}", "0".repeat(64))).unwrap().private_key == Some(None));
    assert!(set("listen_port=0").unwrap().private_key.is_none());
}

#[test]
fn endpoints_have_a_host_a_port_and_perhaps_a_link() {
    let at = |text: &str| peer(&format!("endpoint={text}")).map(|peer| peer.endpoint.unwrap().0);
    assert_eq!(at("192.0.2.1:1"), Ok("192.0.2.1:1".parse().unwrap()));
    assert_eq!(at("[fe80::1%eth0]:9"), Ok("[fe80::1%3]:9".parse().unwrap()));
    assert_eq!(at("[fe80::1%7]:9"), Ok("[fe80::1%7]:9".parse().unwrap()));
    assert_eq!(at("[::ffff:192.0.2.1]:9"), Ok("192.0.2.1:9".parse().unwrap()));
    for wrong in [
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:+1",
        "2001:db8::1:9",
        "[::]:9",
        "host:9",
        "[fe80::1%eth9]:9",
        "[192.0.2.1]:9",
        ":9",
        "",
    ] {
        assert_eq!(at(wrong), Err(INVALID), "{wrong}");
    }
}

#[test]
fn what_is_no_value_is_refused() {
    for wrong in [
        "private_key=12",
        "private_key=",
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=+5",
        "listen_port=",
        "fwmark=4294967296",
        "fwmark=0x1",
        "replace_peers=false",
        "replace_peers=1",
        "colour=blue",
        "preshared_key=00",
        "allowed_ip=10.0.0.0/8",
    ] {
        assert_eq!(errno(set(wrong)), Some(INVALID), "{wrong}");
    }
    for wrong in [
        "remove=false",
        "update_only=",
        "preshared_key=zz",
        "persistent_keepalive_interval=65536",
        "replace_allowed_ips=yes",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=::/129",
        "allowed_ip=/8",
        "allowed_ip=--10.0.0.0/8",
        "protocol_version=2",
        "listen_port=1",
        "endpoint=x",
    ] {
        assert_eq!(errno(peer(wrong)), Some(INVALID), "{wrong}");
    }
    assert_eq!(errno(set("no value")), Some(PROTOCOL));
    assert_eq!(errno(parse("get=1\nprivate_key=1\n\n")), Some(PROTOCOL));
    assert_eq!(errno(parse("put=1\n\n")), Some(INVALID));
    assert_eq!(errno(set(&format!("public_key={}", KEY.replace('e', "g")))), Some(INVALID));
}

#[test]
fn after_a_wrong_request_the_next_is_understood() {
    let mut parser = Parser::default();
    let mut answers = Vec::new();
    for line in "set=1\nlisten_port=x\nprivate_key=1\n\nget=1\n\n\nset=1\n\n".split('\n') {
        answers.extend(parser.line(line.as_bytes(), |_| None));
    }
    assert!(matches!(answers[..], [Err(INVALID), Ok(Request::Get), Ok(Request::Set(_))]));
    assert!(parser.line(b"", |_| None).is_none(), "nothing is left of it");
}

#[test]
fn what_is_too_long_or_too_much_is_refused() {
    let long = format!("set=1\nendpoint={}\n\n", "1".repeat(MAX_LINE));
    assert_eq!(errno(parse(&long)), Some(TOO_MUCH));
    let ranges = "allowed_ip=10.0.0.0/8\n".repeat(MAX_ALLOWED);
    assert!(peer(&ranges[..ranges.len() - 1]).is_ok());
    assert_eq!(errno(peer(&format!("{ranges}allowed_ip=10.0.0.0/8"))), Some(TOO_MUCH));
    let peers = format!("public_key={KEY}\n").repeat(MAX_PEERS + 1);
    assert_eq!(errno(set(&peers)), Some(TOO_MUCH));
    let mut parser = Parser::default();
    parser.line(b"set=1", |_| None);
    for _ in 0..=MAX_REQUEST / 8 {
        parser.line(b"fwmark=0", |_| None);
    }
    assert_eq!(errno(parser.line(b"", |_| None).unwrap()), Some(TOO_MUCH));
}

#[test]
fn ranges_before_their_replacement_do_not_count() {
    let peer = peer("allowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=11.0.0.0/8").unwrap();
    assert_eq!(peer.allowed.len(), 1);
}

#[test]
fn an_answer_has_every_key_once_and_ends_with_its_number() {
    let (secret, psk, public) = (Zeroizing::new([0xa1; 32]), Zeroizing::new([0; 32]), [0xb2; 32]);
    let shown = Shown {
        private_key: Some(&secret),
        listen_port: 51_820,
        fwmark: 7,
        peers: vec![ShownPeer {
            public_key: &public,
            preshared_key: &psk,
            endpoint: Some(Endpoint("[2001:db8::1]:9".parse().unwrap())),
            last_handshake: (12, 34),
            tx_bytes: 5,
            rx_bytes: 6,
            keepalive: 25,
            allowed: vec![range("10.0.0.0/8").unwrap(), range("fd00::1/128").unwrap()],
        }],
    };
    let expected = format!(
        "private_key={}\nlisten_port=51820\nfwmark=7\npublic_key={}\npreshared_key={}\nprotocol_version=1\n\
         endpoint=[2001:db8::1]:9\nlast_handshake_time_sec=12\nlast_handshake_time_nsec=34\ntx_bytes=5\nrx_bytes=6\n\
         persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::1/128\nerrno=0\n\n",
        "a1".repeat(32),
        "b2".repeat(32),
        "00".repeat(32),
    );
    assert_eq!(*shown.text(), expected);
    let nothing = Shown { private_key: None, listen_port: 0, fwmark: 0, peers: Vec::new() };
    assert_eq!(*nothing.text(), "errno=0\n\n");
    assert_eq!(done(Err(INVALID)), "errno=-22\n\n");
}
