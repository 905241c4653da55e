//! The store beside the one in memory: the same happenings, decided by a seed and by the real machine, and
//! after each of them both say the same.

use rap_core::contract::hand::{at, call, session, thread};
use rap_core::{
    Claim, Commit, Compactor, CompactorStep, Delivery, DestructivePolicy, InputBody, InputId, Interaction,
    Millis, ModelCall, ModelTurn, Moment, NewInput, OfferedTool, Outcome, Settlement, SliceMachine, Snapshot,
    Step, Store, StoreError, TurnOutcome, memory::Memory,
};
use rap_store_sqlite::SqliteStore;
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId, ToolName};
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

struct Twins {
    memory: Memory,
    sqlite: SqliteStore,
    root: ThreadId,
    now: Millis,
    dice: u64,
    /// Numbers differ between the two: deliveries by the order in which they were first taken.
    held: Vec<(Delivery, Delivery)>,
    keys: u64,
    trace: Vec<String>,
}

/// What is the same in both: everything but the numbers that a store gives.
fn shape(delivery: &Delivery) -> impl PartialEq + Debug + use<> {
    let d = delivery.clone();
    (d.kind, d.thread, d.session, d.call, d.url, d.body, d.attempts, d.first_attempt)
}

fn seen(snapshot: &Snapshot) -> impl PartialEq + Debug + use<> {
    let mut s = snapshot.clone();
    s.inputs.iter_mut().for_each(|input| input.seq = 0);
    s.thread.last_record.clear();
    let about = (s.completions, s.open_threads, s.children, s.inputs, s.asking);
    (s.session, s.thread, s.history, s.calls, s.subscriptions, about)
}

impl Twins {
    async fn new(directory: &Path, seed: u64) -> Self {
        let mut session = session("root");
        let tool = |name: &str, server: usize| OfferedTool {
            name: name.into(),
            operation: ToolName::new(name).unwrap(),
            server,
            description: name.into(),
            input_schema: [("type".to_owned(), json!("object"))].into_iter().collect(),
            long_running: name == "slow",
            destructive: name == "raze",
            display_script: None,
        };
        session.toolbox.tools = vec![tool("quick", 0), tool("slow", 1), tool("watch", 0), tool("raze", 0)];
        session.rules.destructive = DestructivePolicy::Ask;
        session.rules.open_threads = 8;
        let mut memory = Memory::new();
        let sqlite = SqliteStore::open(directory.join("agent.db")).await.unwrap();
        memory.create(&session);
        sqlite.create(&session).await.unwrap();
        Self {
            memory,
            sqlite,
            root: thread("root"),
            now: at(1_000_000),
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            held: Vec::new(),
            keys: 0,
            trace: Vec::new(),
        }
    }

    fn roll(&mut self, sides: usize) -> usize {
        let mut hash = DefaultHasher::new();
        self.dice.hash(&mut hash);
        self.dice = hash.finish();
        usize::try_from(self.dice % sides as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let n = if from.is_empty() { return None } else { self.roll(from.len()) };
        Some(from[n].clone())
    }

    #[track_caller]
    fn same<T: PartialEq + Debug>(&self, what: &str, memory: T, sqlite: T) {
        if memory == sqlite {
            return;
        }
        let (memory, sqlite) = (format!("{memory:#?}"), format!("{sqlite:#?}"));
        let common = memory.lines().zip(sqlite.lines()).take_while(|(a, b)| a == b).count();
        let from =
            |text: &str| text.lines().skip(common.saturating_sub(12)).take(24).collect::<Vec<_>>().join("\n");
        let story = self.trace[self.trace.len().saturating_sub(40)..].join("\n");
        panic!("{what}, from line {common}\nmemory:\n{}\nsqlite:\n{}\n{story}", from(&memory), from(&sqlite));
    }

    fn some_thread(&mut self) -> ThreadId {
        let threads: Vec<_> = self.memory.threads(&self.root).into_iter().map(|view| view.row.id).collect();
        if self.roll(2) == 0 { self.root.clone() } else { self.pick(&threads).unwrap() }
    }

    fn some_call(&mut self) -> Option<(ThreadId, CallId)> {
        let calls: Vec<_> =
            self.memory.calls(false).into_iter().map(|view| (view.row.thread, view.row.id)).collect();
        // The newest are the most interesting.
        let recent = calls.len().saturating_sub(6);
        if self.roll(20) == 0 {
            Some((self.root.clone(), call("nobody's")))
        } else {
            self.pick(&calls[recent..])
        }
    }

    async fn accept(&mut self, thread: ThreadId, id: InputId, body: InputBody) {
        let input = NewInput { thread, id, source: "test".into(), body, traceparent: None };
        self.trace.push(format!("{}: {input:?}", self.now.0));
        let memory = self.memory.accept(input.clone(), self.now);
        let sqlite = self.sqlite.accept(input, self.now).await.unwrap();
        self.same("accept", memory, sqlite);
    }

    async fn something_arrives(&mut self) {
        self.keys += 1;
        let key = (self.keys - u64::from(self.roll(10) == 0)).to_string();
        match self.roll(12) {
            0..3 => {
                let content = vec![ContentPart::text(&*key)];
                let to = self.some_thread();
                self.accept(to, InputId::message(&key), InputBody::Message { content }).await;
            }
            3 => {
                let body = match self.roll(6) {
                    0 => InputBody::Close,
                    1..3 => InputBody::Stop,
                    3 => InputBody::UseModel { model: Some(key.clone()) },
                    _ => InputBody::Compact,
                };
                let to = self.some_thread();
                if body != InputBody::Close || to != self.root {
                    self.accept(to, InputId::control(&key), body).await;
                }
            }
            4..8 => {
                let Some((to, call)) = self.some_call() else { return };
                let subscription = self.roll(3) == 0;
                let outcome = Outcome { subscription, ..Outcome::text(&*key) };
                self.accept(to, InputId::outcome(&call), InputBody::Outcome { call, outcome }).await;
            }
            8..11 => {
                let Some((to, call)) = self.some_call() else { return };
                let (associative, is_final) = (self.roll(2) == 0, self.roll(5) == 0);
                let id = InputId::from_stored(format!("event:{call}:{key}"));
                let body = InputBody::Event { call, text: key, associative, is_final };
                self.accept(to, id, body).await;
            }
            _ => {
                let Some((to, call)) = self.some_call() else { return };
                let ask = Interaction::Choice {
                    call: call.clone(),
                    prompt: key,
                    choices: vec!["yes".into(), "no".into()],
                    default: 0,
                    response_url: HttpUrl::new("http://one/answer").unwrap(),
                };
                let memory = self.memory.interact(&to, ask.clone(), self.now);
                let sqlite = self.sqlite.interact(&to, ask, self.now).await.unwrap();
                self.same("interact", memory, sqlite);
                if self.roll(2) == 0 {
                    let n = self.roll(3) as u64;
                    let memory = self.memory.answer(&call, n, self.now);
                    let sqlite = self.sqlite.answer(&call, n, self.now).await.unwrap();
                    self.same("answer", memory, sqlite);
                }
            }
        }
    }

    fn model_says(&mut self, snapshot: &Snapshot) -> TurnOutcome {
        let mut stack = snapshot.thread.ancestors.clone();
        stack.push(snapshot.thread.id.clone());
        let arguments = |n: usize| match n {
            0 => ("spawn_thread", json!({"instructions": "go", "child_of": stack})),
            1 => ("sleep", json!({"seconds": 40})),
            2 => ("report_to_parent", json!({"report": "so far"})),
            3 => ("close_thread", json!({"thread_id": snapshot.thread.id})),
            4 => ("watch", json!({})),
            5 => ("slow", json!({})),
            6 => ("raze", json!({})),
            _ => ("quick", json!({"n": n})),
        };
        if self.roll(12) == 0 {
            return TurnOutcome::Overflow { message: "too long".into() };
        }
        let calls = (0..self.roll(4)).map(|_| self.roll(9)).collect::<Vec<_>>().into_iter();
        let calls = calls
            .map(|n| {
                let (name, arguments): (&str, Value) = arguments(n);
                ModelCall { name: name.into(), arguments, provider_id: None }
            })
            .collect();
        let text = format!("turn {}", self.dice % 1_000);
        TurnOutcome::Turn(ModelTurn { text, calls, model: "test".into(), ..ModelTurn::default() })
    }

    fn decide(snapshot: &Snapshot, moment: Moment, said: &TurnOutcome) -> Commit {
        let mut machine = SliceMachine::new(snapshot.clone(), moment);
        loop {
            match machine.step() {
                Step::Complete(_) => machine.turn(said.clone()),
                Step::Commit(commit) => return *commit,
                Step::Done => unreachable!("it has not committed"),
            }
        }
    }

    /// A history is summarised, if one is to be.
    async fn a_summary(&mut self) {
        let memory = self.memory.claim_compaction();
        let sqlite = self.sqlite.claim_compaction().await.unwrap();
        self.same("claim_compaction", memory.clone(), sqlite);
        let Some(thread) = memory else { return };
        if self.roll(5) > 0 {
            let view = self.memory.history(&thread).unwrap();
            let session = self.memory.session(&self.root).unwrap();
            let mut compactor = Compactor::new(session, &view, Some(2_000));
            let input = loop {
                match compactor.step() {
                    CompactorStep::Ask(_) => compactor.turn(TurnOutcome::Turn(ModelTurn {
                        text: format!("summary {}", self.dice % 1_000),
                        ..ModelTurn::default()
                    })),
                    CompactorStep::Done(input) => break *input,
                }
            };
            self.accept(input.thread, input.id, input.body).await;
        }
        self.memory.release_compaction(&thread);
        self.sqlite.release_compaction(&thread).await.unwrap();
    }

    async fn claim(&mut self) -> Option<(Claim, Claim)> {
        let memory = self.memory.claim(self.now);
        let sqlite = self.sqlite.claim(self.now).await.unwrap();
        self.same("claim", memory.clone().map(|c| c.thread), sqlite.clone().map(|c| c.thread));
        memory.zip(sqlite)
    }

    async fn a_slice(&mut self) {
        let Some((in_memory, in_sqlite)) = self.claim().await else { return };
        let memory = self.memory.load(&in_memory).unwrap();
        let sqlite = self.sqlite.load(&in_sqlite).await.unwrap();
        self.same("load", seen(&memory), seen(&sqlite));
        for _ in 0..self.roll(3) {
            self.something_arrives().await;
        }
        if self.roll(6) == 0 {
            // Another slice runs in between, perhaps one that closes or stops this one's thread.
            Box::pin(self.a_slice()).await;
        }
        let said = self.model_says(&memory);
        let moment = Moment { now: self.now, seed: 1 };
        let first = Self::decide(&memory, moment, &said);
        let second = Self::decide(&sqlite, moment, &said);
        self.trace.push(format!("{}: {first:?}", self.now.0));
        self.same("entries", &first.entries, &second.entries);
        self.same("record", &first.record.inputs, &second.record.inputs);
        let memory = self.memory.commit(&in_memory, first, self.now);
        let sqlite = self.sqlite.commit(&in_sqlite, second, self.now).await;
        let told = |result: Result<_, StoreError>| result.map_err(|error| error.to_string());
        self.same("commit", told(memory), told(sqlite));
        self.memory.release(&in_memory);
        self.sqlite.release(in_sqlite).await.unwrap();
    }

    async fn sending(&mut self) {
        let limit = 1 + self.roll(4);
        let memory = self.memory.take(self.now, usize::MAX);
        let sqlite = self.sqlite.take(self.now, usize::MAX).await.unwrap();
        let sorted = |mut taken: Vec<Delivery>| {
            taken.sort_by_key(|d| d.id);
            taken
        };
        let (memory, sqlite) = (sorted(memory), sorted(sqlite));
        let shapes = |taken: &[Delivery]| taken.iter().map(shape).collect::<Vec<_>>();
        self.same("take", shapes(&memory), shapes(&sqlite));
        self.held.extend(memory.into_iter().zip(sqlite));
        for _ in 0..limit {
            if self.held.is_empty() {
                return;
            }
            let n = self.roll(self.held.len());
            let (in_memory, in_sqlite) = self.held.swap_remove(n);
            let settlement = match (self.roll(5), &in_memory.call) {
                (0, _) => Settlement::RetryAt(self.now + 700),
                (1, Some(call)) => {
                    let may_have_arrived = self.roll(2) == 0;
                    let reason = "down".to_owned();
                    let body = InputBody::Undelivered { call: call.clone(), may_have_arrived, reason };
                    let input = NewInput {
                        thread: in_memory.thread.clone(),
                        id: InputId::undelivered(call),
                        source: "runtime".into(),
                        body,
                        traceparent: None,
                    };
                    Settlement::GaveUp { reason: "down".into(), input: Some(Box::new(input)) }
                }
                _ => Settlement::Delivered,
            };
            if self.roll(4) > 0 {
                let (memory, sqlite) =
                    (self.memory.begin(in_memory.id), self.sqlite.begin(in_sqlite.id).await.unwrap());
                self.same("begin", memory, sqlite);
            }
            self.trace.push(format!("{}: {settlement:?} {in_memory:?}", self.now.0));
            self.memory.settle(in_memory.id, settlement.clone(), self.now);
            self.sqlite.settle(in_sqlite.id, settlement, self.now).await.unwrap();
        }
    }

    /// All that anybody can read.
    async fn compare(&self) {
        let (memory, sqlite) = (&self.memory, &self.sqlite);
        self.same("next_due", memory.next_due(), sqlite.next_due().await.unwrap());
        self.same("sessions", memory.sessions(), sqlite.sessions().await.unwrap());
        let threads = memory.threads(&self.root);
        // A record names inputs by number, and each store counts in its own way.
        let unhashed = |views: &[rap_core::ThreadView]| {
            let mut views = views.to_vec();
            views.iter_mut().for_each(|view| view.row.last_record.clear());
            views
        };
        self.same("threads", unhashed(&threads), unhashed(&sqlite.threads(&self.root).await.unwrap()));
        for view in &threads {
            let id = &view.row.id;
            let unhashed = |view: Option<rap_core::HistoryView>| {
                view.map(|mut view| {
                    view.thread.row.last_record.clear();
                    view
                })
            };
            self.same("history", unhashed(memory.history(id)), unhashed(sqlite.history(id).await.unwrap()));
        }
        let by_id = |mut calls: Vec<rap_core::CallView>| {
            calls.sort_by(|a, b| a.row.id.cmp(&b.row.id));
            calls.into_iter().map(|view| (view.row, view.session, view.undelivered)).collect::<Vec<_>>()
        };
        self.same("calls", by_id(memory.calls(false)), by_id(sqlite.calls(false).await.unwrap()));
        let shown = |events: Vec<rap_core::Numbered>| {
            events.into_iter().map(|event| (event.at, event.event)).collect::<Vec<_>>()
        };
        let of_sqlite = sqlite.events(&self.root, 0, usize::MAX).await.unwrap();
        self.same("events", shown(memory.events(&self.root, 0, usize::MAX)), shown(of_sqlite));
        let letters = |letters: Vec<rap_core::DeadLetterView>| {
            letters.into_iter().map(|letter| (letter.at, letter.thread, letter.body)).collect::<Vec<_>>()
        };
        self.same("letters", letters(memory.dead_letters()), letters(sqlite.dead_letters().await.unwrap()));
        let asked = |open: Vec<rap_core::OpenInteraction>| {
            let mut open: Vec<_> = open.into_iter().map(|o| format!("{o:?}")).collect();
            open.sort();
            open
        };
        let of_sqlite = sqlite.interactions(&self.root).await.unwrap();
        self.same("interactions", asked(memory.interactions(&self.root)), asked(of_sqlite));
    }

    async fn happen(&mut self) {
        match self.roll(10) {
            0..4 => self.something_arrives().await,
            4..7 => self.a_slice().await,
            7 => self.sending().await,
            8 => {
                self.sending().await;
                self.a_summary().await;
            }
            _ => self.now = self.now + [1, 500, 31_000][self.roll(3)],
        }
    }
}

/// P1 to P6 are proved on the store in memory by the simulation; here both stores do the same. `TWINS=1000`
/// runs so many seeds, `TWINS_FROM` begins with another than the first.
#[tokio::test(flavor = "multi_thread")]
async fn both_stores_say_the_same() {
    let from = |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (first, last) = (from("TWINS_FROM", 1), from("TWINS", 6));
    for seed in first..=last {
        let directory = tempfile::tempdir().unwrap();
        let mut twins = Twins::new(directory.path(), seed).await;
        for step in 0..60 {
            twins.trace.push(format!("seed {seed} step {step}"));
            twins.happen().await;
            twins.compare().await;
        }
    }
}
