//! Servers that were down, have moved, or were not there when a session began: asked again until they answer. Then all
//! sessions that wait for them are told, and the calls that they had taken are asked about (P11, STA-02): a server that
//! was away may have lost them.

use super::alive;
use crate::{Runtime, clock, net, servers::Due, toolsets::discover_problem};
use futures_util::{StreamExt, stream};
use rap_core::{Delivery, DeliveryKind, Session};
use rap_types::HttpUrl;
use std::sync::{Arc, atomic::Ordering};

/// Servers that are asked at once.
const AT_ONCE: usize = 8;

/// Asks servers whose time has come, for ever.
pub(super) async fn ask_again_and_again(runtime: Runtime) {
    loop {
        let due = runtime.inner.servers.due().await;
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, async |due| match ask(&runtime, &due).await {
                Some(places) => {
                    runtime.inner.servers.settled(&due);
                    alive::ask_at(&runtime, &places).await;
                }
                None => runtime.inner.servers.failed(&due),
            })
            .await;
    }
}

/// Asks one server, once for each place where the sessions that wait for it are to find it. Gives back those places, if
/// all sessions are told.
async fn ask(runtime: &Runtime, due: &Due) -> Option<Vec<HttpUrl>> {
    let mut places: Vec<(HttpUrl, Vec<Arc<Session>>)> = Vec::new();
    for id in &due.sessions {
        let session = match runtime.inner.store.session(id).await {
            Ok(Some(session)) => session,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, "a session cannot be read");
                return None;
            }
        };
        let now = runtime.inner.servers.configured_base(&session, &due.base);
        match places.iter_mut().find(|(place, _)| *place == now) {
            Some((_, sessions)) => sessions.push(session),
            None => places.push((now, vec![session])),
        }
    }
    let mut told = Some(Vec::new());
    for (now, sessions) in places {
        let toolset = match runtime.inner.net.to(&now).discover(&now).await {
            Ok(toolset) if net::may_lead_to(&now, &toolset.toolset().endpoint) => toolset,
            Ok(_) => {
                told = None;
                continue;
            }
            Err(error) => {
                tracing::debug!(problem = %discover_problem(&now, &error), "a tool server still cannot be used");
                told = None;
                continue;
            }
        };
        runtime.inner.known_toolsets.remember(&now, toolset.clone());
        for session in sessions {
            match runtime.take_in(&session.id, &due.base, &now, &toolset).await {
                Ok(problems) => problems.iter().for_each(|problem| {
                    tracing::warn!(session = %session.id, %problem, "a tool is not offered");
                }),
                Err(error) => {
                    tracing::error!(%error, "a session could not be told where its server is");
                    told = None;
                }
            }
        }
        if let Some(told) = &mut told {
            told.push(now);
        }
    }
    told
}

/// Where a request goes now, if that may be another place than it was written for: a retry, one of an earlier process,
/// a notice, an answer; and any, once a server has moved, for it may have done so while the slice ran. What moves where
/// a guest's owner sees it, the guest does not.
pub(super) async fn place(runtime: &Runtime, delivery: &Delivery, is_guest: bool) -> HttpUrl {
    let fresh = delivery.kind == DeliveryKind::Invocation && delivery.attempts == 0 && !delivery.begun;
    if fresh && !is_guest && !runtime.inner.servers.some_moved.load(Ordering::Acquire) {
        return delivery.url.clone();
    }
    match runtime.inner.store.session(&delivery.session).await {
        Ok(Some(session)) => {
            let servers = &runtime.inner.servers;
            let card = session.toolbox.server_of(delivery.kind, &delivery.url, &delivery.body);
            let card = card.and_then(|n| session.toolbox.servers.get(n));
            // What was configured anew, and not yet looked up, is not known to the session.
            if let Some(card) = card
                && delivery.kind != DeliveryKind::Invocation
                && servers.configured_base(&session, &card.base) != card.base
            {
                let mut toolbox = session.toolbox.clone();
                let n = toolbox.server_at(&card.base).unwrap_or(usize::MAX);
                toolbox.relocate(n, &servers.configured_base(&session, &card.base), &card.endpoint);
                return toolbox.now_at(delivery.kind, &delivery.url, &delivery.body);
            }
            session.toolbox.now_at(delivery.kind, &delivery.url, &delivery.body)
        }
        Ok(None) => delivery.url.clone(),
        Err(error) => {
            tracing::error!(%error, "a session cannot be read; its request goes where it was written for");
            delivery.url.clone()
        }
    }
}

/// Nobody listens where a request went: its server is asked again, beside everything else.
pub(super) async fn refused(runtime: &Runtime, delivery: &Delivery) {
    if let Some((session, base)) = server(runtime, delivery).await {
        runtime.inner.servers.ask_again(&session.id, &base);
    }
}

/// Whether a server that did not know its own endpoint (404, 410) has another one by now. It is asked at once: what the
/// model is told depends on it.
pub(super) async fn has_moved(runtime: &Runtime, delivery: &Delivery, went_to: &HttpUrl) -> bool {
    let Some((session, base)) = server(runtime, delivery).await else { return false };
    if !matches!(runtime.ask_server(&session, &base).await, Ok(Ok(_))) {
        runtime.inner.servers.ask_again(&session.id, &base);
        return false;
    }
    let Ok(Some(session)) = runtime.inner.store.session(&delivery.session).await else { return false };
    let moved = session.toolbox.now_at(delivery.kind, &delivery.url, &delivery.body) != *went_to;
    if moved {
        tracing::info!(call = ?delivery.call, at = clock::now().0, "the next call goes to the new endpoint");
    }
    moved
}

async fn server(runtime: &Runtime, delivery: &Delivery) -> Option<(Arc<Session>, HttpUrl)> {
    let session = runtime.inner.store.session(&delivery.session).await.ok()??;
    let base = match session.toolbox.server_of(delivery.kind, &delivery.url, &delivery.body) {
        Some(n) => session.toolbox.servers.get(n)?.base.clone(),
        // A notice to one that was not there.
        None => session
            .toolbox
            .live
            .absent
            .iter()
            .find(|base| delivery.url.as_str().starts_with(crate::servers::key(base)))?
            .clone(),
    };
    Some((session, base))
}
