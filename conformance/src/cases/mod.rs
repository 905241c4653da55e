//! The cases, by topic. Each file holds a table `CASES` and the functions that it names.

mod auth;
mod choices;
mod discovery;
mod durable;
mod followed;
mod hostile;
mod invocation;
mod migration;
mod oauth;
mod results;
mod status;
mod subscriptions;
mod threads;
mod transport;

use crate::case::Case;
use invocation::shortened;

/// Every case, in the order of reports.
pub fn all() -> Vec<&'static Case> {
    [
        discovery::CASES,
        transport::CASES,
        invocation::CASES,
        results::CASES,
        threads::CASES,
        subscriptions::CASES,
        choices::CASES,
        oauth::CASES,
        migration::CASES,
        status::CASES,
        durable::CASES,
        auth::CASES,
        hostile::CASES,
        followed::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
