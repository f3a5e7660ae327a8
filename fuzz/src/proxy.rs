//! What an HTTP proxy answers, and the file with what it is shown.

use proto::proxy::{Credentials, HEAD_MAX, read_answer, request};

/// An answer, as it comes in pieces: what is certain of the beginning holds for the whole.
pub fn proxy_answer(data: &[u8]) {
    let whole = read_answer(data);
    if let Ok(Some((_, len))) = whole {
        assert!(len <= data.len() && len <= HEAD_MAX);
        assert!(read_answer(&data[..len]) == whole);
        assert!(read_answer(&data[..len - 1]) == Ok(None));
    }
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        match read_answer(&data[..cut]) {
            Ok(None) => {}
            early => assert!(early == whole),
        }
    }
    if let Ok(credentials) = Credentials::parse(data) {
        // Whatever the file holds, it is one field of one request.
        let asked = request("vpn.example", 443, Some(&credentials));
        assert!(asked.ends_with(b"\r\n\r\n"));
        assert!(asked.iter().filter(|byte| **byte == b'\n').count() == 4);
    }
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
    fn real_answers_cut_put_together_and_changed() {
        const PIECES: [&[u8]; 12] = [
            b"HTTP/1.1 200 Connection established\r\n",
            b"HTTP/1.0 407 Proxy Authentication Required\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 5",
            b"03",
            b"Proxy-Authenticate: Negotiate, Basic realm=\"a, b\"\r\n",
            b"proxy-authenticate:",
            b": ",
            b"\r\n",
            b"\n",
            b"user:password",
            b"\x16\x03\x01",
        ];
        let mut state = 7;
        for _ in 0..50_000 {
            let mut data = Vec::new();
            for _ in 0..next(&mut state) % 6 {
                data.extend_from_slice(PIECES[next(&mut state) % PIECES.len()]);
            }
            if !data.is_empty() && next(&mut state).is_multiple_of(2) {
                let at = next(&mut state) % data.len();
                data[at] = next(&mut state) as u8;
            }
            proxy_answer(&data);
        }
    }
}
