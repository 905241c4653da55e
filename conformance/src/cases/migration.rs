//! Moving a session's state: 200 means moved. The judge plays the destination.

use super::invocation::control;
use crate::{
    bench::{Bench, failed, text},
    case::{Case, Need, Outcome, Tier, case},
    http::{Request, Sent},
    listen::{Gate, Given, Reaction},
    nonce::nonce,
    spawn::Spawned,
    verdict::Stop,
};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

const NEEDS: &[Need] = &[Need::Migration, Need::Tool("remember"), Need::Tool("recall")];

macro_rules! moving {
    ($id:literal, $title:literal, [$($obligation:literal),+], $run:path) => {
        Case { needs: NEEDS, ..case!($id, $title, [$($obligation),+], Tier::Fixture, [], $run) }
    };
}

pub(super) const CASES: &[Case] = &[
    moving!("migration/moves", "200 comes after the destination has the state", ["MIG-02"], moves),
    moving!(
        "migration/destination-holds-nothing",
        "a destination that does not take the state is answered by an error with a message",
        ["MIG-02"],
        destination_holds_nothing
    ),
    moving!(
        "migration/source-stays",
        "after a failed migration the source still has the state",
        ["MIG-02"],
        source_stays
    ),
    moving!(
        "migration/unreachable",
        "a destination that cannot be reached is answered by an error with a message",
        ["MIG-04"],
        unreachable
    ),
    moving!(
        "migration/silent",
        "a destination that never answers is given up within a time limit",
        ["MIG-04"],
        silent
    ),
    moving!(
        "migration/no-server",
        "a destination that takes everything and serves no toolset is answered by an error with a message",
        ["MIG-04"],
        no_server
    ),
    moving!("migration/no-url", "a destination that is no URL is answered by an error", ["MIG-04"], no_url),
    Case {
        needs: &[Need::Migration, Need::Tool("remember"), Need::Tool("recall"), Need::Spawn],
        ..case!(
            "migration/between-two",
            "after 200 another instance of the server serves the state",
            ["MIG-02"],
            Tier::Fixture,
            [],
            between_two
        )
    },
];

/// The longest time that a server may take to give up.
const GIVE_UP: Duration = Duration::from_secs(15);

async fn remember(bench: &Bench, session: &str) -> Result<String, Stop> {
    let kept = format!("kept-{}", nonce());
    let call = bench.call("remember", json!({ "text": kept })).thread(session).send().await;
    let result = bench.result(&call).await?;
    control(!failed(&result), "the state could not be made")?;
    Ok(kept)
}

async fn recall(bench: &Bench, session: &str) -> Result<String, Stop> {
    let call = bench.call("recall", json!({})).thread(session).send().await;
    Ok(text(&bench.result(&call).await?).to_owned())
}

async fn migrate(bench: &Bench, session: &str, destination: &str) -> Sent {
    let patient = bench.http.within(GIVE_UP);
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let body = Bytes::from(json!({ "session_id": session, "destination_url": destination }).to_string());
    let (case, method, url) = (bench.case().to_owned(), "POST".to_owned(), bench.at("migrate"));
    headers.extend(bench.shown_to(&url, &body));
    patient.send(Request { case, method, url, headers, body }).await
}

fn session() -> String {
    format!("session-{}", nonce())
}

/// A destination that the judge plays: what the fetch of its toolset is answered, and what the state is.
fn destination(bench: &Bench, reactions: impl IntoIterator<Item = Reaction>) -> Given {
    let given = bench.listener.give_plain(bench.case());
    given.react(reactions);
    given
}

fn toolset() -> Reaction {
    let tool = json!({ "name": "recall", "description": "recalls", "inputSchema": { "type": "object" } });
    Reaction::Json(
        200,
        json!({ "name": "rap-fixture", "endpoint": "http://127.0.0.1:9/", "tools": [tool], "needsMigration": true }),
    )
}

async fn moves(bench: Bench) -> Outcome {
    let session = session();
    let kept = remember(&bench, &session).await?;
    let given = destination(&bench, [toolset(), Reaction::Status(200)]);
    let sent = migrate(&bench, &session, &given.url).await;
    if sent.status() != Some(200) {
        let why = format!("the migration to a destination that took the state {}", sent.words());
        return bench.broken("MIG-02", why, &[sent.n]);
    }
    let moved = given.arrived().iter().any(|a| {
        bench.exchange(a.n).is_some_and(|e| {
            e.method == "POST"
                && e.body.text().contains(&kept)
                && e.ended < bench.exchange(sent.n).and_then(|s| s.ended)
        })
    });
    if !moved {
        bench.fault(
            "MIG-02",
            "the migration was answered 200, and the destination never got the state",
            &[sent.n],
        );
    }
    Ok(())
}

fn refused(bench: &Bench, obligation: &str, what: &str, sent: &Sent) {
    match sent.status() {
        Some(status) if (400..600).contains(&status) => {
            let said = sent.answer.as_ref().map(|a| a.body.text()).unwrap_or_default();
            if said.trim().is_empty() {
                bench.fault(
                    obligation,
                    format!("the migration to {what} failed without a message"),
                    &[sent.n],
                );
            }
        }
        _ => bench.fault(
            obligation,
            format!("the migration to {what} {}, not 4xx or 5xx", sent.words()),
            &[sent.n],
        ),
    }
}

async fn destination_holds_nothing(bench: Bench) -> Outcome {
    let session = session();
    remember(&bench, &session).await?;
    for (what, reactions) in [
        (
            "a destination that refuses the state",
            vec![toolset(), Reaction::Status(500), Reaction::Status(500)],
        ),
        (
            "a destination that forbids the state",
            vec![toolset(), Reaction::Status(403), Reaction::Status(403)],
        ),
        ("a destination without a toolset", vec![Reaction::Status(404); 8]),
    ] {
        let given = destination(&bench, reactions);
        let sent = migrate(&bench, &session, &given.url).await;
        refused(&bench, "MIG-02", what, &sent);
    }
    Ok(())
}

async fn source_stays(bench: Bench) -> Outcome {
    let session = session();
    let kept = remember(&bench, &session).await?;
    let given = destination(&bench, [toolset(), Reaction::Status(500)]);
    let sent = migrate(&bench, &session, &given.url).await;
    if recall(&bench, &session).await? != kept {
        bench.fault("MIG-02", "after a failed migration the source no longer has the state", &[sent.n]);
    }
    Ok(())
}

async fn unreachable(bench: Bench) -> Outcome {
    let session = session();
    remember(&bench, &session).await?;
    // A port that was free a moment ago.
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let port = socket.and_then(|s| s.local_addr()).map_or(9, |a| a.port());
    let sent = migrate(&bench, &session, &format!("http://127.0.0.1:{port}")).await;
    refused(&bench, "MIG-04", "a destination that cannot be reached", &sent);
    Ok(())
}

async fn silent(bench: Bench) -> Outcome {
    let session = session();
    remember(&bench, &session).await?;
    let gate = Gate::default();
    let given = destination(&bench, [Reaction::Hold(gate.clone(), 500)]);
    let sent = migrate(&bench, &session, &given.url).await;
    gate.open();
    if sent.answer.is_err() {
        let why = format!("a destination that never answers was not given up within {} s", GIVE_UP.as_secs());
        return bench.broken("MIG-04", why, &[sent.n]);
    }
    refused(&bench, "MIG-04", "a destination that never answers", &sent);
    Ok(())
}

async fn no_server(bench: Bench) -> Outcome {
    let session = session();
    remember(&bench, &session).await?;
    let reaction = Reaction::ByMethod(Box::new(Reaction::Status(404)), Box::new(Reaction::Status(200)));
    let given = destination(&bench, vec![reaction; 8]);
    let sent = migrate(&bench, &session, &given.url).await;
    refused(&bench, "MIG-04", "a destination that serves no toolset", &sent);
    Ok(())
}

async fn no_url(bench: Bench) -> Outcome {
    let session = session();
    for destination in ["not a url", "ftp://127.0.0.1/", "/relative", "file:///etc/passwd"] {
        let sent = migrate(&bench, &session, destination).await;
        if sent.status().is_none_or(|s| !(400..600).contains(&s)) {
            let why = format!("the migration to {destination:?} {}, not 4xx or 5xx", sent.words());
            bench.fault("MIG-04", why, &[sent.n]);
        }
    }
    Ok(())
}

async fn between_two(bench: Bench) -> Outcome {
    let session = session();
    let kept = remember(&bench, &session).await?;
    let Some(spawned) = &bench.spawned else { return Ok(()) };
    let template = spawned.lock().await.template().to_owned();
    let second = Spawned::start(&template).await.map_err(Stop::Harness)?;
    if second.token.is_some() || second.secret.is_some() {
        let why = "two instances with tokens or secrets of their own do not trust each other";
        return Err(Stop::Inconclusive(why.to_owned()));
    }
    let place = bench.place();
    let old = format!(":{}", crate::connect::authority(&place.base).map_err(Stop::Harness)?.port);
    let new = format!(":{}", second.port);
    let sent = migrate(&bench, &session, &place.base.replacen(&old, &new, 1)).await;
    if sent.status() != Some(200) {
        return bench.broken(
            "MIG-02",
            format!("the migration to another instance {}", sent.words()),
            &[sent.n],
        );
    }
    let draft = bench.call("recall", json!({})).thread(&session);
    let call = draft.send_to(&place.endpoint.replacen(&old, &new, 1)).await;
    let result = bench.result(&call).await?;
    if text(&result) != kept {
        let why = format!("after 200 the destination recalls {:?}, not {kept:?}", text(&result));
        bench.fault("MIG-02", why, &[sent.n, call.sent.n, result.n]);
    }
    Ok(())
}
