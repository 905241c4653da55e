//! The world of one seed: the runtime's workers and sender, one step at a time, among everything that happens.

mod compact;
mod gateway;
mod people;
mod script;
mod sender;
mod worker;

pub(crate) use script::session;
pub(crate) use worker::{TRIES, machine, replay};

use crate::{
    Fault,
    checks::{Checked, Checks, Violation, broken},
    model::dice,
    network::{Happening, Queue},
    server::Servers,
};
use compact::Job;
use rap_core::{
    Claim, InputBody, Millis, Moment, Settlement, SliceMachine, Snapshot, TurnOutcome, memory::Memory,
    replay::ThreadReplay,
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
    /// Summaries that were stored.
    pub summaries: u64,
    /// Words of people: on calls that need one, and answers to questions.
    pub words: u64,
    /// Times the store failed.
    pub store_errors: u64,
    /// Times the clock jumped.
    pub clock_jumps: u64,
    /// Outages of hours and days.
    pub outages: u64,
    /// Changes of the toolbox.
    pub refreshes: u64,
    /// Slices that were replayed from their records.
    pub replayed: u64,
    /// Times the model asked for a later time.
    pub put_off: u64,
    /// Times a person chose a model.
    pub choices: u64,
    /// Times a person wanted the servers asked again.
    pub looks: u64,
    /// Messages of parents that a child was shown.
    pub told: u64,
    /// Times the clock turned out to have been set back while the runtime was gone.
    pub set_back: u64,
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
        self.summaries += other.summaries;
        self.words += other.words;
        self.store_errors += other.store_errors;
        self.clock_jumps += other.clock_jumps;
        self.outages += other.outages;
        self.refreshes += other.refreshes;
        self.replayed += other.replayed;
        self.put_off += other.put_off;
        self.choices += other.choices;
        self.looks += other.looks;
        self.told += other.told;
        self.set_back += other.set_back;
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
    /// What the runtime's clock is ahead of the world's.
    skew: i64,
    /// What the machine's clock has been set back since the runtime started: a running one never goes back.
    set_back: i64,
    store: Memory,
    root: ThreadId,
    queue: Queue<Happening>,
    servers: Servers,
    checks: Checks,
    workers: Vec<Work>,
    /// Histories that are being summarised.
    jobs: Vec<Job>,
    up: bool,
    down_since: Millis,
    /// Toolboxes that the session had.
    toolboxes: Vec<rap_core::Toolbox>,
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
        store.create(&session(&root));
        let mut world = Self {
            seed,
            fault,
            dice: fastrand::Rng::with_seed(seed),
            now: Millis(0),
            skew: 0,
            set_back: 0,
            store,
            root,
            queue: Queue::default(),
            servers: Servers::default(),
            checks: Checks::default(),
            workers: Vec::new(),
            jobs: Vec::new(),
            up: true,
            down_since: Millis(0),
            toolboxes: Vec::new(),
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
            let due = if self.up { self.store.next_due().map(|due| due + -self.skew) } else { None };
            let due = due.filter(|due| *due > self.now);
            let next = [due, self.queue.next_at()].into_iter().flatten().min();
            let Some(next) = next else {
                self.report.calls = self.servers.jobs.len() as u64;
                self.report.threads = self.store.threads(&self.root).len() as u64;
                self.checks.at_rest(&self.store, &self.servers, &self.root)?;
                return self.replay_all();
            };
            self.now = self.now.max(next);
            if self.up {
                self.checks.time_passes(self.now, &self.store, &self.root)?;
            }
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
        if self.summarise()? {
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
            Happening::Word { call } => return self.word(call),
            Happening::Chosen { delivery, life, call, selected } => {
                return self.chosen(delivery, life, call, selected);
            }
            Happening::Summarised { job } => return self.summarised(job),
            Happening::Settle { delivery, life, settlement } => {
                if life == self.life && self.up {
                    self.settle(delivery, settlement);
                }
            }
            Happening::Refresh => self.refresh(),
            Happening::LookAgain => self.person_wants_a_look(),
            Happening::LookedAgain { delivery, life, asked_at } => {
                if life == self.life && self.up {
                    self.refresh();
                    self.checks.looked(asked_at);
                    self.settle(delivery, Settlement::Delivered);
                }
            }
            Happening::ClockJumps { by } => self.clock_jumps(by),
            Happening::AcceptLate { message, life } => {
                if life == self.life && self.up {
                    self.accept(&message);
                }
            }
            Happening::ModelDone { worker } => return self.model_done(worker),
            Happening::Message { n } => self.person_writes(n),
            Happening::Stop => self.person_controls("stop", InputBody::Stop),
            Happening::Compact => self.person_controls("compact", InputBody::Compact),
            Happening::Choose { n } => self.person_chooses(n),
            Happening::Crash => self.crash(),
            Happening::Outage { ms } => {
                if self.up {
                    self.report.outages += 1;
                    self.crash_for(ms);
                }
            }
            Happening::Start => {
                self.up = true;
                // The clock may have been set back meanwhile.
                self.skew -= std::mem::take(&mut self.set_back);
                self.checks.excuse(self.now - self.down_since);
                if !self.is(Fault::TrustTheClock) {
                    self.report.set_back += u64::from(self.store.clock_starts(self.clock()).is_some());
                }
                if self.is(Fault::ForgetTheOutbox) {
                    self.store.take(Millis(i64::MAX), usize::MAX);
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self) {
        let down = if self.dice.bool() { 0 } else { self.dice.i64(0..30_000) };
        self.crash_for(down);
    }

    fn crash_for(&mut self, down: i64) {
        if !self.up {
            return;
        }
        self.report.crashes += 1;
        self.up = false;
        self.down_since = self.now;
        self.life += 1;
        self.workers.clear();
        self.jobs.clear();
        self.store.crash();
        self.queue.push(self.now + down, Happening::Start);
    }

    /// What the runtime takes the time to be.
    fn clock(&self) -> Millis {
        self.now + self.skew
    }

    /// The machine's clock jumps. A running runtime follows it forwards, and back when it starts again.
    fn clock_jumps(&mut self, by: i64) {
        self.report.clock_jumps += 1;
        if by > 0 {
            self.skew += by;
        } else {
            self.set_back -= by;
        }
    }

    /// Whether the store fails now, having written nothing.
    fn store_fails(&mut self) -> bool {
        let fails = self.dice.u16(0..300) == 0;
        self.report.store_errors += u64::from(fails);
        fails
    }

    /// Writes down how a delivery ended; where the store fails, a moment later.
    fn settle(&mut self, delivery: i64, settlement: Settlement) {
        if self.store_fails() {
            let life = self.life;
            self.queue.push(self.now + 1_000, Happening::Settle { delivery, life, settlement });
            return;
        }
        self.store.settle(delivery, settlement, self.clock());
    }

    /// Every toolbox that the session had is kept, so that its slices can be replayed.
    fn refresh(&mut self) {
        let Some(session) = self.store.session(&self.root) else { return };
        self.report.refreshes += 1;
        self.toolboxes.push(session.toolbox.clone());
        let n = self.report.refreshes;
        let moved = script::moved(&session.toolbox, n);
        self.store.update_toolbox(&self.root.clone(), &session.toolbox, &moved);
    }

    /// P12, as it is read from a store later: the records, histories and inputs lead to the same commits. Dear, so
    /// one world in twenty does it.
    fn replay_all(&mut self) -> Checked {
        if self.fault.is_some() || !self.seed.is_multiple_of(20) {
            return Ok(());
        }
        let Some(session) = self.store.session(&self.root) else { return Ok(()) };
        for view in self.store.threads(&self.root) {
            let thread = view.row.id;
            let Some(history) = self.store.history(&thread) else { continue };
            let replay = ThreadReplay::new(session.clone(), history);
            let mut replay = replay.earlier_toolboxes(self.toolboxes.clone());
            for slice in self.store.slices(&thread, 0, usize::MAX) {
                let verdict = replay.slice(&slice).verdict;
                if !verdict.is_same() {
                    let message = format!("slice {} of {thread}, from its record: {verdict}", slice.version);
                    return Err(broken("P12", message));
                }
                self.report.replayed += 1;
            }
        }
        Ok(())
    }
}
