//! A small world around the machine: a store in memory, a clock, a model that says what it is told to say,
//! and servers that take whatever is sent.

use crate::strict;
use rap_core::{
    Accepted, CallRow, CallState, Compactor, CompactorStep, Delivery, DeliveryKind, Entry, InputBody,
    InputId, InstantTools, Millis, ModelCall, ModelRequest, ModelTurn, Moment, NewInput, OfferedTool,
    OwnTool, Rules, ServerCard, Session, Settlement, SliceMachine, Step, Surface, ThreadState, Toolbox,
    TurnOutcome, memory::Memory, replay::ThreadReplay,
};
use rap_types::{CallId, ContentPart, EventId, HttpUrl, SubscriptionEvent, ThreadId, ToolName, ToolResult};
use serde_json::{Value, json};
use std::collections::VecDeque;

pub(crate) struct World {
    pub(crate) store: Memory,
    pub(crate) now: Millis,
    pub(crate) root: ThreadId,
    /// What the model says, in order of completions.
    script: VecDeque<TurnOutcome>,
    /// What it was asked.
    pub(crate) requests: Vec<ModelRequest>,
    /// What the model says when it is to summarise.
    pub(crate) summaries: VecDeque<TurnOutcome>,
    /// What it was asked to summarise.
    pub(crate) summarised: Vec<ModelRequest>,
    /// What servers were sent.
    pub(crate) sent: Vec<Delivery>,
    /// The servers that nothing reaches: what is taken for them is held and not begun.
    pub(crate) offline: bool,
    /// What is held.
    pub(crate) held: Vec<Delivery>,
    /// The window of the model, in tokens.
    pub(crate) window: Option<u64>,
    /// What answers instant tools.
    pub(crate) instants: InstantTools,
    keys: u32,
}

/// A turn of text.
pub(crate) fn says(text: &str) -> TurnOutcome {
    turn(text, &[])
}

/// A turn of text and calls.
pub(crate) fn turn(text: &str, calls: &[(&str, Value)]) -> TurnOutcome {
    let calls = calls
        .iter()
        .map(|(name, arguments)| ModelCall {
            name: (*name).to_owned(),
            arguments: arguments.clone(),
            provider_id: None,
        })
        .collect();
    TurnOutcome::Turn(ModelTurn {
        text: text.to_owned(),
        calls,
        model: "test".into(),
        ..ModelTurn::default()
    })
}

fn tool(name: &str, schema: Value) -> OfferedTool {
    let Value::Object(input_schema) = schema else { panic!("a schema is an object") };
    OfferedTool {
        name: name.to_owned(),
        operation: ToolName::new(name).unwrap(),
        server: 0,
        description: name.to_owned(),
        input_schema,
        long_running: name == "build",
        destructive: name == "drop",
        display_script: None,
    }
}

impl World {
    /// A session with the tools `a`, `b`, `c`, `build` (long-running), `drop` (destructive) and `watch`.
    pub(crate) fn new() -> Self {
        Self::with(Rules::default())
    }

    pub(crate) fn with(rules: Rules) -> Self {
        Self::with_own(rules, Vec::new())
    }

    /// With tools of the program's own as well.
    pub(crate) fn with_own(rules: Rules, own: Vec<OwnTool>) -> Self {
        let root = ThreadId::new("root").unwrap();
        let any = json!({"type": "object"});
        let city =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let mut tools: Vec<_> =
            ["a", "b", "c", "build", "drop", "watch"].map(|name| tool(name, any.clone())).into();
        tools.push(tool("weather", city));
        let server = |host: &str| ServerCard {
            name: host.into(),
            base: HttpUrl::new(format!("http://{host}/base")).unwrap(),
            endpoint: HttpUrl::new(format!("http://{host}/invoke?x=1")).unwrap(),
        };
        let session = Session {
            id: root.clone(),
            owner: None,
            user: None,
            created_at: Millis(0),
            model: None,
            system: "You are a test.".into(),
            toolbox: Toolbox {
                tools,
                own,
                servers: vec![server("one"), server("two")],
                ..Toolbox::default()
            },
            rules,
        };
        let mut store = Memory::new();
        store.create(&session);
        Self {
            store,
            now: Millis(1_000_000),
            root,
            script: VecDeque::new(),
            requests: Vec::new(),
            summaries: VecDeque::new(),
            summarised: Vec::new(),
            sent: Vec::new(),
            offline: false,
            held: Vec::new(),
            window: None,
            instants: InstantTools::none(),
            keys: 0,
        }
    }

    pub(crate) fn model(&mut self, turns: impl IntoIterator<Item = TurnOutcome>) -> &mut Self {
        self.script.extend(turns);
        self
    }

    /// Runs every slice that is due, sends every request that is due, until nothing is.
    pub(crate) fn run(&mut self) {
        for _ in 0..1000 {
            let ran = self.slice();
            let sent = self.send();
            let summarised = self.summarise();
            if !ran && !sent && !summarised {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// One slice, if one is due.
    pub(crate) fn slice(&mut self) -> bool {
        let Some(claim) = self.store.claim(self.now) else { return false };
        let mut snapshot = self.store.load(&claim).unwrap();
        let moment = Moment { now: self.now, seed: 7 };
        let mut machine = SliceMachine::new(snapshot.clone(), moment)
            .with_window(self.window)
            .with_instant_tools(self.instants.clone());
        let mut outcome = None;
        loop {
            match machine.step() {
                Step::Complete(request) => {
                    strict::check(&request);
                    self.requests.push(*request);
                    let next = self.script.pop_front();
                    let said =
                        next.unwrap_or_else(|| panic!("the model was asked once more: {:#?}", self.told()));
                    outcome = Some(said.clone());
                    for id in machine.lacks(&said) {
                        let row = self.store.call(&claim.thread, &id);
                        snapshot.calls.extend(row.clone());
                        row.into_iter().for_each(|row| machine.knows(row));
                    }
                    snapshot.calls.sort_by_key(|row| (row.turn, row.index));
                    machine.turn(said);
                }
                Step::Commit(commit) => {
                    let again =
                        replay(snapshot.clone(), moment, (self.window, &self.instants), outcome.clone());
                    assert_eq!(*commit, again, "P12: it replays");
                    self.store.commit(&claim, *commit, self.now).unwrap();
                    machine.committed();
                }
                Step::Done => break,
            }
        }
        self.store.release(&claim);
        true
    }

    fn send(&mut self) -> bool {
        let taken = self.store.take(self.now, 100);
        if self.offline {
            self.held.extend(taken);
            return false;
        }
        for delivery in &taken {
            assert!(self.store.begin(delivery.id));
            self.store.settle(delivery.id, Settlement::Delivered, self.now);
        }
        let any = !taken.is_empty();
        self.sent.extend(taken);
        any
    }

    /// Summarises a thread's history, if that is owed and the model has something to say.
    fn summarise(&mut self) -> bool {
        if self.summaries.is_empty() {
            return false;
        }
        let Some(thread) = self.store.claim_compaction() else { return false };
        let view = self.store.history(&thread).unwrap();
        let session = self.store.session(&view.thread.row.session).unwrap();
        let mut compactor = Compactor::new(session, &view, Some(10_000));
        loop {
            match compactor.step() {
                CompactorStep::Ask(request) => {
                    strict::check(&request);
                    assert!(request.tools.is_empty());
                    self.summarised.push(*request);
                    compactor
                        .turn(self.summaries.pop_front().expect("the model was asked for one more summary"));
                }
                CompactorStep::Done(input) => {
                    assert_eq!(self.store.accept(*input, self.now), Accepted::Accepted);
                    break;
                }
            }
        }
        self.store.release_compaction(&thread);
        true
    }

    pub(crate) fn advance(&mut self, ms: i64) {
        self.now = self.now + ms;
    }

    pub(crate) fn accept(&mut self, input: NewInput) -> Accepted {
        self.store.accept(input, self.now)
    }

    pub(crate) fn user(&mut self, text: &str) -> Accepted {
        let root = self.root.clone();
        self.user_of(&root, text)
    }

    pub(crate) fn user_of(&mut self, thread: &ThreadId, text: &str) -> Accepted {
        self.keys += 1;
        let key = self.keys.to_string();
        self.accept(NewInput::message(thread.clone(), &key, vec![ContentPart::text(text)], "test"))
    }

    pub(crate) fn control(&mut self, body: InputBody) {
        self.keys += 1;
        let id = InputId::control(&self.keys.to_string());
        let thread = self.root.clone();
        self.accept(NewInput { thread, id, source: "test".into(), body, traceparent: None });
    }

    /// The newest call of a tool.
    pub(crate) fn call(&self, name: &str) -> CallRow {
        let calls = self.store.calls(false);
        let found = calls.into_iter().rev().find(|call| call.row.name == name);
        found.unwrap_or_else(|| panic!("no call of {name}")).row
    }

    pub(crate) fn state(&self, name: &str) -> CallState {
        self.call(name).state
    }

    pub(crate) fn result(&mut self, name: &str, text: &str) -> Accepted {
        let row = self.call(name);
        self.accept(NewInput::result(ToolResult::text(row.thread, row.id, text), None))
    }

    pub(crate) fn confirm(&mut self, name: &str, text: &str) -> Accepted {
        let row = self.call(name);
        self.accept(NewInput::result(ToolResult::text(row.thread, row.id, text).with_subscription(), None))
    }

    pub(crate) fn undelivered(&mut self, name: &str, may_have_arrived: bool) -> Accepted {
        let row = self.call(name);
        let body = InputBody::Undelivered {
            call: row.id.clone(),
            may_have_arrived,
            reason: "the server is down".into(),
        };
        let id = InputId::undelivered(&row.id);
        self.accept(NewInput { thread: row.thread, id, source: "runtime".into(), body, traceparent: None })
    }

    pub(crate) fn event(&mut self, name: &str, event_id: &str, text: &str) -> Accepted {
        self.event_with(name, event_id, |event| with_text(event, text))
    }

    pub(crate) fn event_with(
        &mut self,
        name: &str,
        event_id: &str,
        change: impl FnOnce(SubscriptionEvent) -> SubscriptionEvent,
    ) -> Accepted {
        let row = self.call(name);
        let event = SubscriptionEvent::new(row.thread, row.id, "").event_id(EventId::new(event_id).unwrap());
        self.accept(NewInput::event(change(event), "", None))
    }

    /// The children of the root, in order.
    pub(crate) fn children(&self) -> Vec<ThreadId> {
        let threads = self.store.threads(&self.root);
        threads.into_iter().map(|view| view.row.id).filter(|id| *id != self.root).collect()
    }

    pub(crate) fn thread_state(&self, thread: &ThreadId) -> ThreadState {
        let threads = self.store.threads(&self.root);
        threads.into_iter().find(|view| view.row.id == *thread).unwrap().state
    }

    /// The root's history, a line an entry.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told_of(&self.root)
    }

    /// A thread's history, a line an entry, ids left out.
    pub(crate) fn told_of(&self, thread: &ThreadId) -> Vec<String> {
        let view = self.store.history(thread).unwrap();
        view.entries.iter().map(|entry| line(entry)).collect()
    }

    pub(crate) fn sent(&self, kind: DeliveryKind) -> Vec<String> {
        let of_kind = self.sent.iter().filter(|delivery| delivery.kind == kind);
        of_kind.map(|delivery| delivery.url.to_string()).collect()
    }

    pub(crate) fn shown(&self) -> Vec<Surface> {
        self.store.events(&self.root, 0, 10_000).into_iter().map(|numbered| numbered.event.what).collect()
    }
}

/// P12: whatever a test did, all its slices replay from what was recorded.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for view in self.store.threads(&self.root) {
            let thread = view.row.id;
            let history = self.store.history(&thread).unwrap();
            let mut replay = ThreadReplay::new(self.store.session(&self.root).unwrap(), history);
            for slice in self.store.slices(&thread, 0, usize::MAX) {
                let replayed = replay.slice(&slice);
                assert!(replayed.verdict.is_same(), "{thread} {}: {}", slice.version, replayed.verdict);
            }
        }
    }
}

fn replay(
    snapshot: rap_core::Snapshot,
    moment: Moment,
    (window, instants): (Option<u64>, &InstantTools),
    outcome: Option<TurnOutcome>,
) -> rap_core::Commit {
    let mut machine =
        SliceMachine::new(snapshot, moment).with_window(window).with_instant_tools(instants.clone());
    loop {
        match machine.step() {
            Step::Complete(_) => machine.turn(outcome.clone().unwrap()),
            Step::Commit(commit) => return *commit,
            Step::Done => unreachable!(),
        }
    }
}

fn line(entry: &Entry) -> String {
    let text = |content: &[ContentPart]| {
        let parts = content.iter().map(|part| match part {
            ContentPart::Text(text) => text.text.clone(),
            _ => "[image]".to_owned(),
        });
        let text = parts.collect::<Vec<_>>().join(" ");
        text.chars().take(60).collect::<String>()
    };
    match entry {
        Entry::User(user) => format!("{:?}: {}", user.author, text(&user.content)),
        Entry::Turn(turn) => {
            let names: Vec<_> = turn.calls.iter().map(|call| call.name.as_str()).collect();
            let cut = if turn.interrupted { " (interrupted)" } else { "" };
            format!("model: {}{cut} {names:?}", turn.text)
        }
        Entry::Results { results } => {
            let lines = results.iter().map(|result| {
                let mark = if result.placeholder { "~" } else { "" };
                format!("{mark}{}", text(&result.content))
            });
            format!("results: {}", lines.collect::<Vec<_>>().join(" | "))
        }
        Entry::Summary(summary) => format!("summary: {}", summary.text),
        Entry::Event(event) => format!("event of {}: {}", event.original_tool_name, text(&event.content)),
        other => format!("{other:?}"),
    }
}

pub(crate) fn call_id(id: &str) -> CallId {
    CallId::new(id).unwrap()
}

pub(crate) fn with_text(mut event: SubscriptionEvent, text: &str) -> SubscriptionEvent {
    text.clone_into(&mut event.text);
    event
}
