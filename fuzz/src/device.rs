//! What callers write to the socket of a plain WireGuard interface.

use proto::uapi::{MAX_LINE, Parser, Request, done};

/// Lines of one caller, one request after the other. `link` is a name that is known.
pub fn uapi_lines(data: &[u8]) {
    let mut parser = Parser::default();
    for line in data.split(|byte| *byte == b'\n') {
        let answer = parser.line(line, |name| (name == "eth0").then_some(2));
        assert!(line.is_empty() || answer.is_none(), "an answer comes with the end of a request");
        match answer {
            Some(Ok(Request::Set(set))) => {
                assert!(set.peers.iter().all(|peer| peer.endpoint.is_none_or(|at| at.0.port() != 0)));
            }
            Some(Err(errno)) => assert!(done(Err(errno)).starts_with("errno=-")),
            Some(Ok(Request::Get)) | None => {}
        }
        assert!(!line.is_empty() || !parser.is_inside());
        assert!(line.len() <= MAX_LINE || answer_is_refusal(&mut parser));
    }
}

/// After a line that is too long the request is refused, whatever else is in it.
fn answer_is_refusal(parser: &mut Parser) -> bool {
    matches!(parser.line(b"", |_| None), Some(Err(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Xorshift (Marsaglia, 2003): the same bytes at each run.
    fn next(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state as usize
    }

    #[test]
    fn requests_put_together_from_pieces() {
        const PIECES: [&str; 20] = [
            "set=1\n",
            "get=1\n",
            "\n",
            "private_key=",
            "public_key=",
            "preshared_key=",
            "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a\n",
            "listen_port=51820\n",
            "fwmark=",
            "replace_peers=true\n",
            "remove=true\n",
            "endpoint=[fe80::1%eth0]:9\n",
            "endpoint=192.0.2.1:0\n",
            "allowed_ip=-10.0.0.0/8\n",
            "allowed_ip=::/0\n",
            "replace_allowed_ips=true\n",
            "persistent_keepalive_interval=65536\n",
            "=",
            "\u{fe}",
            "99999999999999999999\n",
        ];
        let mut state = 5;
        for _ in 0..20_000 {
            let pieces = (0..next(&mut state) % 24).map(|_| PIECES[next(&mut state) % PIECES.len()]);
            uapi_lines(pieces.collect::<Vec<_>>().concat().as_bytes());
        }
        uapi_lines(&[b"set=1\n".as_slice(), &[b'a'; 2 * MAX_LINE], b"\nget=1\n\n"].concat());
    }
}
