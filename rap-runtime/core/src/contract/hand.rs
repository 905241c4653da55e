//! Commits made by hand, and small words for what the contract says again and again.

use crate::{
    Accepted, CallRoute, CallRow, CallState, Claim, Commit, Committed, DeliveryKind, Entry, InputBody,
    InputId, Millis, Moment, NewDelivery, NewInput, NewThread, Outcome, Rules, Segment, ServerCard, Session,
    SliceRecord, Snapshot, Store, SubscriptionRow, SubscriptionState, ThreadKind, ThreadRow, ThreadUpdate,
    Toolbox,
};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId};
use serde_json::json;
use std::{future::poll_fn, pin::Pin, task::Poll};

/// A time, in milliseconds.
pub fn at(ms: i64) -> Millis {
    Millis(ms)
}

/// A thread's id.
pub fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

/// A call's id.
pub fn call(id: &str) -> CallId {
    CallId::new(id).unwrap()
}

/// A URL.
pub fn url(text: &str) -> HttpUrl {
    HttpUrl::new(text).unwrap()
}

/// A session with two servers.
pub fn session(id: &str) -> Session {
    let server = |name: &str| ServerCard {
        name: name.into(),
        base: url(&format!("http://{name}/base/")),
        endpoint: url(&format!("http://{name}/call?key=1")),
    };
    Session {
        id: thread(id),
        owner: Some("ada".into()),
        user: None,
        created_at: at(1),
        model: Some("scripted/one".into()),
        system: "You are a test.".into(),
        toolbox: Toolbox { servers: vec![server("one"), server("two")], ..Toolbox::default() },
        rules: Rules::default(),
    }
}

/// Makes the session `root`.
pub async fn root(store: &dyn Store) -> ThreadId {
    store.create(&session("root")).await.unwrap();
    thread("root")
}

/// A person's message whose text is its key.
pub fn message(thread: &ThreadId, key: &str) -> NewInput {
    NewInput::message(thread.clone(), key, vec![ContentPart::text(key)], "test")
}

/// An input by its stored id.
pub fn input(thread: &ThreadId, id: &str, body: InputBody) -> NewInput {
    let id = InputId::from_stored(id);
    NewInput { thread: thread.clone(), id, source: "test".into(), body, traceparent: None }
}

/// The outcome `done` of a call.
pub fn outcome(thread: &ThreadId, id: &str) -> NewInput {
    let body = InputBody::Outcome { call: call(id), outcome: Outcome::text("done") };
    NewInput { id: InputId::outcome(&call(id)), ..input(thread, "", body) }
}

/// An event of a subscription, for the subscribing thread itself.
pub fn event(thread: &ThreadId, of: &str, event: &str, is_final: bool) -> NewInput {
    let body = InputBody::Event { call: call(of), text: event.into(), associative: true, is_final };
    input(thread, &format!("event:{of}:{event}"), body)
}

/// The row of a call of `weather`, in a state.
pub fn call_row(of: &ThreadId, id: &str, state: CallState) -> CallRow {
    CallRow {
        id: call(id),
        thread: of.clone(),
        turn: 0,
        index: 0,
        name: "weather".into(),
        arguments: json!({"city": "Oslo"}),
        route: CallRoute::Rap,
        state,
        long_running: false,
        created_at: at(5),
        due_at: None,
        outcome: None,
    }
}

/// The row of a subscription, in a state.
pub fn subscription(of: &ThreadId, id: &str, state: SubscriptionState) -> SubscriptionRow {
    SubscriptionRow {
        call: call(id),
        thread: of.clone(),
        name: "watch".into(),
        arguments: json!({}),
        state,
        created_at: at(6),
    }
}

/// The trace that [`invocation`] goes along with.
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The invocation of a call, for the outbox.
pub fn invocation(of: &ThreadId, id: &str) -> NewDelivery {
    NewDelivery {
        kind: DeliveryKind::Invocation,
        thread: of.clone(),
        call: Some(call(id)),
        url: url("http://one/call?key=1"),
        body: json!({"operation": "weather", "id": id}),
        traceparent: Some(TRACE.to_owned()),
    }
}

/// A child of `parent` that sees the first `upto` entries of its history.
pub fn child(parent: &ThreadRow, id: &str, upto: u64) -> NewThread {
    let mut ancestors = parent.ancestors.clone();
    ancestors.push(parent.id.clone());
    let mut chain = parent.chain.clone();
    if upto > 0 {
        chain.push(Segment { thread: parent.id.clone(), upto });
    }
    NewThread {
        row: ThreadRow {
            id: thread(id),
            session: parent.session.clone(),
            ancestors,
            chain,
            kind: ThreadKind::Spawned { call: call("spawn"), arguments: json!({"instructions": "go"}) },
            version: 0,
            next_entry: 1,
            paused: false,
            closed: false,
            model_owed: true,
            turn_at: None,
            reported: false,
            retry_at: None,
            compaction: crate::Compaction::Idle,
            waits_for_room: None,
            model: parent.model.clone(),
            last_record: String::new(),
        },
        entries: vec![Entry::from_runtime(format!("you are {id}"))],
        surface: vec![],
    }
}

/// A commit that changes nothing but the version.
pub fn nothing(snapshot: &Snapshot) -> Commit {
    Commit {
        thread: snapshot.thread.id.clone(),
        version: snapshot.thread.version,
        seen: snapshot.inputs.last().map_or(0, |input| input.seq),
        consumed: vec![],
        dead_letters: vec![],
        entries: vec![],
        calls: vec![],
        subscriptions: vec![],
        threads: vec![],
        inputs: vec![],
        outbox: vec![],
        cancel: vec![],
        close: false,
        pause: false,
        stopped_by: None,
        resume: false,
        completed: false,
        tokens: 0,
        surface: vec![],
        update: ThreadUpdate::default(),
        shown: None,
        record: SliceRecord {
            moment: Moment { now: at(0), seed: 0 },
            inputs: vec![],
            request: None,
            turn: None,
            instants: vec![],
            decisions: 1,
            facts: None,
            commit: String::new(),
            previous: snapshot.thread.last_record.clone(),
            hash: format!("hash {}", snapshot.thread.version + 1),
        },
    }
}

/// A commit that uses up all inputs.
pub fn all_used(snapshot: &Snapshot) -> Commit {
    let consumed = snapshot.inputs.iter().map(|input| input.seq).collect();
    Commit { consumed, ..nothing(snapshot) }
}

/// Claims what is due, which must be this thread.
pub async fn claim(store: &dyn Store, of: &ThreadId, now: i64) -> Claim {
    let claim = store.claim(at(now)).await.unwrap().expect("a thread is due");
    assert_eq!(claim.thread, *of);
    claim
}

/// One slice of a thread that is due: what it decides is `decide`'s.
pub async fn slice(
    store: &dyn Store,
    of: &ThreadId,
    now: i64,
    decide: impl FnOnce(&Snapshot, &mut Commit),
) -> Committed {
    let claim = claim(store, of, now).await;
    let snapshot = store.load(&claim).await.unwrap();
    let mut commit = all_used(&snapshot);
    decide(&snapshot, &mut commit);
    let committed = store.commit(&claim, commit, at(now)).await.unwrap();
    store.release(claim).await.unwrap();
    committed
}

/// Wakes a thread and runs one slice of it.
pub async fn woken(
    store: &dyn Store,
    of: &ThreadId,
    key: &str,
    now: i64,
    decide: impl FnOnce(&Snapshot, &mut Commit),
) -> Committed {
    assert_eq!(store.accept(message(of, key), at(now)).await.unwrap(), Accepted::Accepted);
    slice(store, of, now, decide).await
}

/// What a slice of the thread would start from, without changing anything but waking it.
pub async fn seen(store: &dyn Store, of: &ThreadId, now: i64) -> Snapshot {
    let claim = claim(store, of, now).await;
    let snapshot = store.load(&claim).await.unwrap();
    store.release(claim).await.unwrap();
    snapshot
}

/// A future among others.
pub type Job<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for all of them, side by side; what they give, in their order.
pub async fn all<T>(mut jobs: Vec<Job<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (job, done) in jobs.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(value) = job.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
