//! The world of one seed: the runtime's workers and sender, one step at a time, among everything that happens.

use crate::{
    Fault,
    checks::{Checked, Checks, Violation, broken, marks},
    model::{self, dice},
    network::{Answer, Happening, Queue},
    server::{self, Servers, TOOLS},
};
use rap_core::{
    Accepted, CallState, Claim, Commit, DeliveryKind, Entry, InputBody, InputId, Millis, Moment, NewInput,
    OfferedTool, Rules, ServerCard, Session, Settlement, SliceMachine, Snapshot, Step, StoreError, Toolbox,
    TurnOutcome, memory::Memory,
};
use rap_types::{CallbackMessage, ContentPart, HttpUrl, ThreadId, ToolName};
use serde_json::{Map, Value};

/// What a run was like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Slices that committed.
    pub slices: u64,
    /// Slices that lost their claim.
    pub fenced: u64,
    /// Times the runtime died.
    pub crashes: u64,
    /// Callbacks that were accepted.
    pub callbacks: u64,
    /// Calls that servers worked.
    pub calls: u64,
    /// Threads.
    pub threads: u64,
}

impl Report {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.slices += other.slices;
        self.fenced += other.fenced;
        self.crashes += other.crashes;
        self.callbacks += other.callbacks;
        self.calls += other.calls;
        self.threads += other.threads;
    }
}

/// Runs the world of a seed to its rest.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Report, Violation> {
    let mut world = World::new(seed, fault);
    world.run()?;
    Ok(world.report)
}

/// The most completions before the model says nothing but text.
const LOUD_COMPLETIONS: u64 = 40;
const WORKERS: usize = 3;
/// How long an invocation is tried.
const WINDOW_MS: i64 = 120_000;

struct Work {
    id: u64,
    claim: Claim,
    snapshot: Snapshot,
    moment: Moment,
    machine: SliceMachine,
    said: Option<TurnOutcome>,
    thinking: bool,
    /// Slices of the thread that were committed when this one was loaded.
    slices_before: u64,
}

struct World {
    seed: u64,
    fault: Option<Fault>,
    dice: fastrand::Rng,
    now: Millis,
    store: Memory,
    root: ThreadId,
    queue: Queue,
    servers: Servers,
    checks: Checks,
    workers: Vec<Work>,
    up: bool,
    /// The incarnation of the runtime: answers to an earlier one are lost.
    life: u32,
    next_worker: u64,
    completions: u64,
    report: Report,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut store = Memory::new();
        let root = ThreadId::new("root").expect("bug: a legal id");
        store.create(&session(&root));
        let mut world = Self {
            seed,
            fault,
            dice: fastrand::Rng::with_seed(seed),
            now: Millis(0),
            store,
            root,
            queue: Queue::default(),
            servers: Servers::default(),
            checks: Checks::default(),
            workers: Vec::new(),
            up: true,
            life: 0,
            next_worker: 0,
            completions: 0,
            report: Report::default(),
        };
        world.script();
        world
    }

    /// What people do, and when the runtime dies.
    fn script(&mut self) {
        let mut at = 0;
        for n in 0..self.dice.u32(2..6) {
            self.queue.push(Millis(at), Happening::Message { n });
            at += self.dice.i64(0..120_000);
        }
        if self.dice.u8(0..4) == 0 {
            let stop = self.dice.i64(0..at.max(1));
            self.queue.push(Millis(stop), Happening::Stop);
            self.queue.push(Millis(at + 300_000), Happening::Message { n: 99 });
        }
        for _ in 0..self.dice.u32(0..5) {
            let crash = self.dice.i64(0..at.max(1) + 60_000);
            self.queue.push(Millis(crash), Happening::Crash);
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn run(&mut self) -> Checked {
        for _ in 0..200_000 {
            let busy = self.up && self.dice.u8(0..4) > 0 && self.act()?;
            if busy {
                // A crash between any two steps.
                if self.up && self.dice.u16(0..400) == 0 && self.report.crashes < 8 {
                    self.crash();
                }
                continue;
            }
            if self.queue.next_at().is_some_and(|at| at <= self.now) {
                let happening = self.queue.pop().expect("bug: it was peeked");
                self.happen(happening)?;
                continue;
            }
            if self.up && self.act()? {
                continue;
            }
            // What is due already waits for a worker.
            let due = if self.up { self.store.next_due().filter(|due| *due > self.now) } else { None };
            let next = [due, self.queue.next_at()].into_iter().flatten().min();
            let Some(next) = next else {
                self.report.calls = self.servers.jobs.len() as u64;
                self.report.threads = self.store.threads(&self.root).len() as u64;
                return self.checks.at_rest(&self.store, &self.servers, &self.root);
            };
            self.now = self.now.max(next);
            self.checks.time_passes(self.now, &self.store, &self.root)?;
        }
        let due = self.store.next_due();
        let busy: Vec<_> = self.workers.iter().map(|work| (&work.claim.thread, work.thinking)).collect();
        let message = format!(
            "the world does not come to rest: now {:?}, due {due:?}, busy {busy:?}, {:?}",
            self.now, self.report
        );
        Err(broken("P7", message))
    }

    /// One step of the runtime, if it has one to make.
    fn act(&mut self) -> Result<bool, Violation> {
        let ready: Vec<usize> = self
            .workers
            .iter()
            .enumerate()
            .filter(|(_, work)| !work.thinking)
            .map(|(index, _)| index)
            .collect();
        let choice = self.dice.usize(0..ready.len() + 2);
        if let Some(index) = ready.get(choice) {
            self.step(*index)?;
            return Ok(true);
        }
        if choice == ready.len() && self.take() {
            return Ok(true);
        }
        if self.claim()? {
            return Ok(true);
        }
        if self.take() {
            return Ok(true);
        }
        if let Some(index) = ready.first() {
            self.step(*index)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn claim(&mut self) -> Result<bool, Violation> {
        if self.workers.len() >= WORKERS {
            return Ok(false);
        }
        let Some(claim) = self.store.claim(self.now) else { return Ok(false) };
        let mut snapshot = self.store.load(&claim).map_err(|e| broken("P4", e.to_string()))?;
        if self.is(Fault::ForgetOpenCalls) && snapshot.calls.iter().any(|row| row.outcome.is_some()) {
            snapshot.calls.retain(|row| row.outcome.is_some() || row.state != CallState::Pending);
        }
        let moment = Moment { now: self.now, seed: self.dice.u64(..) };
        let mut real = moment;
        if self.is(Fault::DecideByChance) {
            real.now = real.now + self.dice.i64(0..50_000);
        }
        self.next_worker += 1;
        let machine = SliceMachine::new(snapshot.clone(), real);
        let id = self.next_worker;
        let slices_before = self.checks.slices(&claim.thread);
        self.workers.push(Work {
            id,
            claim,
            snapshot,
            moment,
            machine,
            said: None,
            thinking: false,
            slices_before,
        });
        Ok(true)
    }

    fn step(&mut self, index: usize) -> Checked {
        match self.workers[index].machine.step() {
            Step::Complete(request) => {
                self.checks.request(&request)?;
                self.completions += 1;
                let said = model::says(self.seed, &request, self.completions > LOUD_COMPLETIONS);
                let takes = (dice(self.seed, (request.thread.as_str(), request.history.len(), "time"))
                    % 8_000) as i64;
                let work = &mut self.workers[index];
                work.said = Some(said);
                work.thinking = true;
                self.queue.push(self.now + takes, Happening::ModelDone { worker: work.id });
                // A lease that runs out while the model thinks: another worker may claim the thread.
                if self.dice.u8(0..25) == 0 {
                    self.store.release(&work.claim.clone());
                }
            }
            Step::Commit(commit) => self.commit(index, *commit)?,
            Step::Done => {
                let work = self.workers.swap_remove(index);
                self.store.release(&work.claim);
            }
        }
        Ok(())
    }

    fn commit(&mut self, index: usize, mut commit: Commit) -> Checked {
        let work = &self.workers[index];
        let replayed = replay(work.snapshot.clone(), work.moment, work.said.clone());
        if replayed != commit {
            return Err(broken("P12", format!("a slice of {} does not replay to its commit", commit.thread)));
        }
        let loaded = work.slices_before;
        let mut claim = work.claim.clone();
        self.spoil(&mut commit);
        if self.is(Fault::SendBeforeCommit) {
            let reachable = |body: &Value| !matches!(body["operation"].as_str(), Some("refused" | "deaf"));
            for delivery in commit.outbox.iter().filter(|delivery| reachable(&delivery.body)) {
                let body = delivery.body.clone();
                self.queue.push(self.now, Happening::Invocation { delivery: -1, life: self.life, body });
            }
            if self.dice.u8(0..8) == 0 {
                self.crash();
                return Ok(());
            }
        }
        if self.is(Fault::SkipTheFence)
            && let Some((holder, version)) = self.store.holder(&claim.thread)
        {
            (claim, commit.version) = (holder, version);
        }
        match self.store.commit(&claim, commit.clone(), self.now) {
            Ok(_) => {
                self.report.slices += 1;
                self.workers[index].machine.committed();
                self.checks.committed(&commit, loaded, &self.store)
            }
            Err(StoreError::Fenced) => {
                self.report.fenced += 1;
                self.workers.swap_remove(index);
                Ok(())
            }
            Err(error) => Err(broken("P1", error.to_string())),
        }
    }

    /// Makes the mistakes that live in what a commit says.
    fn spoil(&self, commit: &mut Commit) {
        let is_late = |entry: &Entry| matches!(entry, Entry::Event(event) if model::all_text(&event.content).contains("<out-"));
        let by_person = |entry: &Entry| matches!(entry, Entry::User(user) if model::all_text(&user.content).contains("<msg-"));
        match self.fault {
            Some(Fault::DropLateOutcomes) => blank(&mut commit.entries, is_late),
            Some(Fault::DropMessages) => blank(&mut commit.entries, by_person),
            Some(Fault::KeepConsumedInputs) => commit.consumed.clear(),
            Some(Fault::SendOnlyTheFirstCall) => commit.outbox.truncate(1),
            Some(Fault::LoseReports) => commit.inputs.clear(),
            Some(Fault::LoseDueTimes) => commit.update.due_at = None,
            Some(Fault::OverlookUnseenInputs) => commit.seen = i64::MAX - 1,
            Some(Fault::InheritOpenCalls) => {
                let upto = commit.entries.len() as u64 + 1_000;
                for thread in &mut commit.threads {
                    if let Some(segment) = thread.row.chain.last_mut() {
                        segment.upto = upto;
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes what is due from the outbox and gives it to the network.
    fn take(&mut self) -> bool {
        let taken = self.store.take(self.now, 4);
        for delivery in &taken {
            self.store.begin(delivery.id);
            let d = self.dice.u64(..);
            let there = (d % 400) as i64;
            let (id, life) = (delivery.id, self.life);
            match delivery.kind {
                DeliveryKind::Invocation => {
                    let given_up = delivery.first_attempt.is_some_and(|first| self.now - first > WINDOW_MS);
                    let tool = delivery.body["operation"].as_str().unwrap_or_default();
                    let answer = match tool {
                        _ if given_up => None,
                        "refused" => Some(Answer::Refused),
                        "deaf" => Some(Answer::Silence),
                        _ => None,
                    };
                    if let Some(answer) = answer {
                        self.queue.push(self.now + there, Happening::Answer { delivery: id, life, answer });
                    } else if given_up {
                        self.give_up(id, delivery, true);
                    } else if d.is_multiple_of(11) {
                        // Lost on the way.
                        let answer = Happening::Answer { delivery: id, life, answer: Answer::Silence };
                        self.queue.push(self.now + 1_000, answer);
                    } else {
                        let body = delivery.body.clone();
                        self.queue.push(self.now + there, Happening::Invocation { delivery: id, life, body });
                    }
                }
                DeliveryKind::CancelToolCall => {
                    if let Some(call) = delivery.call.clone() {
                        self.queue.push(self.now + there, Happening::Cancel { call });
                    }
                    self.store.settle(id, Settlement::Delivered, self.now);
                }
                _ => self.store.settle(id, Settlement::Delivered, self.now),
            }
        }
        !taken.is_empty()
    }

    fn give_up(&mut self, id: i64, delivery: &rap_core::Delivery, may_have_arrived: bool) {
        let input = delivery.call.clone().map(|call| {
            let reason = "the server cannot be reached".to_owned();
            Box::new(NewInput {
                thread: delivery.thread.clone(),
                id: InputId::undelivered(&call),
                source: "runtime".into(),
                body: InputBody::Undelivered { call, may_have_arrived, reason },
                traceparent: None,
            })
        });
        self.store.settle(id, Settlement::GaveUp { reason: "gave up".into(), input }, self.now);
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Invocation { delivery, life, body } => return self.invoked(delivery, life, &body),
            Happening::Cancel { call } => {
                if let Some(job) = self.servers.jobs.get_mut(&call) {
                    // Half of the servers finish what they began all the same.
                    job.cancelled = dice(self.seed, (call.as_str(), "cancel")) % 2 == 0;
                    job.gone = true;
                }
            }
            Happening::Answer { delivery, life, answer } => self.answered(delivery, life, answer),
            Happening::WorkDone { call } => {
                if let Some(message) = self.servers.work(&call) {
                    self.post(message);
                }
            }
            Happening::Emit { call, n } => {
                let last = (dice(self.seed, (call.as_str(), "events")) % 4) as u32 + 1;
                if let Some(message) = self.servers.emit(&call, n, last) {
                    self.post(message);
                    let pause = (dice(self.seed, (call.as_str(), n)) % 60_000) as i64;
                    self.queue.push(self.now + pause, Happening::Emit { call, n: n + 1 });
                }
            }
            Happening::Callback { message, attempt } => self.callback(*message, attempt),
            Happening::AcceptLate { message, life } => {
                if life == self.life && self.up {
                    self.accept(&message);
                }
            }
            Happening::ModelDone { worker } => self.model_done(worker),
            Happening::Message { n } => self.person_writes(n),
            Happening::Stop => {
                if self.up {
                    let thread = self.root.clone();
                    let id = InputId::control("stop");
                    let body = InputBody::Stop;
                    self.store.accept(
                        NewInput { thread, id, source: "sim".into(), body, traceparent: None },
                        self.now,
                    );
                }
            }
            Happening::Crash => self.crash(),
            Happening::Start => {
                self.up = true;
                if self.is(Fault::ForgetTheOutbox) {
                    self.store.take(Millis(i64::MAX), usize::MAX);
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self) {
        if !self.up {
            return;
        }
        self.report.crashes += 1;
        self.up = false;
        self.life += 1;
        self.workers.clear();
        self.store.crash();
        let down = if self.dice.bool() { 0 } else { self.dice.i64(0..30_000) };
        self.queue.push(self.now + down, Happening::Start);
    }

    fn invoked(&mut self, delivery: i64, life: u32, body: &Value) -> Checked {
        let id = body["id"].as_str().unwrap_or_default();
        self.checks.received(id, &self.store)?;
        if let Some(call) = self.servers.receive(body) {
            let tool = body["operation"].as_str().unwrap_or_default();
            let takes = server::duration(tool, dice(self.seed, (call.as_str(), "work")));
            self.queue.push(self.now + takes, Happening::WorkDone { call });
        }
        // The acknowledgement may get lost on its way back.
        let lost = dice(self.seed, (id, delivery, life)).is_multiple_of(7);
        let answer = if lost { Answer::Silence } else { Answer::Taken };
        self.queue.push(self.now + 5, Happening::Answer { delivery, life, answer });
        Ok(())
    }

    fn answered(&mut self, delivery: i64, life: u32, answer: Answer) {
        if life != self.life || !self.up {
            return; // Whoever waited for it is gone; the outbox sends it again.
        }
        match answer {
            Answer::Taken => self.store.settle(delivery, Settlement::Delivered, self.now),
            Answer::Silence => {
                let again = self.now + 2_000 + self.dice.i64(0..10_000);
                self.store.settle(delivery, Settlement::RetryAt(again), self.now);
            }
            Answer::Refused => {
                if let Some(row) = self.store.delivery(delivery) {
                    self.give_up(delivery, &row, false);
                }
            }
        }
    }

    /// A server posts a callback; the network may double it.
    fn post(&mut self, message: CallbackMessage) {
        let times = if self.dice.u8(0..8) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let there = self.dice.i64(0..400);
            let message = Box::new(message.clone());
            self.queue.push(self.now + there, Happening::Callback { message, attempt: 0 });
        }
    }

    fn callback(&mut self, message: CallbackMessage, attempt: u32) {
        let again = |world: &mut Self, message: CallbackMessage| {
            if attempt < server::TRIES {
                let at = world.now + server::retry_after(attempt);
                world
                    .queue
                    .push(at, Happening::Callback { message: Box::new(message), attempt: attempt + 1 });
            }
        };
        if !self.up {
            again(self, message);
            return;
        }
        if self.is(Fault::AnswerBeforeAccepting) {
            self.promised(&message);
            let at = self.now + self.dice.i64(0..3_000);
            let life = self.life;
            self.queue.push(at, Happening::AcceptLate { message: Box::new(message), life });
            return;
        }
        let accepted = self.accept(&message);
        if self.dice.u8(0..9) == 0 {
            again(self, message); // The answer was lost: the server does not know that it was taken.
            return;
        }
        match accepted {
            Accepted::Accepted | Accepted::Duplicate | Accepted::Discarded(_) => self.promised(&message),
            Accepted::Busy => again(self, message),
            Accepted::UnknownThread | Accepted::Ended => {
                if let Some(job) = message.tool_call_id().and_then(|call| self.servers.jobs.get_mut(call)) {
                    job.gone = true;
                }
            }
        }
    }

    /// The server was told that the message was taken.
    fn promised(&mut self, message: &CallbackMessage) {
        match message {
            CallbackMessage::ToolResult(result) => {
                self.checks.promise(result.as_text().unwrap_or_default());
                let Some(job) = self.servers.jobs.get_mut(&result.id) else { return };
                if result.subscription && !job.confirmed {
                    job.confirmed = true;
                    self.queue.push(self.now, Happening::Emit { call: result.id.clone(), n: 1 });
                }
            }
            CallbackMessage::SubscriptionEvent(event) => self.checks.promise(&event.text),
            _ => {}
        }
    }

    fn accept(&mut self, message: &CallbackMessage) -> Accepted {
        let input = match message.clone() {
            CallbackMessage::ToolResult(result) => NewInput::result(result, None),
            CallbackMessage::SubscriptionEvent(mut event) => {
                if self.is(Fault::IgnoreEventIds) {
                    event.event_id = None;
                }
                let nonce = self.dice.u64(..).to_string();
                NewInput::event(event, &nonce, None)
            }
            _ => return Accepted::Discarded("not simulated".into()),
        };
        self.report.callbacks += 1;
        self.store.accept(input, self.now)
    }

    fn model_done(&mut self, worker: u64) {
        let Some(index) = self.workers.iter().position(|work| work.id == worker) else { return };
        let work = &mut self.workers[index];
        let Some(said) = work.said.clone() else { return };
        // A person wrote meanwhile: the turn is cut short.
        let newest = work.snapshot.inputs.last().map_or(0, |input| input.seq);
        let interrupted = self.store.has_newer_message(&work.claim.thread, newest);
        let said = match said {
            TurnOutcome::Turn(turn) if interrupted => {
                let text = if turn.text.len() % 2 == 0 { String::new() } else { turn.text };
                TurnOutcome::Interrupted { text, model: turn.model }
            }
            said => said,
        };
        work.said = Some(said.clone());
        work.thinking = false;
        work.machine.turn(said);
    }

    fn person_writes(&mut self, n: u32) {
        if !self.up {
            self.queue.push(self.now + 1_000, Happening::Message { n });
            return;
        }
        let text = format!("<msg-{n}>");
        let message = NewInput::message(
            self.root.clone(),
            &n.to_string(),
            vec![ContentPart::text(text.as_str())],
            "sim",
        );
        if self.store.accept(message, self.now) == Accepted::Accepted {
            debug_assert!(!marks(&text).is_empty());
            self.checks.person_wrote(&self.root.clone(), &text, self.now);
        }
    }
}

/// Puts something else in the place of entries, so that the others keep their numbers.
fn blank(entries: &mut [Entry], which: impl Fn(&Entry) -> bool) {
    entries.iter_mut().filter(|entry| which(entry)).for_each(|entry| *entry = Entry::from_runtime("nothing"));
}

fn replay(snapshot: Snapshot, moment: Moment, said: Option<TurnOutcome>) -> Commit {
    let mut machine = SliceMachine::new(snapshot, moment);
    loop {
        match machine.step() {
            Step::Complete(_) => {
                let failed = TurnOutcome::Failed { message: "no completion was recorded".into() };
                machine.turn(said.clone().unwrap_or(failed));
            }
            Step::Commit(commit) => return *commit,
            Step::Done => unreachable!("bug: a machine commits before it is done"),
        }
    }
}

fn session(root: &ThreadId) -> Session {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    let tool = |name: &str| OfferedTool {
        name: name.into(),
        operation: ToolName::new(name).expect("bug: a legal name"),
        server: 0,
        description: name.into(),
        input_schema: schema.clone(),
        long_running: name == "build",
        destructive: false,
        display_script: None,
    };
    let url = |text: &str| HttpUrl::new(text).expect("bug: a legal URL");
    let server =
        ServerCard { name: "sim".into(), base: url("http://sim/"), endpoint: url("http://sim/invoke") };
    Session {
        id: root.clone(),
        owner: None,
        user: None,
        created_at: Millis(0),
        model: None,
        system: "You are simulated.".into(),
        toolbox: Toolbox { tools: TOOLS.map(tool).into(), servers: vec![server], without: Vec::new() },
        rules: Rules::default(),
    }
}
