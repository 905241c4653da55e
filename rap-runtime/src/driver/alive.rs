//! Is what we wait for still alive? After a restart of ours or of a server, and then from time to time where it has been
//! open for long (P11), each open call that its server had taken and each active subscription is asked about, at that server
//! alone (STA-02). Only `alive: false` ends it: a call with an error result, a subscription with a last event (STA-03,
//! STA-04). Everything else means that nothing is known: it goes on, and people are told once, with its age.

use crate::{Runtime, clock, servers::key};
use futures_util::{StreamExt, stream};
use rap_client::CallStatus;
use rap_core::{InputBody, InputId, Millis, NewInput, Outcome, Owed, StoreError, Surface, SurfaceEvent};
use rap_types::{CallId, HttpUrl, ToolCallStatus};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

/// Questions on their way at once.
const AT_ONCE: usize = 8;
/// Calls and subscriptions that are in memory at once.
const PAGE: usize = 256;
/// Of so many calls and subscriptions is remembered that nothing is known of them.
const REMEMBERED: usize = 1_000;
/// What a toolset declares that tells of calls (STA-03).
const EXTENSION: &str = "status";

/// The name under which a store keeps the calls and subscriptions of which nothing is known: see [`nothing_known`].
pub const NOTHING_KNOWN: &str = "rap_runtime.nothing_known";

/// What is kept of an open call, or an active subscription, whose server does not say whether it is alive (P11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NothingKnown {
    /// Since when.
    pub since: Millis,
    /// What the server said, if it said anything.
    pub reason: String,
}

/// Reads what a store keeps under [`NOTHING_KNOWN`]: by call, of which of those that are open nothing is known. What cannot
/// be read is nothing.
///
/// ```
/// use rap_runtime::{MemoryStore, NOTHING_KNOWN, core::Store, nothing_known};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// assert!(nothing_known(store.get(NOTHING_KNOWN).await?.as_deref()).is_empty());
/// # Ok(()) }
/// ```
pub fn nothing_known(kept: Option<&str>) -> BTreeMap<CallId, NothingKnown> {
    kept.and_then(|kept| serde_json::from_str(kept).ok()).unwrap_or_default()
}

/// The server that owes it.
struct Server {
    name: String,
    /// Where its session knows it.
    card: HttpUrl,
    /// Where it is to be found now.
    base: HttpUrl,
}

/// Asks about all that was owed before this process began, and later about what is as old as the time between two
/// askings.
pub(super) async fn ask_again_and_again(runtime: Runtime) {
    let every = runtime.inner.ask_every;
    let age = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    ask_about(&runtime, Millis(i64::MAX), None).await;
    loop {
        tokio::time::sleep(every).await;
        ask_about(&runtime, clock::now() + -age, None).await;
    }
}

/// Asks about all that is owed by servers which were away for a while.
pub(super) async fn ask_at(runtime: &Runtime, bases: &[HttpUrl]) {
    ask_about(runtime, Millis(i64::MAX), Some(bases)).await;
}

/// A round of questions.
#[derive(Default)]
struct Round {
    /// Servers that did not answer one question are not asked the others of it, and what they said.
    silent: Mutex<HashMap<String, String>>,
    /// Whether a server declares that it answers, by its base.
    declares: HashMap<String, bool>,
}

/// Asks about what was owed before a time, by all servers or by some.
async fn ask_about(runtime: &Runtime, before: Millis, at: Option<&[HttpUrl]>) {
    if let Err(error) = ask_page_by_page(runtime, before, at).await {
        tracing::error!(%error, "open calls cannot be read or kept, so that servers are not asked about all of them");
    }
}

async fn ask_page_by_page(
    runtime: &Runtime,
    before: Millis,
    at: Option<&[HttpUrl]>,
) -> Result<(), StoreError> {
    let mut round = Round::default();
    let unknown = known_to_be_unknown(runtime).await?;
    let mut open: HashSet<CallId> = HashSet::new();
    let mut last: Option<Owed> = None;
    loop {
        let page = runtime.inner.store.owed(last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { break };
        last = Some(end.clone());
        open.extend(page.iter().map(|owed| &owed.call).filter(|call| unknown.contains(*call)).cloned());
        let answers = ask_one_page(runtime, &round, &page, before, at).await;
        remember(runtime, &mut round, &page, answers).await?;
    }
    forget(runtime, |call| unknown.contains(call) && !open.contains(call)).await
}

async fn ask_one_page(
    runtime: &Runtime,
    round: &Round,
    owed: &[Owed],
    before: Millis,
    at: Option<&[HttpUrl]>,
) -> Vec<(usize, Server, CallStatus)> {
    let silent = || round.silent.lock().unwrap_or_else(PoisonError::into_inner);
    let due = owed.iter().enumerate().filter(|(_, owed)| owed.since <= before);
    let due: Vec<usize> = due.map(|(n, _)| n).collect();
    let asked = stream::iter(due).map(async |n| {
        let owed = &owed[n];
        let server = server_of(runtime, owed).await?;
        if at.is_some_and(|at| !at.iter().any(|at| key(at) == key(&server.base))) {
            return None;
        }
        let known = silent().get(key(&server.base)).cloned();
        let status = match known {
            Some(reason) => CallStatus::Unknown { reason, fault: false },
            None => {
                let question = ToolCallStatus::new(owed.thread.clone(), owed.call.clone());
                runtime.inner.net.to(&server.base).status(&server.base, &question).await
            }
        };
        match &status {
            CallStatus::Gone => lost(runtime, owed, &server).await,
            CallStatus::Unknown { reason, fault: false } => {
                silent().insert(key(&server.base).to_owned(), reason.clone());
                // As soon as it is back it is asked again; one that is there and does not say has been asked.
                if at.is_none() {
                    runtime.inner.servers.ask_again(&owed.session, &server.card);
                }
            }
            _ => {}
        }
        Some((n, server, status))
    });
    asked.buffer_unordered(AT_ONCE).filter_map(async |answer| answer).collect().await
}

/// The server that got the call.
async fn server_of(runtime: &Runtime, owed: &Owed) -> Option<Server> {
    let session = runtime.inner.store.session(&owed.session).await.ok()??;
    let tool = session.toolbox.tool(&owed.tool)?;
    let card = session.toolbox.servers.get(tool.server)?;
    let base = runtime.inner.servers.configured_base(&session, &card.base);
    Some(Server { name: card.name.clone(), card: card.base.clone(), base })
}

/// `alive: false`: its thread is told, once.
async fn lost(runtime: &Runtime, owed: &Owed, server: &Server) {
    let (call, name, age) = (&owed.call, &server.name, age(clock::now() - owed.since));
    let (id, body) = if owed.subscription {
        let text = format!(
            "Error: the server {name} no longer knows this subscription, made {age} ago, so that this is its last event; what happened since the one before is not known. Look at how things stand, and subscribe again if you still need it"
        );
        let body = InputBody::Event { call: call.clone(), text, associative: true, is_final: true };
        (InputId::event(call, None, "lost"), body)
    } else {
        let outcome = Outcome::error(format!(
            "the server {name} no longer knows this call, made {age} ago: its work was lost, whole or in part; look at what was done before you call again"
        ));
        (InputId::outcome(call), InputBody::Outcome { call: call.clone(), outcome })
    };
    tracing::warn!(%call, server = name, age, subscription = owed.subscription, "lost: its server no longer knows it");
    let source = "runtime".to_owned();
    let input = NewInput { thread: owed.thread.clone(), id, source, body, traceparent: None };
    match runtime.inner.store.accept(input, clock::now()).await {
        Ok(_) => runtime.inner.hub.ring(),
        Err(error) => tracing::error!(%error, "what is lost could not be ended"),
    }
}

/// Of which calls and subscriptions it is remembered that nothing is known.
async fn known_to_be_unknown(runtime: &Runtime) -> Result<HashSet<CallId>, StoreError> {
    let mut held = runtime.inner.nothing_known.lock().await;
    Ok(read(runtime, &mut held).await?.keys().cloned().collect())
}

async fn read<'a>(
    runtime: &Runtime,
    held: &'a mut Option<BTreeMap<CallId, NothingKnown>>,
) -> Result<&'a mut BTreeMap<CallId, NothingKnown>, StoreError> {
    let kept = match held.take() {
        Some(known) => known,
        None => nothing_known(runtime.inner.store.get(NOTHING_KNOWN).await?.as_deref()),
    };
    Ok(held.insert(kept))
}

async fn write(runtime: &Runtime, known: &BTreeMap<CallId, NothingKnown>) -> Result<(), StoreError> {
    let text = serde_json::to_string(known)
        .map_err(|e| StoreError::Failed(format!("they cannot be written: {e}")))?;
    runtime.inner.store.put(NOTHING_KNOWN, &text).await
}

/// What has ended is no longer unknown.
async fn forget(runtime: &Runtime, ended: impl Fn(&CallId) -> bool) -> Result<(), StoreError> {
    let mut held = runtime.inner.nothing_known.lock().await;
    let known = read(runtime, &mut held).await?;
    let before = known.len();
    known.retain(|call, _| !ended(call));
    if known.len() < before { write(runtime, known).await } else { Ok(()) }
}

/// Remembers of what nothing is known, and shows it to people when it begins to be so.
async fn remember(
    runtime: &Runtime,
    round: &mut Round,
    owed: &[Owed],
    answers: Vec<(usize, Server, CallStatus)>,
) -> Result<(), StoreError> {
    let store = &runtime.inner.store;
    // Held while it is written, so that two askings do not write over each other.
    let mut held = runtime.inner.nothing_known.lock().await;
    let now = read(runtime, &mut held).await?;
    let mut changed = false;
    for (n, server, status) in answers {
        let owed = &owed[n];
        let CallStatus::Unknown { mut reason, fault } = status else {
            changed |= now.remove(&owed.call).is_some();
            continue;
        };
        if now.contains_key(&owed.call) || now.len() >= REMEMBERED {
            continue;
        }
        if fault {
            let base = key(&server.base).to_owned();
            let declared = match round.declares.get(&base) {
                Some(declared) => *declared,
                None => *round.declares.entry(base).or_insert(declares_status(runtime, &server.base).await),
            };
            if declared {
                reason = format!(
                    "its server {} declares the extension {EXTENSION} and does not keep to it: {reason}; tell its author",
                    server.name
                );
                tracing::warn!(server = server.name, reason, "a fault of a server (STA-03)");
            }
        }
        tracing::info!(call = %owed.call, server = server.name, reason, "nothing is known of an open call or subscription");
        let what = Surface::Unknown {
            call: owed.call.clone(),
            name: owed.tool.clone(),
            subscription: owed.subscription,
            age_ms: clock::now() - owed.since,
            reason: reason.clone(),
        };
        store.show(&SurfaceEvent { thread: owed.thread.clone(), what }, clock::now()).await?;
        runtime.inner.hub.ring();
        now.insert(owed.call.clone(), NothingKnown { since: clock::now(), reason });
        changed = true;
    }
    if changed { write(runtime, now).await } else { Ok(()) }
}

/// Whether a server's toolset says that it tells of calls.
async fn declares_status(runtime: &Runtime, base: &HttpUrl) -> bool {
    let found = runtime.inner.net.to(base).discover(base).await;
    found.is_ok_and(|found| found.toolset().extensions.iter().any(|extension| extension == EXTENSION))
}

/// A length of time in its largest unit.
fn age(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..60_000 => format!("{} s", ms / 1_000),
        ms @ 60_000..3_600_000 => format!("{} min", ms / 60_000),
        ms @ 3_600_000..86_400_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (ms, text) in
            [(-5, "0 s"), (12_345, "12 s"), (200_000, "3 min"), (7_300_000, "2 h"), (200_000_000, "2 d")]
        {
            assert_eq!(age(ms), text);
        }
    }
}
