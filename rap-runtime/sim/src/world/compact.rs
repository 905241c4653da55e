//! Histories that are summarised beside the slices, and what the model makes of that.

use super::World;
use crate::{
    Fault,
    checks::{Checked, Violation},
    model::{self, dice},
    network::Happening,
};
use rap_core::{Accepted, Compactor, CompactorStep, InputBody, NewInput};
use rap_types::ThreadId;

/// A summary in the making.
pub(super) struct Job {
    id: u64,
    thread: ThreadId,
    compactor: Compactor,
    /// How often the model was asked for it.
    asked: u64,
    /// It is whole, and the store did not take it yet.
    whole: bool,
}

impl World {
    /// Takes on a history that is to be summarised, if there is one.
    pub(super) fn summarise(&mut self) -> Result<bool, Violation> {
        if self.is(Fault::ForgetToSummarise) || !self.jobs.is_empty() {
            return Ok(false);
        }
        let Some(thread) = self.store.claim_compaction() else { return Ok(false) };
        let (Some(view), Some(session)) = (self.store.history(&thread), self.store.session(&self.root))
        else {
            return Ok(false);
        };
        let excuses = self.report.crashes;
        self.checks.summarises(&thread, excuses)?;
        self.next_worker += 1;
        let compactor = Compactor::new(session, &view, Some(model::WINDOW));
        self.jobs.push(Job { id: self.next_worker, thread, compactor, asked: 0, whole: false });
        self.go_on(self.jobs.len() - 1)?;
        Ok(true)
    }

    /// The model has said what it has to say to a summary's request.
    pub(super) fn summarised(&mut self, job: u64) -> Checked {
        let Some(index) = self.jobs.iter().position(|of| of.id == job) else { return Ok(()) };
        let (thread, asked) = (self.jobs[index].thread.as_str().to_owned(), self.jobs[index].asked);
        let said = model::summary(dice(self.seed, (thread, job, asked)));
        if !self.jobs[index].whole {
            self.jobs[index].compactor.turn(said);
        }
        self.go_on(index)
    }

    fn go_on(&mut self, index: usize) -> Checked {
        let job = &mut self.jobs[index];
        match job.compactor.step() {
            CompactorStep::Ask(request) => {
                job.asked += 1;
                let takes = (dice(self.seed, (job.id, job.asked)) % 20_000) as i64;
                self.queue.push(self.now + takes, Happening::Summarised { job: job.id });
                self.checks.summary_request(&request)
            }
            CompactorStep::Done(input) => {
                job.whole = true;
                let job = job.id;
                if self.store_fails() {
                    self.queue.push(self.now + 1_000, Happening::Summarised { job });
                    return Ok(());
                }
                self.hand_in(index, *input);
                Ok(())
            }
        }
    }

    fn hand_in(&mut self, index: usize, mut input: NewInput) {
        let job = self.jobs.swap_remove(index);
        if let (true, InputBody::Summary { covers, .. }) =
            (self.is(Fault::SummariseTheLastWord), &mut input.body)
            && let Some(view) = self.store.history(&job.thread)
            && covers.thread == job.thread
        {
            covers.upto = view.thread.row.next_entry;
        }
        let is_summary = matches!(input.body, InputBody::Summary { .. });
        if self.store.accept(input, self.clock()) == Accepted::Accepted && is_summary {
            self.report.summaries += 1;
        }
        self.store.release_compaction(&job.thread);
    }
}
