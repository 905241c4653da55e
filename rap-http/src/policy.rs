//! Where requests may go: a pure decision about URLs and addresses.
//!
//! A URL that a peer names (a callback, an endpoint, a response URL) is an order to open a connection from
//! inside our network. So only global unicast addresses over https are allowed; everything else must have
//! been asked for by whoever runs the program. Names are judged by the addresses they resolve to, at the
//! moment of connecting, by [`AddressPolicy::check_address`]; an answer that changes between check and
//! connection changes nothing, because the checked address is the one used.

use ipnet::IpNet;
use rap_types::HttpUrl;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which URLs and addresses may be connected to.
///
/// ```
/// use rap_http::AddressPolicy;
/// let policy = AddressPolicy::public();
/// assert!(policy.check_url(&"https://example.com/x".parse()?).is_ok());
/// assert!(policy.check_url(&"http://127.0.0.1:3001/".parse()?).is_err());
/// assert!(policy.allow_loopback().check_url(&"http://127.0.0.1:3001/".parse()?).is_ok());
/// # Ok::<(), rap_types::UrlError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    loopback: bool,
    plain_http: bool,
    allowed: Vec<IpNet>,
}

/// Why a target is refused: one sentence without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// What a URL points at, as the policy reads it. What is connected to is built from this, never from a
/// second reading of the text.
///
/// ```
/// use rap_http::{AddressPolicy, policy::{Host, Refusal, Target}};
///
/// let policy = AddressPolicy::public();
/// let target: Target = policy.check_url(&"https://Example.com/x".parse()?)?;
/// assert_eq!(target, Target { host: Host::Name("example.com".into()), port: 443, secure: true });
/// let refusal: Refusal = policy.check_url(&"https://10.0.0.1/".parse()?).unwrap_err();
/// assert!(refusal.to_string().contains("a private address"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A literal address, already checked, or a name, whose addresses are to be checked when it is resolved.
    pub host: Host,
    /// The port, named or by scheme.
    pub port: u16,
    /// Whether the scheme is https.
    pub secure: bool,
}

/// The host of a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name in ASCII (IDNA), lower case.
    Name(String),
}

impl AddressPolicy {
    /// Only https, only to global unicast addresses.
    pub fn public() -> Self {
        Self::default()
    }

    /// Loopback addresses too, plain http included. For when our own listener (of a server) or the
    /// configured server URL (of a runtime) is on loopback.
    #[must_use]
    pub fn allow_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Plain http to public addresses too.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// A network of one's own, e.g. `10.1.0.0/16`: allowed although it is not public, plain http included.
    #[must_use]
    pub fn allow(mut self, network: impl Into<IpNet>) -> Self {
        self.allowed.push(network.into());
        self
    }

    /// Judges a URL as far as it can be judged without resolving names.
    ///
    /// # Errors
    /// User-info, port 0, or a literal address that is refused.
    pub fn check_url(&self, url: &HttpUrl) -> Result<Target, Refusal> {
        let rap_types::Authority { secure, host, port, user_info, .. } = url.authority();
        if user_info {
            return Err(Refusal(
                "the URL carries a user name or password; give credentials apart".to_owned(),
            ));
        }
        if port == 0 {
            return Err(Refusal("the URL names port 0".to_owned()));
        }
        let host = match host {
            url::Host::Ipv4(ip) => Host::Address(ip.into()),
            url::Host::Ipv6(ip) => Host::Address(ip.into()),
            url::Host::Domain(name) => Host::Name(name),
        };
        if let Host::Address(ip) = host {
            self.check_address(ip, port, secure)?;
        }
        Ok(Target { host, port, secure })
    }

    /// Judges an address that is about to be connected to.
    ///
    /// # Errors
    /// When it is neither allowed by name of its network, nor loopback where that is allowed, nor a global
    /// unicast address spoken to over https on a port that web servers use.
    pub fn check_address(&self, ip: IpAddr, port: u16, secure: bool) -> Result<(), Refusal> {
        if self.allowed.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        if is_loopback(ip) {
            return if self.loopback {
                Ok(())
            } else {
                Err(Refusal(format!("{ip} is this machine itself; loopback targets are not allowed here")))
            };
        }
        if let Some(kind) = special(ip) {
            return Err(Refusal(format!(
                "{ip} is {kind}, not a public address; allow its network if the target is meant"
            )));
        }
        if FOREIGN_PORTS.binary_search(&port).is_ok() {
            return Err(Refusal(format!("port {port} belongs to another protocol than HTTP")));
        }
        if !secure && !self.plain_http {
            return Err(Refusal(format!("{ip} is a public address; https is needed")));
        }
        Ok(())
    }
}

/// 127.0.0.0/8 and ::1, nothing else: not 0.0.0.0, not addresses that wrap one of these.
///
/// ```
/// use rap_http::policy::is_loopback;
///
/// assert!(is_loopback("127.0.0.9".parse()?));
/// assert!(!is_loopback("::ffff:127.0.0.1".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// What kind of address this is when it is not global unicast.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = ip.octets();
    Some(match (a, b, c, d) {
        (0, ..) => "an unspecified address",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "a private address",
        (100, 64..=127, ..) => "a shared address (CGNAT)",
        (127, ..) => "a loopback address",
        (169, 254, ..) => "a link-local address",
        (168, 63, 129, 16) => "a cloud's metadata address",
        (192, 0, 0, _) => "a protocol assignment",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "a documentation address",
        (192, 88, 99, _) => "a 6to4 relay",
        (198, 18..=19, ..) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => "an unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => "an IPv4 address in disguise",
        [0, 0, 0, 0, 0, 0, ..] => "an IPv4 address in disguise",
        [0x64, 0xff9b, ..] => "a NAT64 address",
        [0x2001, 0, ..] => "a Teredo address",
        [0x2001, 0x0db8, ..] => "a documentation address",
        [0x2001, 0..=0x01ff, ..] => "a protocol assignment",
        [0x2002, ..] => "a 6to4 address",
        [0x3fff, 0..=0x0fff, ..] => "a documentation address",
        [0xfc00..=0xfdff, ..] => "a unique-local address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xfec0..=0xfeff, ..] => "a site-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => "an ISATAP address",
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    })
}

/// Ports of other protocols, whose servers might take a line of a request for a command: the "bad ports" of
/// the Fetch standard. Sorted.
const FOREIGN_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_foreign_ports_are_sorted_for_the_binary_search() {
        assert!(super::FOREIGN_PORTS.is_sorted());
    }
}
