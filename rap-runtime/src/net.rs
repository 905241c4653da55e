//! The ways out. What a server on this machine may be sent goes out by a client that allows loopback; all
//! else by one that does not, so that no server elsewhere can point us at ourselves.

use crate::ServerConfig;
use ipnet::IpNet;
use rap_client::Caller;
use rap_http::{AddressPolicy, GuardedClient};
use rap_types::HttpUrl;
use std::time::Duration;

/// The longest time for one exchange with a server: an invocation is answered at once (TRN-02), and a server
/// that never answers must not hold anything up.
const EXCHANGE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Net {
    local: Caller,
    public: Caller,
}

impl Net {
    /// `servers`: whose credentials go along, each to its own origin alone.
    pub(crate) fn new(targets: &[IpNet], servers: &[ServerConfig]) -> Self {
        let policy = targets.iter().fold(AddressPolicy::public(), |policy, network| policy.allow(*network));
        let caller = |policy| {
            let caller = Caller::new(GuardedClient::builder(policy).total_timeout(EXCHANGE).build());
            servers.iter().fold(caller, |caller, server| match server.credentials() {
                Some(credentials) => caller.with_credentials(server.base(), credentials.clone()),
                None => caller,
            })
        };
        Self { local: caller(policy.clone().allow_loopback()), public: caller(policy) }
    }

    /// The way to a URL that a person configured, or that was checked by [`may_lead_to`].
    pub(crate) fn to(&self, url: &HttpUrl) -> &Caller {
        if url.is_loopback() { &self.local } else { &self.public }
    }
}

/// Whether a server may name this URL as its own: only a server on this machine may lead to this machine.
pub(crate) fn may_lead_to(base: &HttpUrl, url: &HttpUrl) -> bool {
    base.is_loopback() || !url.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server elsewhere cannot point us at ourselves, by whatever name.
    #[test]
    fn only_this_machine_leads_to_this_machine() {
        for (base, url, may) in [
            ("http://127.0.0.1:1", "http://127.0.0.1:2/x", true),
            ("http://localhost:1", "http://[::1]:2/x", true),
            ("http://127.0.0.1:1", "https://example.com/x", true),
            ("https://example.com", "https://other.example/x", true),
            ("https://example.com", "http://127.0.0.1:2/x", false),
            ("https://example.com", "http://localhost:2/x", false),
            ("https://example.com", "http://[::1]/x", false),
        ] {
            let parse = |url: &str| url.parse::<HttpUrl>().unwrap();
            assert_eq!(may_lead_to(&parse(base), &parse(url)), may, "{base} {url}");
        }
        let net = Net::new(&[], &[]);
        let goes = |url: &str| {
            net.to(&url.parse().unwrap()).client().policy().check_address([127, 0, 0, 1].into(), 80, false)
        };
        assert!(goes("http://127.0.0.1/").is_ok());
        assert!(
            goes("http://example.com/").is_err(),
            "a public name that resolves to this machine is refused"
        );
    }
}
