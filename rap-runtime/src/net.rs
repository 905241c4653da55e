//! The ways out. What a server on this machine may be sent goes out by a client that allows loopback; all
//! else by one that does not, so that no server elsewhere can point us at ourselves.

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
    pub(crate) fn new(targets: &[IpNet]) -> Self {
        let policy = targets.iter().fold(AddressPolicy::public(), |policy, network| policy.allow(*network));
        let caller = |policy| Caller::new(GuardedClient::builder(policy).total_timeout(EXCHANGE).build());
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
