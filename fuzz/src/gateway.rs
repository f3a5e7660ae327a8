//! What a router answers, or whoever on the LAN pretends to be it.

use std::net::Ipv4Addr;

use proto::gateway::{
    natpmp,
    pcp::{Answer, Ask},
    upnp,
};

const ASK: Ask = Ask {
    nonce: *b"twelve bytes",
    client: Ipv4Addr::new(192, 168, 1, 10),
    internal: 51_820,
    suggested: (Ipv4Addr::UNSPECIFIED, 51_820),
    lifetime: 1_200,
};

/// A datagram from the router's port for mappings.
pub fn gateway_datagram(data: &[u8]) {
    if let Some(Answer::Granted(granted)) = ASK.read(data) {
        // What is granted was asked for in exactly this way.
        assert!(data.len() >= 60 && data[24..36] == ASK.nonce && granted.external.0.is_ipv4());
    }
    let _ = natpmp::read(data);
}

/// What a router says of itself by UPnP: an answer to a search, a description, the answer to an action.
pub fn gateway_text(data: &[u8]) {
    if let Some(url) = upnp::location(data) {
        assert!(!url.contains(['\r', '\n']));
    }
    let text = String::from_utf8_lossy(data);
    for service in upnp::services(&text) {
        // It becomes part of a header and of a text, which it must not end.
        let action = service.soap_action("GetExternalIPAddress");
        assert!(action.bytes().all(|byte| byte.is_ascii_graphic()) && action.matches('"').count() == 2);
        assert!(service.ask_address().matches('<').count() == 8);
    }
    let _ = (upnp::address(&text), upnp::error(&text));
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
    fn real_datagrams_cut_and_changed() {
        let mut granted = ASK.request();
        (granted[1], granted[3]) = (0x81, 0);
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 0xca, 0x6c, 0x9c, 0x40, 0, 0, 0x1c, 0x20];
        for real in [&granted[..], &mapped[..]] {
            for cut in 0..=real.len() {
                gateway_datagram(&real[..cut]);
                for bit in 0..8 {
                    let mut changed = real.to_vec();
                    changed[cut.min(real.len() - 1)] ^= 1 << bit;
                    gateway_datagram(&changed);
                }
            }
        }
    }

    #[test]
    fn texts_put_together_from_pieces() {
        const PIECES: [&str; 16] = [
            "HTTP/1.1 200 OK\r\n",
            "LOCATION: http://192.168.1.1/\r\n",
            "\r\n",
            "<service>",
            "</service>",
            "<s:serviceType x=\"<\">",
            "<serviceType>",
            "urn:schemas-upnp-org:service:WANIPConnection:1",
            "\"><x",
            "</serviceType>",
            "<controlURL>",
            "/ctl&amp;",
            "</controlURL>",
            "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>",
            "<errorCode>725",
            "<",
        ];
        let mut state = 3;
        for _ in 0..50_000 {
            let pieces = (0..next(&mut state) % 12).map(|_| PIECES[next(&mut state) % PIECES.len()]);
            gateway_text(pieces.collect::<Vec<_>>().concat().as_bytes());
        }
        let whole = PIECES[3..13].concat().replace("<s:serviceType x=\"<\">", "").replace("\"><x", "");
        assert_eq!(
            upnp::services(&whole.replacen("</service>", "", 1).replacen(
                "</controlURL>",
                "</controlURL></service>",
                1
            ))
            .len(),
            1
        );
    }
}
