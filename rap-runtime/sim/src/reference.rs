//! The reference scenario, and a kill at every one of its writes, sends and completions: P6, enumerated.
//!
//! One agent meets all that the runtime promises to get through: three tools in parallel (one late, one failing,
//! one that never answers), a child thread, a subscription, a person's answer, a cancel, a timer, a message while
//! calls pend, and a close at the end. Nothing in it is left to chance, and a restart takes no time: so a run
//! that is killed anywhere must end as the one that is not, word for word.

mod scene;

use crate::{
    checks::{Checked, Checks, Violation, broken},
    network::Queue,
    server::{Job, Received, Servers},
    world::{machine, replay, session},
};
use rap_core::{
    Accepted, Answered, CallRow, CallState, Claim, Compactor, CompactorStep, Delivery, DeliveryKind, Entry,
    InputBody, InputId, Interaction, Millis, Moment, NewInput, Settlement, Step, TurnOutcome, memory::Memory,
};
use rap_runtime::ScriptedModel;
use rap_types::{CallId, CallbackMessage, ContentPart, HttpUrl, ThreadId, ToolResult, UserChoice};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the enumeration covered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enumerated {
    /// Runs, each killed at another point.
    pub kills: u64,
    /// The points by what was being done there.
    pub points: BTreeMap<&'static str, u64>,
    /// What happened in the run without a kill, in the order in which it was first seen.
    pub story: Vec<String>,
}

/// Runs the reference scenario without a kill, then once for every point at which it can be killed.
///
/// # Errors
/// The first promise that was broken, with the point of the kill.
pub fn reference() -> Result<Enumerated, Violation> {
    let mut calm = Reference::new(None);
    calm.run()?;
    let expected = calm.essence();
    let mut enumerated =
        Enumerated { kills: calm.points.len() as u64, points: BTreeMap::new(), story: calm.story() };
    for point in &calm.points {
        *enumerated.points.entry(point).or_default() += 1;
    }
    for (n, point) in calm.points.iter().enumerate() {
        let at = |violation: Violation| {
            broken(violation.promise, format!("killed at point {n} ({point}): {}", violation.message))
        };
        let mut killed = Reference::new(Some(n));
        killed.run().map_err(at)?;
        if killed.lives != 2 {
            return Err(at(broken("P6", "the point was not reached")));
        }
        if killed.asked > calm.asked + 1 {
            return Err(at(broken("P6", "more than one completion was made again")));
        }
        difference(&expected, &killed.essence()).map_err(at)?;
    }
    Ok(enumerated)
}

fn difference(calm: &[String], killed: &[String]) -> Checked {
    let differs = calm.iter().zip(killed).find(|(calm, killed)| calm != killed);
    match differs {
        Some((calm, killed)) => {
            Err(broken("P6", format!("it ends in another way: instead of\n{calm}\nthere is\n{killed}")))
        }
        None if calm.len() != killed.len() => {
            Err(broken("P6", format!("it ends in {} lines instead of {}", killed.len(), calm.len())))
        }
        None => Ok(()),
    }
}

/// The runtime died: nothing that it held in memory goes on.
struct Killed;

enum Happening {
    Message(&'static str),
    Want(&'static str, InputBody),
    Callback(Box<CallbackMessage>),
    Work(CallId),
    Emit(CallId, u32),
    Answer(CallId),
}

struct Reference {
    store: Memory,
    model: ScriptedModel,
    root: ThreadId,
    now: Millis,
    queue: Queue<Happening>,
    servers: Servers,
    checks: Checks,
    /// Points passed so far, by what was done there.
    points: Vec<&'static str>,
    kill_at: Option<usize>,
    lives: u32,
    asked: u64,
    violation: Option<Violation>,
}

impl Reference {
    fn new(kill_at: Option<usize>) -> Self {
        let root = ThreadId::new("root").expect("bug: a legal id");
        let mut store = Memory::new();
        store.create(&session(&root));
        let mut queue = Queue::default();
        for (at, text) in scene::MESSAGES {
            queue.push(Millis(at), Happening::Message(text));
        }
        queue.push(Millis(scene::COMPACT_AT), Happening::Want("compact", InputBody::Compact));
        queue.push(Millis(scene::CLOSE_AT), Happening::Want("close", InputBody::Close));
        Self {
            store,
            model: scene::model(),
            root,
            now: Millis(0),
            queue,
            servers: Servers::default(),
            checks: Checks::default(),
            points: Vec::new(),
            kill_at,
            lives: 1,
            asked: 0,
            violation: None,
        }
    }

    fn run(&mut self) -> Checked {
        for _ in 0..10_000 {
            match self.work() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Killed) => {
                    // What was claimed or taken is free again; whatever else was in memory is gone.
                    self.store.crash();
                    self.lives += 1;
                    continue;
                }
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            let next = [self.store.next_due(), self.queue.next_at()].into_iter().flatten().min();
            let Some(next) = next else { return self.checks.at_rest(&self.store, &self.servers, &self.root) };
            self.now = self.now.max(next);
        }
        Err(broken("P7", "the reference scenario does not come to rest"))
    }

    /// An instant at which the runtime can be killed.
    fn point(&mut self, what: &'static str) -> Result<(), Killed> {
        self.points.push(what);
        if self.kill_at == Some(self.points.len() - 1) { Err(Killed) } else { Ok(()) }
    }

    fn hold(&mut self, checked: Checked) {
        if let Err(violation) = checked {
            self.violation.get_or_insert(violation);
        }
    }

    /// One thing that is to be done now; false if there is none.
    fn work(&mut self) -> Result<bool, Killed> {
        if let Some(delivery) = self.store.take(self.now, 1).pop() {
            self.send(&delivery)?;
        } else if let Some(claim) = self.store.claim(self.now) {
            self.slice(&claim)?;
        } else if let Some(thread) = self.store.claim_compaction() {
            self.summarise(&thread)?;
        } else if self.queue.next_at().is_some_and(|at| at <= self.now) {
            let happening = self.queue.pop().expect("bug: it was peeked");
            self.happen(happening)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn slice(&mut self, claim: &Claim) -> Result<(), Killed> {
        let mut snapshot = match self.store.load(claim) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.hold(Err(broken("P4", error.to_string())));
                return Err(Killed);
            }
        };
        let checked = self.checks.loaded(&snapshot);
        self.hold(checked);
        let moment = Moment { now: self.now, seed: 1 };
        let window = Some(crate::model::WINDOW);
        let mut machine = machine(snapshot.clone(), moment, window);
        let mut said: Option<TurnOutcome> = None;
        loop {
            match machine.step() {
                Step::Complete(request) => {
                    let checked = self.checks.request(&request);
                    self.hold(checked);
                    self.point("before a completion")?;
                    self.asked += 1;
                    let outcome = scene::says(&self.model, &request);
                    self.point("after a completion")?;
                    said = Some(outcome.clone());
                    for id in machine.lacks(&outcome) {
                        let row = self.store.call(&claim.thread, &id);
                        snapshot.calls.extend(row.clone());
                        row.into_iter().for_each(|row| machine.knows(row));
                    }
                    snapshot.calls.sort_by_key(|row| (row.turn, row.index));
                    machine.turn(outcome);
                }
                Step::Commit(commit) => {
                    if replay(snapshot.clone(), moment, window, said.clone()) != *commit {
                        self.hold(Err(broken("P12", "a slice does not replay to its commit")));
                    }
                    self.point("before a commit")?;
                    let loaded = self.checks.slices(&claim.thread);
                    if let Err(error) = self.store.commit(claim, (*commit).clone(), self.now) {
                        self.hold(Err(broken("P4", error.to_string())));
                        return Err(Killed);
                    }
                    let asks = |row: &&CallRow| row.state == CallState::AwaitingApproval;
                    for row in commit.calls.iter().filter(asks) {
                        self.queue.push(self.now + scene::PERSON_THINKS, Happening::Answer(row.id.clone()));
                    }
                    let checked = self.checks.committed(&commit, loaded, &self.store);
                    self.hold(checked);
                    let checked = self.checks.costs(&snapshot, &commit, self.now);
                    self.hold(checked);
                    self.point("during a commit: written, and nobody was told")?;
                    machine.committed();
                }
                Step::Done => {
                    self.point("after a commit")?;
                    self.store.release(claim);
                    return Ok(());
                }
            }
        }
    }

    /// A history is summarised: whole, or from the beginning again.
    fn summarise(&mut self, thread: &ThreadId) -> Result<(), Killed> {
        let (Some(view), Some(session)) = (self.store.history(thread), self.store.session(&self.root)) else {
            return Ok(());
        };
        let checked = self.checks.summarises(thread, u64::from(self.lives) - 1);
        self.hold(checked);
        let mut compactor = Compactor::new(session, &view, None);
        loop {
            match compactor.step() {
                CompactorStep::Ask(request) => {
                    let checked = self.checks.summary_request(&request);
                    self.hold(checked);
                    self.point("before a summary")?;
                    self.asked += 1;
                    compactor.turn(scene::summary(&request));
                    self.point("after a summary")?;
                }
                CompactorStep::Done(input) => {
                    self.accept(*input)?;
                    self.store.release_compaction(thread);
                    return self.point("after a summary was handed in");
                }
            }
        }
    }

    fn send(&mut self, delivery: &Delivery) -> Result<(), Killed> {
        self.point("before a send")?;
        if !self.store.begin(delivery.id) {
            return Ok(());
        }
        match delivery.kind {
            DeliveryKind::Invocation => self.invoked(&delivery.body),
            DeliveryKind::CancelToolCall => {
                if let Some(call) = &delivery.call {
                    self.servers.cancel(call, true);
                }
            }
            DeliveryKind::CloseThread => self.servers.close(&delivery.thread, true),
            DeliveryKind::ChoiceAnswer => {
                if let Some(call) = delivery.call.clone() {
                    self.queue.push(self.now + 1_000, Happening::Work(call));
                }
            }
            _ => {}
        }
        self.point("during a send: it arrived, and its answer did not")?;
        self.store.settle(delivery.id, Settlement::Delivered, self.now);
        self.point("after a send")
    }

    fn invoked(&mut self, body: &Value) {
        let id = body["id"].as_str().unwrap_or_default();
        let tool = body["operation"].as_str().unwrap_or_default();
        let checked = self.checks.received(id, tool, &self.store);
        self.hold(checked);
        match self.servers.receive(body) {
            Received::New(call) if body["operation"] == "ask" => {
                let url = HttpUrl::new("http://sim/answer").expect("bug: a legal URL");
                let choices = vec!["yes".into(), "no".into()];
                let choice = UserChoice::new(self.root.clone(), call, "Deploy?", choices, 1_u64, url)
                    .expect("bug: a legal question");
                let message = Box::new(CallbackMessage::UserChoice(choice));
                self.queue.push(self.now + 1_000, Happening::Callback(message));
            }
            Received::New(call) => {
                let takes = scene::duration(body["operation"].as_str().unwrap_or_default());
                self.queue.push(self.now + takes, Happening::Work(call));
            }
            Received::Again => {}
            Received::Changed => {
                let message = format!("the call {id} came again with another content");
                self.hold(Err(broken("P6", message)));
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Killed> {
        match happening {
            Happening::Message(text) => {
                let message =
                    NewInput::message(self.root.clone(), text, vec![ContentPart::text(text)], "sim");
                let accepted = self.accept(message);
                if accepted.is_err() {
                    // Its sender heard nothing, and sends it again.
                    self.queue.push(self.now, Happening::Message(text));
                }
                accepted?;
                self.checks.promise(text);
            }
            Happening::Want(key, body) => {
                let input = NewInput {
                    thread: self.root.clone(),
                    id: InputId::control(key),
                    source: "sim".into(),
                    body: body.clone(),
                    traceparent: None,
                };
                self.checks.wanted(&body);
                let accepted = self.accept(input);
                if accepted.is_err() {
                    self.queue.push(self.now, Happening::Want(key, body));
                }
                accepted?;
            }
            Happening::Work(call) => {
                let message = match self.servers.jobs.get(&call) {
                    Some(job) if job.worked > 0 => None,
                    _ => self.servers.work(&call),
                };
                if let Some(message) = message {
                    self.queue.push(self.now, Happening::Callback(Box::new(message)));
                }
            }
            Happening::Emit(call, n) => {
                if let Some(message) = self.servers.emit(&call, n, scene::EVENTS) {
                    self.queue.push(self.now, Happening::Callback(Box::new(message)));
                    self.queue.push(self.now + scene::BETWEEN_EVENTS, Happening::Emit(call, n + 1));
                }
            }
            Happening::Callback(message) => self.callback(message)?,
            Happening::Answer(call) => {
                let answered = self.answer(&call);
                if answered.is_err() {
                    self.queue.push(self.now, Happening::Answer(call));
                }
                answered?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, input: NewInput) -> Result<Accepted, Killed> {
        self.point("before an input is accepted")?;
        let accepted = self.store.accept(input, self.now);
        self.point("during an input's acceptance: written, and nobody was told")?;
        Ok(accepted)
    }

    fn callback(&mut self, message: Box<CallbackMessage>) -> Result<(), Killed> {
        let answer = match (*message).clone() {
            CallbackMessage::ToolResult(result) => self.accept(NewInput::result(result, None)),
            CallbackMessage::SubscriptionEvent(event) => self.accept(NewInput::event(event, "", None)),
            CallbackMessage::UserChoice(choice) => self.ask(choice),
            _ => return Ok(()),
        };
        let Ok(answer) = answer else {
            // The server heard nothing, and sends it again.
            self.queue.push(self.now, Happening::Callback(message));
            return Err(Killed);
        };
        let taken = matches!(answer, Accepted::Accepted | Accepted::Duplicate | Accepted::Discarded(_));
        match *message {
            CallbackMessage::ToolResult(result) if taken => self.confirmed(&result),
            CallbackMessage::SubscriptionEvent(event) if taken => self.checks.promise(&event.text),
            CallbackMessage::UserChoice(choice) if taken => {
                self.queue.push(self.now + scene::PERSON_THINKS, Happening::Answer(choice.id));
            }
            _ => {}
        }
        self.point("after an input is accepted")
    }

    fn confirmed(&mut self, result: &ToolResult) {
        self.checks.promise(result.as_text().unwrap_or_default());
        if let Some(job) = self.servers.jobs.get_mut(&result.id)
            && result.subscription
            && !std::mem::replace(&mut job.confirmed, true)
        {
            self.queue.push(self.now + scene::BETWEEN_EVENTS, Happening::Emit(result.id.clone(), 1));
        }
    }

    fn ask(&mut self, choice: UserChoice) -> Result<Accepted, Killed> {
        self.point("before a question is kept")?;
        let thread = choice.group_id.clone();
        let asked = Interaction::Choice {
            choices: choice.choices().to_vec(),
            call: choice.id,
            prompt: choice.prompt,
            default: 1,
            response_url: choice.response_url,
        };
        let accepted = self.store.interact(&thread, asked, self.now);
        self.point("during a question: kept, and nobody was told")?;
        Ok(accepted)
    }

    fn answer(&mut self, call: &CallId) -> Result<(), Killed> {
        self.point("before a question is answered")?;
        let allows = self.store.call_state(call) == Some(CallState::AwaitingApproval);
        let answered = self.store.answer(call, u64::from(allows), self.now);
        match answered {
            Answered::Accepted => self.checks.person_decided(call, true),
            Answered::Already => {}
            // The answer was taken, its sender died before it knew, and the call has gone on meanwhile.
            _ if self.checks.has_decided(call) => {}
            other => self.hold(Err(broken("P9", format!("a person's answer was not taken: {other:?}")))),
        }
        self.point("during an answer: written, and nobody was told")
    }

    /// All that the run has left behind, but for times and for what a repetition may change: how often
    /// something was asked for or sent.
    fn essence(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for view in self.store.threads(&self.root) {
            let row = &view.row;
            let (id, state) = (&row.id, view.state);
            lines.push(format!("thread {id}: {state:?}, {:?}, {} slices", row.kind, row.version));
            let history = self.store.history(id).map(|history| history.entries).unwrap_or_default();
            for entry in history {
                lines.push(format!("  {}", json!(*entry)));
            }
        }
        let mut calls = self.store.calls(false);
        calls.sort_by(|a, b| a.row.id.cmp(&b.row.id));
        for call in calls {
            let row = call.row;
            lines.push(format!(
                "call {} of {}: {:?} {:?}, in the outbox: {}",
                row.id, row.name, row.state, row.outcome, call.undelivered
            ));
        }
        for letter in self.store.dead_letters() {
            lines.push(format!("dead letter {} {}: {}", letter.thread, letter.what, letter.reason));
        }
        for event in self.store.events(&self.root, 0, usize::MAX) {
            lines.push(format!("shown {}", json!(event.event)));
        }
        for (call, job) in &self.servers.jobs {
            let Job { worked, cancelled, told, .. } = job;
            lines.push(format!("{call} at its server: worked {worked}, cancelled {cancelled}, told {told}"));
        }
        lines
    }

    /// What kinds of things happened, so that a test can see that the scenario holds what it claims.
    fn story(&self) -> Vec<String> {
        let mut story: Vec<String> = Vec::new();
        let mut add = |what: String| {
            if !story.contains(&what) {
                story.push(what);
            }
        };
        for event in self.store.events(&self.root, 0, usize::MAX) {
            let shown = json!(event.event);
            let late = if shown["late"] == true { " late" } else { "" };
            let error = if shown["is_error"] == true { " error" } else { "" };
            let name = shown["name"].as_str().unwrap_or_default();
            add(format!("{} {name}{late}{error}", shown["kind"].as_str().unwrap_or_default())
                .trim()
                .to_owned());
        }
        for view in self.store.calls(false) {
            add(format!("{} ends {:?}", view.row.name, view.row.state).to_lowercase());
        }
        for view in self.store.threads(&self.root) {
            let entries = self.store.history(&view.row.id).map(|history| history.entries).unwrap_or_default();
            let interrupted = |entry: &Entry| matches!(entry, Entry::Results { results } if results.iter().any(|r| r.placeholder));
            if entries.iter().any(|entry| interrupted(entry)) {
                add("placeholder".into());
            }
        }
        story
    }
}
