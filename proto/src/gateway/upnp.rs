//! UPnP Internet Gateway Device: how it is found (SSDP, UPnP Device Architecture 1.1, section 1.3), what it says that it
//! offers (section 2), and its actions on port mappings (SOAP, section 3; WANIPConnection:1 and :2, WANPPPConnection:1).
//!
//! Of XML only what these texts need is read: elements by their names, without attributes, name spaces or entities.
//! Whatever else a text holds is passed over; one that is not well-formed yields nothing, or less.

use std::net::Ipv4Addr;

/// The longest text that is worth reading: descriptions have 2 to 20 KiB.
pub const TEXT_MAX: usize = 64 << 10;

/// Where devices listen to searches.
pub const SEARCH_PORT: u16 = 1_900;

/// The group that devices listen to searches in.
pub const SEARCH_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// Services that map ports, by what their types begin with.
const SERVICES: [&str; 2] =
    ["urn:schemas-upnp-org:service:WANIPConnection:", "urn:schemas-upnp-org:service:WANPPPConnection:"];

/// The longest type, URL or value that is taken.
const VALUE_MAX: usize = 512;

/// More services of a router than any has lines.
const SERVICES_MAX: usize = 4;

/// A mapping that lasts until it is taken back; routers that know no other say so with this error.
pub const ONLY_PERMANENT: u16 = 725;

/// Another machine has the outer port.
pub const CONFLICT: u16 = 718;

/// A service that maps ports.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    /// Its type, which names its actions.
    pub urn: String,
    /// Where it takes them: a URL, or the part of one that differs from the description's.
    pub control: String,
}

/// A search for a router. Newer ones answer to the old name too.
#[must_use]
pub fn search() -> &'static [u8] {
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
      ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
}

/// The URL of a router's description, out of its answer to a search.
#[must_use]
pub fn location(datagram: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(datagram).ok()?;
    let (first, fields) = text.split_once("\r\n")?;
    if !first.starts_with("HTTP/1.") || first.split(' ').nth(1) != Some("200") {
        return None;
    }
    let field = |line: &str| line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("LOCATION:"));
    let line = fields.split("\r\n").take_while(|line| !line.is_empty()).find(|line| field(line))?;
    Some(line[9..].trim()).filter(|url| url.len() <= VALUE_MAX)
}

/// The services of a description that map ports, in its order.
#[must_use]
pub fn services(description: &str) -> Vec<Service> {
    let mut found = Vec::new();
    let mut rest = description;
    while let Some((inside, after)) = element(rest, "service") {
        rest = after;
        let (Some(urn), Some(control)) = (value(inside, "serviceType"), value(inside, "controlURL")) else {
            continue;
        };
        let named = urn.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-".contains(&byte));
        if found.len() < SERVICES_MAX && named && SERVICES.iter().any(|known| urn.starts_with(known)) {
            found.push(Service { urn: urn.to_owned(), control: control.replace("&amp;", "&") });
        }
    }
    found
}

impl Service {
    /// The header that names an action.
    #[must_use]
    pub fn soap_action(&self, action: &str) -> String {
        format!("\"{}#{action}\"", self.urn)
    }

    /// Asks for the outer address.
    #[must_use]
    pub fn ask_address(&self) -> String {
        self.envelope("GetExternalIPAddress", &[])
    }

    /// Asks for an outer port to lead to a port of `client`. What it is for stands in the router for all of its users to read,
    /// and says no more than they see anyway.
    #[must_use]
    pub fn ask_mapping(&self, external: u16, internal: u16, client: Ipv4Addr, lifetime: u32) -> String {
        self.envelope(
            "AddPortMapping",
            &[
                ("NewRemoteHost", ""),
                ("NewExternalPort", &external.to_string()),
                ("NewProtocol", "UDP"),
                ("NewInternalPort", &internal.to_string()),
                ("NewInternalClient", &client.to_string()),
                ("NewEnabled", "1"),
                ("NewPortMappingDescription", "udp"),
                ("NewLeaseDuration", &lifetime.to_string()),
            ],
        )
    }

    /// Gives an outer port back.
    #[must_use]
    pub fn give_back(&self, external: u16) -> String {
        self.envelope(
            "DeletePortMapping",
            &[("NewRemoteHost", ""), ("NewExternalPort", &external.to_string()), ("NewProtocol", "UDP")],
        )
    }

    fn envelope(&self, action: &str, arguments: &[(&str, &str)]) -> String {
        let arguments: String =
            arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{}\">{arguments}\
             </u:{action}></s:Body></s:Envelope>\r\n",
            self.urn
        )
    }
}

/// The outer address, out of the answer to [`Service::ask_address`]; `None` where the router has none now.
#[must_use]
pub fn address(answer: &str) -> Option<Ipv4Addr> {
    value(answer, "NewExternalIPAddress")?.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified())
}

/// The number of the error in a refusal.
#[must_use]
pub fn error(answer: &str) -> Option<u16> {
    value(answer, "errorCode")?.parse().ok()
}

/// The text of the first element of this name, without blanks around it.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (inside, _) = element(text, name)?;
    Some(inside.trim()).filter(|value| !value.is_empty() && value.len() <= VALUE_MAX && !value.contains('<'))
}

/// What is inside the first element of this name, and what comes after it.
fn element<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (_, start) = tag(text, name, false)?;
    let (end, after) = tag(start, name, true)?;
    Some((&start[..end], after))
}

/// Where the first tag of this name begins, and what comes after it. A name may have a prefix.
fn tag<'a>(text: &'a str, name: &str, closing: bool) -> Option<(usize, &'a str)> {
    let mut at = 0;
    loop {
        let begin = at + text[at..].find('<')?;
        let end = begin + text[begin..].find('>')?;
        let inside = &text[begin + 1..end];
        let (closes, inside) = inside.strip_prefix('/').map_or((false, inside), |inside| (true, inside));
        let whole = inside.split_ascii_whitespace().next().unwrap_or_default();
        let local = whole.rsplit(':').next().unwrap_or_default();
        at = end + 1;
        if closes == closing && local == name {
            return Some((begin, &text[at..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = r#"<?xml version="1.0"?>
        <root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
        <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
          <controlURL>/ctl/L3F</controlURL></service>
        </serviceList><deviceList><device><serviceList>
        <service ><serviceType> urn:schemas-upnp-org:service:WANIPConnection:2 </serviceType>
          <SCPDURL>/WANIPCn.xml</SCPDURL><controlURL>/ctl?a=1&amp;b=2</controlURL></service>
        <service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType></service>
        </serviceList></device></deviceList></device></root>"#;

    #[test]
    fn a_description_yields_the_services_that_map_ports_and_their_urls() {
        let found = services(DESCRIPTION);
        let urn = "urn:schemas-upnp-org:service:WANIPConnection:2".to_owned();
        assert!(found == [Service { urn, control: "/ctl?a=1&b=2".to_owned() }], "one without a URL is none");
        assert!(services(&DESCRIPTION.replace("Connection:2", "Connection:2\"&x")).is_empty());
        let many = DESCRIPTION.repeat(9);
        assert_eq!(services(&many).len(), SERVICES_MAX);
        for cut in 0..DESCRIPTION.len() {
            assert!(services(&DESCRIPTION[..cut]).len() <= 1);
        }
    }

    #[test]
    fn an_answer_to_a_search_yields_its_url() {
        let answer = b"HTTP/1.1 200 OK\r\nST: x\r\nlocation: http://192.168.1.1:5000/rootDesc.xml \r\n\r\n";
        assert_eq!(location(answer), Some("http://192.168.1.1:5000/rootDesc.xml"));
        let long = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{}\r\n\r\n", "x".repeat(VALUE_MAX));
        for other in [
            "NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
            "HTTP/1.1 404 No\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nLOCATION: http://192.168.1.1/\r\n",
            "HTTP/1.1 200 OK\r\n",
            &long,
            "",
        ] {
            assert_eq!(location(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn actions_name_the_service_and_nothing_of_this_machine_but_its_address() {
        let service = Service { urn: "urn:x:1".to_owned(), control: "/c".to_owned() };
        assert_eq!(service.soap_action("AddPortMapping"), "\"urn:x:1#AddPortMapping\"");
        let asked = service.ask_mapping(40_000, 51_820, Ipv4Addr::new(192, 168, 1, 10), 1_200);
        assert!(asked.contains("<u:AddPortMapping xmlns:u=\"urn:x:1\"><NewRemoteHost></NewRemoteHost>"));
        for (name, wanted) in [
            ("NewExternalPort", "40000"),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", "51820"),
            ("NewInternalClient", "192.168.1.10"),
            ("NewPortMappingDescription", "udp"),
            ("NewLeaseDuration", "1200"),
        ] {
            assert_eq!(value(&asked, name), Some(wanted), "{name}");
        }
        assert_eq!(value(&service.give_back(40_000), "NewExternalPort"), Some("40000"));
        assert!(service.ask_address().contains("<u:GetExternalIPAddress xmlns:u=\"urn:x:1\"></u:"));
    }

    #[test]
    fn addresses_and_errors_are_read_out_of_answers() {
        let answer =
            |ip: &str| format!("<s:Body><u:R><NewExternalIPAddress>{ip}</NewExternalIPAddress></u:R>");
        assert_eq!(address(&answer("203.0.113.9")), Some(Ipv4Addr::new(203, 0, 113, 9)));
        for none in ["", "0.0.0.0", "2001:db8::1", "<b/>", "203.0.113.999"] {
            assert_eq!(address(&answer(none)), None, "{none}");
        }
        let refusal =
            "<s:Fault><detail><UPnPError xmlns=\"x\"><errorCode>725</errorCode></UPnPError></detail>";
        assert_eq!(error(refusal), Some(ONLY_PERMANENT));
        assert_eq!(error("<errorCode>725"), None);
    }
}
