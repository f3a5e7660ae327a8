//! A proxy: where its address and its credentials come from, and a tunnel through it.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use proto::proxy::{Answer, Credentials, HEAD_MAX, read_answer, request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{Fault, Unconnected, dial, exempt::Exempt};

/// The option that names a proxy.
const OPTION: &str = "--proxy";

/// The variables that do, the first that is there and not empty.
const VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];

/// The variables that exempt servers from it.
const EXEMPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Others may not read the file of the credentials, nor its group write it.
const EXPOSED: u32 = 0o027;

/// More than a user name and a password need.
const FILE_MAX: u64 = 4_096;

/// How long a proxy may take to reach the server and answer; shorter than whoever waits for the connection waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An HTTP proxy that makes tunnels.
pub struct Proxy {
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    exempt: Exempt,
}

/// Why the proxy that is set cannot be used. None of them says what was given: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No address of an HTTP proxy.
    #[error("{0} is not the address of an HTTP proxy: give it as http://HOST:PORT")]
    Address(&'static str),
    /// A password where others see it.
    #[error(
        "{0} holds a user name or a password, where every user of this machine can read it: put USER:PASSWORD into a \
         file that only vpnd can read, and name that with --proxy-credentials"
    )]
    Secret(&'static str),
    /// Credentials for no proxy.
    #[error("--proxy-credentials is given and no proxy: add --proxy http://HOST:PORT")]
    NoProxy,
    /// The file of the credentials.
    #[error("the file of --proxy-credentials cannot be read ({0})")]
    Unreadable(io::Error),
    /// The file of the credentials.
    #[error("the file of --proxy-credentials can be read by other users: chmod 600 it")]
    Exposed,
    /// The file of the credentials.
    #[error("the file of --proxy-credentials cannot be used: {0}")]
    Credentials(#[from] proto::proxy::BadCredentials),
}

/// Why there is no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// The proxy's name could not be resolved.
    #[error("the proxy's name could not be resolved")]
    Name,
    /// No connection to the proxy came about.
    #[error("no connection to the proxy could be made")]
    Connect,
    /// Nothing came in time.
    #[error("the proxy did not answer in time")]
    Silent,
    /// What answers is something else, or ended without an answer.
    #[error("what answers at the proxy's address is not an HTTP proxy")]
    NotAProxy,
    /// It wants a login, and none was given.
    #[error("the proxy wants a user name and a password")]
    LoginWanted,
    /// It does not take the login that was given.
    #[error("the proxy does not accept the user name and password")]
    LoginRefused,
    /// It wants a login that this program does not know.
    #[error("the proxy wants another kind of login than a user name and a password")]
    LoginKind,
    /// It does not make this tunnel.
    #[error("the proxy does not let this machine connect there")]
    Refused,
    /// It does not reach the server.
    #[error("the proxy does not reach it")]
    Unreachable,
}

impl Proxy {
    /// The proxy that the options or, where they name none, the environment sets.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn configured(option: Option<&str>, credentials: Option<&Path>) -> Result<Option<Self>, ProxyError> {
        Self::from(option, credentials, env::var_os)
    }

    fn from(
        option: Option<&str>,
        credentials: Option<&Path>,
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Option<Self>, ProxyError> {
        let set = |name: &'static str| Some((name, variable(name)?)).filter(|(_, value)| !value.is_empty());
        let named = match option {
            Some(option) => Some((OPTION, option.into())),
            None => VARIABLES.into_iter().find_map(set),
        };
        let Some((source, value)) = named else {
            return if credentials.is_some() { Err(ProxyError::NoProxy) } else { Ok(None) };
        };
        let (host, port) = address(source, value.to_str().ok_or(ProxyError::Address(source))?)?;
        let exempt = EXEMPTIONS.into_iter().find_map(set).and_then(|(_, list)| list.into_string().ok());
        Ok(Some(Self {
            host,
            port,
            credentials: credentials.map(read_credentials).transpose()?,
            exempt: Exempt::parse(&exempt.unwrap_or_default()),
        }))
    }

    /// Its host and port, as in a URL.
    pub(super) fn place(&self) -> String {
        let bare = self.host.contains(':');
        if bare { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether this server is reached through it.
    pub(super) fn serves(&self, host: &str, port: u16) -> bool {
        !self.exempt.holds(host, port)
    }

    /// A tunnel to a server.
    ///
    /// # Errors
    /// [`ProxyFault`].
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<TcpStream, ProxyFault> {
        let mut tcp = dial(&self.host, self.port).await.map_err(|fault| match fault {
            Fault::Name | Fault::Resolver => ProxyFault::Name,
            Fault::Connect(Unconnected::Silent) => ProxyFault::Silent,
            _ => ProxyFault::Connect,
        })?;
        let answered = timeout(ANSWER_WITHIN, self.ask(&mut tcp, host, port)).await;
        answered.unwrap_or(Err(ProxyFault::Silent))?;
        Ok(tcp)
    }

    async fn ask(&self, tcp: &mut TcpStream, host: &str, port: u16) -> Result<(), ProxyFault> {
        let asked = request(host, port, self.credentials.as_ref());
        tcp.write_all(&asked).await.map_err(|_| ProxyFault::NotAProxy)?;
        let mut received = Vec::with_capacity(HEAD_MAX);
        loop {
            match read_answer(&received).map_err(|_| ProxyFault::NotAProxy)? {
                // The server waits for us to speak: whatever came after the answer is not from it.
                Some((Answer::Open, len)) if len < received.len() => return Err(ProxyFault::NotAProxy),
                Some((answer, _)) => return self.heed(answer),
                None => {}
            }
            if tcp.read_buf(&mut received).await.map_err(|_| ProxyFault::NotAProxy)? == 0 {
                return Err(ProxyFault::NotAProxy);
            }
        }
    }

    fn heed(&self, answer: Answer) -> Result<(), ProxyFault> {
        match answer {
            Answer::Open => Ok(()),
            Answer::Login { password: false } => Err(ProxyFault::LoginKind),
            Answer::Login { password: true } if self.credentials.is_some() => Err(ProxyFault::LoginRefused),
            Answer::Login { password: true } => Err(ProxyFault::LoginWanted),
            Answer::Refused => Err(ProxyFault::Refused),
            Answer::Unreachable => Err(ProxyFault::Unreachable),
        }
    }
}

/// Host, without brackets, and port. Most programs take an address without `http://` too.
fn address(source: &'static str, text: &str) -> Result<(String, u16), ProxyError> {
    let bad = || ProxyError::Address(source);
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|_| bad())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ProxyError::Secret(source));
    }
    let plain =
        url.scheme() == "http" && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let host = match url.host().filter(|_| plain).ok_or_else(bad)? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(addr) => addr.to_string(),
        Host::Ipv6(addr) => addr.to_string(),
    };
    Ok((host, url.port_or_known_default().ok_or_else(bad)?))
}

fn read_credentials(path: &Path) -> Result<Credentials, ProxyError> {
    let file = File::open(path).map_err(ProxyError::Unreadable)?;
    if file.metadata().map_err(ProxyError::Unreadable)?.mode() & EXPOSED != 0 {
        return Err(ProxyError::Exposed);
    }
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_end(&mut content).map_err(ProxyError::Unreadable)?;
    Ok(Credentials::parse(&content)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tokio::net::TcpListener;

    use super::*;
    use crate::dial::Way;

    /// A proxy with these options in this environment.
    fn from(option: Option<&str>, environment: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
        let environment: Vec<(String, OsString)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        let variable = |name: &'static str| {
            environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        Proxy::from(option, None, variable)
    }

    fn place(proxy: Result<Option<Proxy>, ProxyError>) -> (String, u16) {
        let proxy = proxy.unwrap().unwrap();
        (proxy.host, proxy.port)
    }

    #[test]
    fn the_option_goes_before_the_environment_and_no_proxy_holds_for_both() {
        let environment =
            [("https_proxy", "http://low:1"), ("HTTPS_PROXY", "http://high:2"), ("no_proxy", "a.example")];
        assert_eq!(
            place(from(Some("http://[2001:db8::1]:3128/"), &environment)),
            ("2001:db8::1".into(), 3128)
        );
        assert_eq!(place(from(None, &environment)), ("low".into(), 1));
        assert_eq!(place(from(None, &[("https_proxy", ""), ("HTTPS_PROXY", "high:2")])), ("high".into(), 2));
        assert_eq!(place(from(Some("http://proxy"), &[])), ("proxy".into(), 80));
        assert!(from(None, &[("https_proxy", "")]).is_ok_and(|proxy| proxy.is_none()));
        for proxy in [from(Some("proxy:1"), &environment), from(None, &environment)] {
            let proxy = proxy.unwrap().unwrap();
            assert!(!proxy.serves("vpn.a.example", 443) && proxy.serves("vpn.b.example", 443));
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_by_the_name_of_what_set_it() {
        for bad in
            ["https://proxy:1", "socks5://proxy:1", "http://", "http://proxy/path", "http://proxy:99999", ":"]
        {
            let said = from(Some(bad), &[]).err().unwrap().to_string();
            assert!(said.starts_with("--proxy is not the address"), "{bad}: {said}");
            let said = from(None, &[("HTTPS_PROXY", bad)]).err().unwrap().to_string();
            assert!(said.starts_with("HTTPS_PROXY is not"), "{bad}: {said}");
        }
    }

    #[test]
    fn a_password_in_an_option_or_a_variable_is_refused_and_not_repeated() {
        for text in ["http://ann:hidden@proxy:1", "ann:hidden@proxy:1", "http://hidden@proxy"] {
            for refused in [from(Some(text), &[]), from(None, &[("https_proxy", text)])] {
                let said = refused.err().unwrap().to_string();
                assert!(said.contains("--proxy-credentials") && !said.contains("hidden"), "{said}");
            }
        }
    }

    #[test]
    fn credentials_are_read_from_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let read = |content: &[u8], mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_credentials(&path)
        };
        assert!(read(b"ann:secret\n", 0o600).is_ok());
        assert!(read(b"ann:secret", 0o440).is_ok(), "as systemd hands credentials over");
        assert!(matches!(read(b"ann:secret", 0o604), Err(ProxyError::Exposed)));
        assert!(matches!(read(b"ann:secret", 0o620), Err(ProxyError::Exposed)));
        assert!(matches!(read(b"nobody", 0o600), Err(ProxyError::Credentials(_))));
        assert!(matches!(read_credentials(&folder.path().join("none")), Err(ProxyError::Unreadable(_))));
        assert!(matches!(Proxy::from(None, Some(&path), |_| None), Err(ProxyError::NoProxy)));
    }

    /// Connects through something that answers with `said`, to the request that it returns.
    async fn through(said: &'static [u8], credentials: Option<Credentials>) -> (Result<(), Fault>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Proxy { host: "127.0.0.1".into(), port, credentials, exempt: Exempt::default() };
        let answering = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1_024];
            let len = tcp.read(&mut asked).await.unwrap();
            asked.truncate(len);
            tcp.write_all(said).await.unwrap();
            asked
        });
        let connected = Way::through(proxy).connect("vpn.example", 443).await.map(drop);
        (connected, answering.await.unwrap())
    }

    #[tokio::test]
    async fn what_a_proxy_answers_is_told_in_its_own_words() {
        let cases: [(&[u8], Result<(), ProxyFault>); 8] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", Err(ProxyFault::LoginWanted)),
            (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n", Err(ProxyFault::LoginKind)),
            (b"HTTP/1.1 403 No\r\n\r\n", Err(ProxyFault::Refused)),
            (b"HTTP/1.1 502 No\r\n\r\n", Err(ProxyFault::Unreachable)),
            (b"SSH-2.0-x\r\n", Err(ProxyFault::NotAProxy)),
            (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03", Err(ProxyFault::NotAProxy)),
            (b"", Err(ProxyFault::NotAProxy)),
        ];
        for (said, told) in cases {
            let (connected, asked) = through(said, None).await;
            assert_eq!(connected, told.map_err(Fault::Proxy), "{}", said.escape_ascii());
            assert_eq!(asked, b"CONNECT vpn.example:443 HTTP/1.1\r\nHost: vpn.example:443\r\n\r\n");
        }
        let credentials = Credentials::parse(b"ann:secret").unwrap();
        let refusal = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        let (connected, asked) = through(refusal, Some(credentials)).await;
        assert_eq!(connected, Err(Fault::Proxy(ProxyFault::LoginRefused)));
        assert!(asked.ends_with(b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"));
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_not_gone_around() {
        let server = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let proxy = Proxy { host: "127.0.0.1".into(), port, credentials: None, exempt: Exempt::default() };
        let (way, there) = (Way::through(proxy), server.local_addr().unwrap());
        assert!(way.connect("127.0.0.2", there.port()).await.is_ok(), "this machine itself is exempt");
        let gone = way.connect("192.0.2.1", there.port()).await;
        assert_eq!(gone.map(drop), Err(Fault::Proxy(ProxyFault::Connect)));
    }
}
