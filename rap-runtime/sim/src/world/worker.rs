//! The workers: a slice from its claim to its commit, and the model that it asks.

use super::{Work, World};
use crate::{
    Fault,
    checks::{Checked, Violation, broken},
    model::{self, dice},
    network::Happening,
};
use rap_core::{
    CallRow, CallState, Commit, Compaction, DeliveryKind, DestructivePolicy, Entry, InputBody, InputId,
    Moment, NewInput, SliceMachine, Snapshot, Step, StoreError, TurnOutcome, UserAuthor,
};
use rap_types::CallId;
use serde_json::Value;
use std::sync::Arc;

const WORKERS: usize = 3;
/// How often a stream that breaks is tried, whatever it has said before (its chunks refill nothing).
pub(crate) const TRIES: u32 = 3;

impl World {
    /// The window of the model, as slices know it.
    fn window(&self) -> Option<u64> {
        (!self.is(Fault::ShowAllOfAResult)).then_some(model::WINDOW)
    }

    pub(super) fn claim(&mut self) -> Result<bool, Violation> {
        if self.workers.len() >= WORKERS {
            return Ok(false);
        }
        let now = self.clock();
        let Some(claim) = self.store.claim(now) else { return Ok(false) };
        let mut snapshot = self.store.load(&claim).map_err(|e| broken("P4", e.to_string()))?;
        if self.store_fails() {
            if !self.is(Fault::TakeAReadErrorForEmpty) {
                // Nothing was loaded: the claim goes back, and the thread is still due.
                self.store.release(&claim);
                return Ok(true);
            }
            snapshot.history = rap_core::History::new();
        }
        if self.is(Fault::SendUnasked) {
            Arc::make_mut(&mut snapshot.session).rules.destructive = DestructivePolicy::Allow;
        }
        if self.is(Fault::ForgetOpenCalls) && snapshot.calls.iter().any(|row| row.outcome.is_some()) {
            snapshot.calls.retain(|row| row.outcome.is_some() || row.state != CallState::Pending);
        }
        let newest_input = snapshot.inputs.last().map_or(0, |input| input.seq);
        if self.is(Fault::LoadEverything) {
            let all = self.store.calls(false).into_iter().map(|view| view.row);
            snapshot.calls = all.filter(|row| row.thread == claim.thread).collect();
        }
        if self.is(Fault::MakePeopleWait) && snapshot.calls.iter().any(|row| row.state == CallState::Pending)
        {
            snapshot.inputs.retain(|input| !matches!(input.body, InputBody::Message { .. }));
        }
        self.checks.loaded(&snapshot)?;
        if self.is(Fault::LosePeoplesWords) {
            snapshot.inputs.retain(|input| !matches!(input.body, InputBody::Approval { .. }));
        }
        let moment = Moment { now, seed: self.dice.u64(..) };
        let mut real = moment;
        if self.is(Fault::DecideByChance) {
            real.now = real.now + self.dice.i64(0..50_000);
        }
        self.next_worker += 1;
        let machine = machine(snapshot.clone(), real, self.window());
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
            broken: 0,
            newest_input,
            slices_before,
        });
        Ok(true)
    }

    pub(super) fn step(&mut self, index: usize) -> Checked {
        match self.workers[index].machine.step() {
            Step::Complete(request) => {
                self.checks.request(&request)?;
                self.checks.answers(&request, &self.workers[index].snapshot)?;
                self.asks(index)?;
                self.completions += 1;
                let quiet = self.completions > self.loud();
                let slices = self.checks.slices(&request.thread);
                let said = match model::later(self.seed, (request.thread.as_str(), slices)) {
                    Some(wait) if !quiet => {
                        self.report.put_off += 1;
                        let message = "the simulated model has no time".to_owned();
                        TurnOutcome::RetryAt { at: self.clock() + wait, message }
                    }
                    _ => model::says(self.seed, &request, quiet),
                };
                let takes = (dice(self.seed, (request.thread.as_str(), request.history.len(), "time"))
                    % 8_000) as i64;
                let work = &mut self.workers[index];
                work.said = Some(said);
                work.thinking = true;
                self.queue.push(self.now + takes, Happening::ModelDone { worker: work.id });
                // A lease that runs out while the model thinks: another worker may claim the thread.
                if self.dice.u8(0..25) == 0 {
                    self.lost_leases += 1;
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

    /// The model is asked: again only if a kill or a lost lease made that necessary (P6).
    fn asks(&mut self, index: usize) -> Checked {
        let work = &self.workers[index];
        let (thread, version) = (work.claim.thread.clone(), work.snapshot.thread.version);
        self.checks.asks(thread, version, self.report.crashes + self.lost_leases)
    }

    fn commit(&mut self, index: usize, mut commit: Commit) -> Checked {
        let work = &self.workers[index];
        let replayed = replay(work.snapshot.clone(), work.moment, self.window(), work.said.clone());
        if replayed != commit {
            return Err(broken("P12", format!("a slice of {} does not replay to its commit", commit.thread)));
        }
        let loaded = work.slices_before;
        let mut claim = work.claim.clone();
        self.spoil(index, &mut commit);
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
        if self.store_fails() {
            if self.is(Fault::TakeAnErrorForDone) {
                self.workers[index].machine.committed();
                return Ok(());
            }
            // Nothing was written: the slice is dropped, and made again.
            self.lost_leases += 1;
            let work = self.workers.swap_remove(index);
            self.store.release(&work.claim);
            return Ok(());
        }
        let now = self.clock();
        match self.store.commit(&claim, commit.clone(), now) {
            Ok(_) => {
                self.report.slices += 1;
                let by_parent =
                    |entry: &&Entry| matches!(entry, Entry::User(user) if user.author == UserAuthor::Parent);
                self.report.told += commit.entries.iter().filter(by_parent).count() as u64;
                self.checks.committed(&commit, loaded, &self.store)?;
                self.checks.costs(&self.workers[index].snapshot, &commit, now)?;
                let asks = |row: &&CallRow| row.state == CallState::AwaitingApproval;
                commit.calls.iter().filter(asks).for_each(|row| self.asked(&row.id));
                if self.store_fails() {
                    // It is written, and the worker does not know it.
                    let work = self.workers.swap_remove(index);
                    self.store.release(&work.claim);
                } else {
                    self.workers[index].machine.committed();
                }
                Ok(())
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
    fn spoil(&self, index: usize, commit: &mut Commit) {
        let is_late = |entry: &Entry| matches!(entry, Entry::Event(event) if model::all_text(&event.content).contains("<out-"));
        let by_person = |entry: &Entry| matches!(entry, Entry::User(user) if model::all_text(&user.content).contains("<msg-"));
        match self.fault {
            Some(Fault::DropLateOutcomes) => blank(&mut commit.entries, is_late),
            Some(Fault::DropMessages) => blank(&mut commit.entries, by_person),
            Some(Fault::KeepConsumedInputs) => commit.consumed.clear(),
            Some(Fault::SendOnlyTheFirstCall) => commit.outbox.truncate(1),
            Some(Fault::LoseReports) => commit.inputs.clear(),
            Some(Fault::LoseParentsMessages) => {
                commit.inputs.retain(|input| !matches!(input.body, InputBody::FromParent { .. }));
            }
            Some(Fault::ForgetToAskServers) => {
                commit.outbox.retain(|delivery| delivery.kind != DeliveryKind::Refresh);
            }
            Some(Fault::ReportTwice) => {
                let again = commit.inputs.iter().map(|input| NewInput {
                    id: InputId::between_threads(&format!("{}:again", input.id)),
                    ..input.clone()
                });
                commit.inputs.extend(again.collect::<Vec<_>>());
            }
            Some(Fault::ReuseCallIds) => reuse_call_id(commit),
            Some(Fault::PollForWork) if commit.update.due_at.is_none() && !commit.close && !commit.pause => {
                commit.update.due_at = Some(self.clock() + 1_000);
            }
            Some(Fault::SummariseForEver) if commit.update.compaction == Compaction::Fresh => {
                commit.update.compaction = Compaction::Asked;
            }
            Some(Fault::ForgetTheChosenModel) => commit.update.model = None,
            Some(Fault::ChooseForOneThreadOnly) => {
                commit.inputs.retain(|input| !matches!(input.body, InputBody::UseModel { .. }));
            }
            Some(Fault::LosePeoplesWords) => commit.seen = self.workers[index].newest_input,
            Some(Fault::RewriteWhatStands) => {
                let rows = &self.workers[index].snapshot.calls;
                let same = rows.iter().filter(|row| commit.calls.iter().all(|new| new.id != row.id));
                commit.calls.extend(same.cloned().collect::<Vec<_>>());
            }
            Some(Fault::LoseDeadLetters) => {
                commit.consumed.extend(commit.dead_letters.drain(..).map(|letter| letter.seq));
            }
            Some(Fault::MakePeopleWait) => commit.seen = self.workers[index].newest_input,
            Some(Fault::CancelWithoutNotice) => commit.cancel.clear(),
            Some(Fault::MixUpResults) => {
                for entry in &mut commit.entries {
                    if let Entry::Results { results } = entry {
                        results.reverse();
                    }
                }
            }
            Some(Fault::LoseResults) => {
                blank(&mut commit.entries, |entry| matches!(entry, Entry::Results { .. }));
            }
            Some(Fault::CloseTheBookOnDetachedCalls) => {
                let detached = commit.calls.iter_mut().filter(|row| row.state == CallState::Detached);
                detached.for_each(|row| row.state = CallState::Done);
            }
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

    pub(super) fn model_done(&mut self, worker: u64) -> Checked {
        let Some(index) = self.workers.iter().position(|work| work.id == worker) else { return Ok(()) };
        let work = &mut self.workers[index];
        let Some(said) = work.said.clone() else { return Ok(()) };
        let request = (work.claim.thread.as_str(), work.snapshot.thread.version);
        if model::breaks(self.seed, request, work.broken) {
            work.broken += 1;
            if work.broken < TRIES || self.fault == Some(Fault::RefillTheBudget) {
                self.checks.tries(work.broken)?;
                self.queue.push(self.now + 1_000, Happening::ModelDone { worker });
                return Ok(());
            }
            let failed = TurnOutcome::Failed { message: "the stream broke too often".into() };
            (work.said, work.thinking) = (Some(failed.clone()), false);
            work.machine.turn(failed);
            return Ok(());
        }
        if self.fault == Some(Fault::AskTwice) && work.broken == 0 {
            work.broken = TRIES;
            self.queue.push(self.now + 1_000, Happening::ModelDone { worker });
            return self.asks(index);
        }
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
        for id in work.machine.lacks(&said) {
            let row = self.store.call(&work.claim.thread, &id);
            work.snapshot.calls.extend(row.clone());
            row.into_iter().for_each(|row| work.machine.knows(row));
        }
        work.snapshot.calls.sort_by_key(|row| (row.turn, row.index));
        work.machine.turn(said);
        Ok(())
    }
}

/// Puts something else in the place of entries, so that the others keep their numbers.
fn blank(entries: &mut [Entry], which: impl Fn(&Entry) -> bool) {
    entries.iter_mut().filter(|entry| which(entry)).for_each(|entry| *entry = Entry::from_runtime("nothing"));
}

/// Gives the first call of a turn the id that another has.
fn reuse_call_id(commit: &mut Commit) {
    let turn = commit.entries.iter_mut().find_map(|entry| match entry {
        Entry::Turn(turn) if !turn.calls.is_empty() => Some(turn),
        _ => None,
    });
    let Some(turn) = turn else { return };
    let old = turn.calls[0].id.clone();
    let new = CallId::new("theverysameidasever1").expect("bug: a legal id");
    turn.calls[0].id = new.clone();
    for entry in &mut commit.entries {
        if let Entry::Results { results } = entry {
            results
                .iter_mut()
                .filter(|result| result.call == old)
                .for_each(|result| result.call = new.clone());
        }
    }
    commit.calls.iter_mut().filter(|row| row.id == old).for_each(|row| row.id = new.clone());
    for delivery in commit.outbox.iter_mut().filter(|delivery| delivery.call.as_ref() == Some(&old)) {
        delivery.call = Some(new.clone());
        delivery.body["id"] = Value::from(new.as_str());
    }
}

/// A slice that knows the window of the simulated model.
pub(crate) fn machine(snapshot: Snapshot, moment: Moment, window: Option<u64>) -> SliceMachine {
    SliceMachine::new(snapshot, moment).with_window(window)
}

pub(crate) fn replay(
    snapshot: Snapshot,
    moment: Moment,
    window: Option<u64>,
    said: Option<TurnOutcome>,
) -> Commit {
    let mut machine = machine(snapshot, moment, window);
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
