//! The local API's parsers: a caller's request in vpnd, vpnd's reply in vpnctl, and how a stream is cut into lines.

use proto::api::{Reply, Request, line};

/// A request line. What reads must read the same again after being written.
pub fn api_request(data: &[u8]) {
    if let Ok(request) = Request::parse(data) {
        let again = Request::parse(&line::encode(&request));
        assert!(again.is_ok_and(|again| again == request));
    }
}

/// A reply line. What reads must be readable after being written (its times may differ in their last bit).
pub fn api_reply(data: &[u8]) {
    if let Ok(reply) = serde_json::from_slice::<Reply>(data) {
        assert!(serde_json::from_slice::<Reply>(&line::encode(&reply)).is_ok());
    }
}

/// A stream of bytes that arrives in pieces (the first byte says how long): the lines do not depend on the pieces.
pub fn api_lines(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut lines = line::Lines::new(64);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut too_long = false;
    'stream: for chunk in stream.chunks(usize::from(*piece) + 1) {
        lines.push(chunk);
        loop {
            match lines.next_line() {
                Ok(Some(line)) => seen.push(line.to_vec()),
                Ok(None) => break,
                Err(line::TooLong) => {
                    too_long = true;
                    break 'stream;
                }
            }
        }
    }
    let mut whole: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let tail = whole.pop().unwrap_or_default();
    let fitting: Vec<&[u8]> = whole.iter().copied().take_while(|line| line.len() <= 64).collect();
    assert!(too_long == (fitting.len() < whole.len() || tail.len() > 64));
    assert!(seen == fitting);
}

#[cfg(test)]
mod tests {
    use super::{api_lines, api_reply, api_request};

    #[test]
    fn well_formed_and_broken_requests_and_replies() {
        let corpus: [&[u8]; 6] = [
            br#"{"v":1,"network":"home","cmd":{"status":{}}}"#,
            br#"{"v":1,"cmd":{"account_login":{"name":"a","password":"cGFzcw=="}}}"#,
            br#"{"v":1,"cmd":{"invite_create":{"uses":1,"expires_in":60,"groups":["a"]}}}"#,
            br#"{"event":{"pong":{"seq":1,"rtt_ms":0.5,"path":"direct","endpoint":"[fe80::1]:1"}}}"#,
            br#"{"ok":{"machines":[{"name":"a","ipv6":"::1","signer":true,"provisional":false,"this":true}]}}"#,
            br#"{"error":{"code":"x","what":"\u0000","why":"","next":""}}"#,
        ];
        for text in corpus {
            for cut in 0..=text.len() {
                api_request(&text[..cut]);
                api_reply(&text[..cut]);
            }
            for at in 0..text.len() {
                for bit in 0..8 {
                    let mut flipped = text.to_vec();
                    flipped[at] ^= 1 << bit;
                    api_request(&flipped);
                    api_reply(&flipped);
                }
            }
        }
    }

    #[test]
    fn lines_in_pieces_of_every_size() {
        let mut stream = vec![0];
        for length in [0, 1, 63, 64, 2, 0, 64, 65, 3] {
            stream.extend(std::iter::repeat_n(b'x', length));
            stream.push(b'\n');
        }
        for piece in 0..=255 {
            stream[0] = piece;
            for end in 0..=stream.len() {
                api_lines(&stream[..end]);
            }
        }
    }
}
