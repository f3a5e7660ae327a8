//! Whether a plain HTTP request for one of the own servers is led elsewhere, as networks do whose login page was not
//! visited. The request names the server's host, which TLS names as openly, and nothing else.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::judge;

/// Where such networks wait for a browser.
const PORT: u16 = 80;

/// More than the head of a redirection.
const HEAD_MAX: usize = 4_096;

/// For all requests, which are made at once.
const WITHIN: Duration = Duration::from_millis(1_200);

/// Whether one of these hosts is answered for by a page elsewhere.
pub(super) async fn ask(mut hosts: Vec<String>) -> bool {
    hosts.sort_unstable();
    hosts.dedup();
    let mut asked: FuturesUnordered<_> = hosts.iter().map(|host| is_led_away(host, PORT)).collect();
    let any = async {
        while let Some(answer) = asked.next().await {
            if answer == Some(true) {
                return true;
            }
        }
        false
    };
    timeout(WITHIN, any).await.unwrap_or(false)
}

/// `None` if nothing is there.
async fn is_led_away(host: &str, port: u16) -> Option<bool> {
    let mut tcp = TcpStream::connect((host, port)).await.ok()?;
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = format!("GET / HTTP/1.1\r\nHost: {bracketed}\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::with_capacity(HEAD_MAX);
    while head.len() < HEAD_MAX && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if tcp.read_buf(&mut head).await.ok()? == 0 {
            break;
        }
    }
    Some(judge::leads_away(&head, host))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_redirection_is_seen_and_the_request_names_the_host_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 512];
            let len = tcp.read(&mut request).await.unwrap();
            request.truncate(len);
            tcp.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://login.hotel/\r\n\r\n").await.unwrap();
            request
        });
        assert_eq!(is_led_away("127.0.0.1", port).await, Some(true));
        assert_eq!(asked.await.unwrap(), b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        assert_eq!(is_led_away("127.0.0.1", port).await, None, "nobody listens any more");
    }
}
