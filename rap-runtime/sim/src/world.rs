//! The world of one seed: the runtime's workers and sender, one step at a time, among everything that happens.

mod gateway;
mod script;
mod sender;
mod worker;

pub(crate) use script::session;
pub(crate) use worker::{TRIES, replay};

use crate::{
    Fault,
    checks::{Checked, Checks, Violation, broken},
    model::dice,
    network::{Happening, Queue},
    server::Servers,
};
use rap_core::{
    Claim, InputBody, InputId, Millis, Moment, NewInput, SliceMachine, Snapshot, TurnOutcome, memory::Memory,
};
use rap_types::ThreadId;

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

/// The most completions before the model says nothing but text; every tenth world is a large one.
const LOUD_COMPLETIONS: u64 = 40;
const LOUD_COMPLETIONS_IN_LARGE_WORLDS: u64 = 150;

struct Work {
    id: u64,
    claim: Claim,
    snapshot: Snapshot,
    moment: Moment,
    machine: SliceMachine,
    said: Option<TurnOutcome>,
    thinking: bool,
    /// Tries of its completion that broke.
    broken: u32,
    /// The newest input that was there when it was loaded.
    newest_input: i64,
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
    queue: Queue<Happening>,
    servers: Servers,
    checks: Checks,
    workers: Vec<Work>,
    up: bool,
    /// The incarnation of the runtime: answers to an earlier one are lost.
    life: u32,
    next_worker: u64,
    completions: u64,
    /// Leases that ran out while their worker was at work.
    lost_leases: u64,
    report: Report,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut store = Memory::new();
        let root = ThreadId::new("root").expect("bug: a legal id");
        store.create(&session(&root, &[]));
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
            lost_leases: 0,
            report: Report::default(),
        };
        world.script();
        world
    }

    /// After so many completions the model says nothing but text, so that the world comes to rest.
    fn loud(&self) -> u64 {
        if self.seed.is_multiple_of(10) { LOUD_COMPLETIONS_IN_LARGE_WORLDS } else { LOUD_COMPLETIONS }
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

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Invocation { delivery, life, body } => return self.invoked(delivery, life, &body),
            // Half of the servers finish what they began all the same.
            Happening::Cancel { call } => {
                let heeds = dice(self.seed, (call.as_str(), "cancel")) % 2 == 0;
                self.servers.cancel(&call, heeds);
            }
            Happening::ThreadClosed { thread } => {
                let heeds = dice(self.seed, (thread.as_str(), "close")) % 2 == 0;
                self.servers.close(&thread, heeds);
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
            Happening::ModelDone { worker } => return self.model_done(worker),
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
}
