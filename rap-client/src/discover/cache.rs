//! The last good toolset of every server, for when a server cannot be reached.

use super::DiscoverError;
use crate::Caller;
use rap_types::{HttpUrl, validate::CompiledToolset};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many servers are remembered.
const REMEMBERED: usize = 1000;

/// Remembers the last good toolset of every server. A new session asks afresh (TLS-12) and goes on with what is
/// remembered where the server cannot be reached (TLS-06); a session itself keeps what it was given when it
/// began (TLS-05).
///
/// ```
/// use rap_client::{Caller, DiscoverError, Discovered, ToolsetCache};
/// use rap_types::HttpUrl;
///
/// async fn begin(cache: &ToolsetCache, caller: &Caller, server: &HttpUrl) -> Result<(), DiscoverError> {
///     let found: Discovered = cache.discover(caller, server).await?;
///     if let Some(error) = found.stale {
///         eprintln!("going on with the tools that are remembered: {error}");
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct ToolsetCache {
    known: Mutex<HashMap<String, CompiledToolset>>,
}

/// What a session begins with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Discovered {
    /// The toolset.
    pub toolset: CompiledToolset,
    /// Why it is a remembered one; to be reported. `None` when it is fresh.
    pub stale: Option<DiscoverError>,
}

impl ToolsetCache {
    /// Nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the server, and falls back on what is remembered if it cannot be reached. A server that answers with
    /// an invalid toolset, or no longer as a RAP server, is believed: nothing old is offered in its name.
    ///
    /// # Errors
    /// As [`Caller::discover`] (TLS-13).
    pub async fn discover(&self, caller: &Caller, base: &HttpUrl) -> Result<Discovered, DiscoverError> {
        match caller.discover(base).await {
            Ok(toolset) => {
                self.remember(base, toolset.clone());
                Ok(Discovered { toolset, stale: None })
            }
            Err(error) if error.is_unreachable() => match self.known().get(key(base)) {
                Some(toolset) => Ok(Discovered { toolset: toolset.clone(), stale: Some(error) }),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Remembers a toolset, e.g. one that was stored before a restart.
    pub fn remember(&self, base: &HttpUrl, toolset: CompiledToolset) {
        let mut known = self.known();
        if known.len() >= REMEMBERED
            && !known.contains_key(key(base))
            && let Some(any) = known.keys().next().cloned()
        {
            known.remove(&any);
        }
        known.insert(key(base).to_owned(), toolset);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, CompiledToolset>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A base with and without a trailing slash is one server.
fn key(base: &HttpUrl) -> &str {
    base.as_str().trim_end_matches('/')
}
