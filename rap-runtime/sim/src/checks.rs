//! The promises, as checks: some at every commit and request, the others when the world has come to rest.

use crate::{
    model::{WINDOW, all_text},
    server::{ASKING, DESTRUCTIVE, Job, Servers},
    world::TRIES,
};
use rap_core::{
    CallRoute, CallRow, CallState, CallView, Commit, Entry, InputBody, Millis, ModelRequest, Snapshot,
    SubscriptionRow, SubscriptionState, Surface, ThreadState, memory::Memory,
};
use rap_types::{CallId, ThreadId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise: `P1` to `P12`.
    pub promise: &'static str,
    /// What was seen.
    pub message: String,
}

pub(crate) fn broken(promise: &'static str, message: impl Into<String>) -> Violation {
    Violation { promise, message: message.into() }
}

pub(crate) type Checked = Result<(), Violation>;

/// How long a person's message may go unseen by the model: a restart, a slow turn, a far retry.
const PATIENCE_OF_PEOPLE_MS: i64 = 240_000;

/// Bytes of a result that the model is shown at most: a tenth of its window, and a note.
const LONGEST_SHOWN: usize = WINDOW as usize * 2 / 10 + 80;

/// Slices in a row that may change nothing: looks at what may be over, after a stop or a wait.
const IDLE_SLICES: u32 = 8;

/// What the outside saw: what it was promised, and what it has a right to see again.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Marks (`<out-…>`, `<evt-…>`, `<rep-…>`, `<par-…>`, `<msg-…>`) that the runtime has taken responsibility for.
    promised: BTreeSet<String>,
    /// Marks in committed entries, by thread.
    seen: BTreeMap<String, ThreadId>,
    /// Messages of people that the model has not seen, with the time of their acceptance.
    unanswered: BTreeMap<String, (ThreadId, Millis)>,
    called: HashSet<String>,
    /// How often the model was asked for a slice of a thread at a version, and what excused that before.
    asked: HashMap<(ThreadId, i64), (u64, u64)>,
    /// Slices in a row that changed nothing, by thread.
    idle: HashMap<ThreadId, u32>,
    slices: BTreeMap<ThreadId, u64>,
    /// Questions that a person was shown.
    questions: BTreeSet<CallId>,
    /// What a person said to a question, where that was taken.
    words: BTreeMap<CallId, bool>,
    /// Completions, and summaries begun, by thread.
    completions: HashMap<ThreadId, u64>,
    summaries: HashMap<ThreadId, u64>,
    /// Summaries that people wanted.
    wanted: u64,
    /// Wishes that the servers be asked again, by the time of their acceptance, that nobody has fulfilled.
    looks: BTreeSet<i64>,
    /// The model that a person chose last, for the root and all below it; the outer none: nobody chose.
    chosen: Option<Option<String>>,
}

/// The marks in a text.
pub(crate) fn marks(text: &str) -> Vec<String> {
    let starts = text.match_indices('<').filter(|(at, _)| {
        ["<out-", "<evt-", "<rep-", "<par-", "<msg-"].iter().any(|kind| text[*at..].starts_with(kind))
    });
    starts.filter_map(|(at, _)| Some(text[at..=at + text[at..].find('>')?].to_owned())).collect()
}

impl Checks {
    /// The runtime has said that it took something (P1).
    pub(crate) fn promise(&mut self, text: &str) {
        self.promised.extend(marks(text));
    }

    pub(crate) fn person_wrote(&mut self, thread: &ThreadId, text: &str, now: Millis) {
        self.promise(text);
        for mark in marks(text) {
            self.unanswered.insert(mark, (thread.clone(), now));
        }
    }

    /// A person was shown a question; true the first time.
    pub(crate) fn asked(&mut self, call: &CallId) -> bool {
        self.questions.insert(call.clone())
    }

    /// A person's answer to a question was taken.
    pub(crate) fn person_decided(&mut self, call: &CallId, yes: bool) {
        self.words.insert(call.clone(), yes);
    }

    pub(crate) fn has_decided(&self, call: &CallId) -> bool {
        self.words.contains_key(call)
    }

    /// A person wants something of the root.
    pub(crate) fn wanted(&mut self, body: &InputBody) {
        self.wanted += u64::from(*body == InputBody::Compact);
    }

    /// A person's wish that the servers be asked again was taken.
    pub(crate) fn wants_a_look(&mut self, accepted_at: Millis) {
        self.looks.insert(accepted_at.0);
    }

    /// The servers were asked again, for a wish of that time.
    pub(crate) fn looked(&mut self, asked_at: i64) {
        self.looks.remove(&asked_at);
    }

    /// P1: a person's wish was fulfilled, unless the thread that it was said to is stopped.
    fn nobody_waits_for_a_look(&self, store: &Memory, root: &ThreadId) -> Checked {
        let paused = store.threads(root).iter().any(|view| {
            view.row.id == *root && matches!(view.state, ThreadState::Paused | ThreadState::Closed)
        });
        match self.looks.first() {
            Some(at) if !paused => {
                Err(broken("P1", format!("a person wanted the servers asked again at {at}, and nobody did")))
            }
            _ => Ok(()),
        }
    }

    /// A person's choice of a model was taken.
    pub(crate) fn chosen(&mut self, model: Option<String>) {
        self.chosen = Some(model);
    }

    /// P1: the model that answers a thread is the one that was there when it was loaded, or the newest that its inputs
    /// choose.
    pub(crate) fn answers(&self, request: &ModelRequest, snapshot: &Snapshot) -> Checked {
        let chosen = snapshot.inputs.iter().rev().find_map(|input| match &input.body {
            InputBody::UseModel { model } => Some(model),
            _ => None,
        });
        let expected = chosen.unwrap_or(&snapshot.thread.model);
        if request.model == *expected {
            return Ok(());
        }
        let asked = &request.model;
        Err(broken("P1", format!("{} asks {asked:?}, and {expected:?} was chosen", request.thread)))
    }

    /// P1: what a person chose last has reached every thread that is open.
    fn nobody_else_answers(&self, store: &Memory, root: &ThreadId) -> Checked {
        let Some(chosen) = &self.chosen else { return Ok(()) };
        let open = |state| !matches!(state, ThreadState::Closed | ThreadState::Paused);
        let threads = store.threads(root);
        let another = threads.iter().find(|view| open(view.state) && view.row.model != *chosen);
        another.map_or(Ok(()), |view| {
            let message =
                format!("{chosen:?} was chosen, and {:?} answers in {}", view.row.model, view.row.id);
            Err(broken("P1", message))
        })
    }

    /// Nobody can answer for so long: the runtime is not there.
    pub(crate) fn excuse(&mut self, ms: i64) {
        self.unanswered.values_mut().for_each(|(_, since)| *since = *since + ms);
    }

    /// P6: a history is summarised when a turn fills the window or a person wants it, and again only for a kill.
    pub(crate) fn summarises(&mut self, thread: &ThreadId, excuses: u64) -> Checked {
        let begun = self.summaries.entry(thread.clone()).or_default();
        *begun += 1;
        if *begun > self.completions.get(thread).copied().unwrap_or(0) + self.wanted + excuses {
            return Err(broken(
                "P6",
                format!("the history of {thread} is summarised for the {begun}th time"),
            ));
        }
        Ok(())
    }

    /// P3: a strict provider takes a summary's request. What it holds of people's messages, the model has seen.
    pub(crate) fn summary_request(&mut self, request: &ModelRequest) -> Checked {
        if !request.tools.is_empty() {
            return Err(broken("P3", "a summary's request offers tools"));
        }
        self.request(request)
    }

    /// P9: nobody waits long for an answer, whatever else is going on.
    pub(crate) fn time_passes(&mut self, now: Millis, store: &Memory, root: &ThreadId) -> Checked {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let late = |since: Millis| now - since > PATIENCE_OF_PEOPLE_MS;
        if !self.unanswered.values().any(|(_, since)| late(*since)) {
            return Ok(());
        }
        // Stopped threads queue what comes, until a newer message lifts the stop.
        let threads = store.threads(root);
        let silent = |thread: &ThreadId| {
            let view = threads.iter().find(|view| view.row.id == *thread);
            view.is_some_and(|view| matches!(view.state, ThreadState::Closed | ThreadState::Paused))
        };
        let waits = self.unanswered.iter().find(|(_, (thread, since))| late(*since) && !silent(thread));
        let Some((mark, _)) = waits else { return Ok(()) };
        Err(broken("P9", format!("{mark} was accepted, and the model has not seen it for four minutes")))
    }

    /// P3: a strict provider takes the request. P9: whom it answers.
    pub(crate) fn request(&mut self, request: &ModelRequest) -> Checked {
        let entries: Vec<&Entry> = request.history.iter().map(|entry| &**entry).collect();
        strict(&entries)?;
        let is_summary = |entry: &Entry| matches!(entry, Entry::User(user) if all_text(&user.content).starts_with("Summary of the conversation"));
        let nothing_new = |last: &&Entry| matches!(last, Entry::Turn(_)) || is_summary(last);
        if entries.last().is_none_or(nothing_new) {
            return Err(broken("P3", "the model is asked with nothing new to see"));
        }
        if matches!(entries.first(), Some(Entry::Turn(_))) {
            return Err(broken("P3", "a request begins with the model's own words"));
        }
        for entry in entries {
            if let Entry::User(user) = entry {
                for mark in marks(&all_text(&user.content)) {
                    self.unanswered.remove(&mark);
                }
            }
        }
        Ok(())
    }

    /// Slices of a thread that were committed so far.
    pub(crate) fn slices(&self, thread: &ThreadId) -> u64 {
        self.slices.get(thread).copied().unwrap_or(0)
    }

    /// P4: no other slice was committed since this one was loaded. P2: whatever enters a history enters
    /// once. P3: the thread's history stays valid. P8: a long result is not shown whole.
    pub(crate) fn committed(&mut self, commit: &Commit, loaded: u64, store: &Memory) -> Checked {
        let slices = self.slices.entry(commit.thread.clone()).or_default();
        if *slices != loaded {
            return Err(broken("P4", format!("two slices of {} ran beside each other", commit.thread)));
        }
        *slices += 1;
        // ERR-01: where the model cannot be asked, the person is told so; that is an answer too.
        if commit.surface.iter().any(|event| matches!(event.what, Surface::Error { .. })) {
            self.unanswered.retain(|_, (thread, _)| *thread != commit.thread);
        }
        let from_outside = |entry: &&Entry| !matches!(entry, Entry::User(_));
        let results = commit.entries.iter().filter(from_outside).flat_map(told);
        if let Some(bytes) = results.map(|text| text.len()).find(|bytes| *bytes > LONGEST_SHOWN) {
            return Err(broken("P8", format!("{} is shown a result of {bytes} bytes", commit.thread)));
        }
        let new_threads = commit.threads.iter().map(|thread| (&thread.row.id, &thread.entries));
        for (thread, entries) in new_threads.chain([(&commit.thread, &commit.entries)]) {
            for text in entries.iter().flat_map(told) {
                for mark in marks(&text) {
                    if let Some(before) = self.seen.insert(mark.clone(), thread.clone()) {
                        return Err(broken("P2", format!("{mark} is in {before} and again in {thread}")));
                    }
                }
            }
            for call in entries.iter().flat_map(Entry::calls).filter(|_| *thread == commit.thread) {
                if !self.called.insert(call.id.to_string()) {
                    return Err(broken("P2", format!("the call id {} is used twice", call.id)));
                }
                // A report is promised to the parent, and a message to a child, once its call is in history.
                self.promise(&call.arguments.to_string());
            }
            let Some(view) = store.history(thread) else {
                return Err(broken("P1", format!("the thread {thread} is not in the store")));
            };
            let entries: Vec<&Entry> = view.entries.iter().map(|entry| &**entry).collect();
            let open = usize::from(entries.last().is_some_and(|entry| !entry.calls().is_empty()));
            strict(&entries[..entries.len() - open])?;
        }
        Ok(())
    }

    /// P6: a completion is asked for once, and once more for each kill (or lease that ran out) since.
    pub(crate) fn asks(&mut self, thread: ThreadId, version: i64, excuses: u64) -> Checked {
        *self.completions.entry(thread.clone()).or_default() += 1;
        let message = format!("the model was asked again for {thread} at version {version} without need");
        let (asked, before) = self.asked.entry((thread, version)).or_insert((0, excuses));
        *asked += 1;
        if *asked > 1 + excuses - *before { Err(broken("P6", message)) } else { Ok(()) }
    }

    /// P6: a stream that breaks is tried again a few times, whatever it has said before.
    pub(crate) fn tries(&self, broken_before: u32) -> Checked {
        if broken_before < TRIES {
            return Ok(());
        }
        Err(broken("P6", format!("a stream that broke {broken_before} times is tried once more")))
    }

    /// P8: a slice reads what its decision needs: not the calls and subscriptions of long ago.
    /// ERR-02: what cannot be read is not taken for empty.
    pub(crate) fn loaded(&self, snapshot: &Snapshot) -> Checked {
        let row = &snapshot.thread;
        let has_history = row.next_entry > 0 || row.chain.iter().any(|segment| segment.upto > 0);
        if has_history && snapshot.history.is_empty() {
            return Err(broken("ERR-02", format!("the history of {} is taken for empty", row.id)));
        }
        let newest = snapshot.calls.iter().map(|row| row.turn).max();
        let named: HashSet<_> = snapshot.inputs.iter().filter_map(|input| input.body.call()).collect();
        let needed =
            |row: &CallRow| row.state.is_open() || Some(row.turn) == newest || named.contains(&row.id);
        if let Some(row) = snapshot.calls.iter().find(|row| !needed(row)) {
            return Err(broken("P8", format!("the call {} is loaded, and nobody needs it", row.id)));
        }
        let alive =
            |row: &SubscriptionRow| row.state == SubscriptionState::Active || named.contains(&row.call);
        if let Some(row) = snapshot.subscriptions.iter().find(|row| !alive(row)) {
            return Err(broken(
                "P8",
                format!("the subscription {} is loaded, and nobody needs it", row.call),
            ));
        }
        Ok(())
    }

    /// P7: a thread that has nothing to do is not woken, and P8: a slice writes what is new, and nothing else.
    pub(crate) fn costs(&mut self, before: &Snapshot, commit: &Commit, now: Millis) -> Checked {
        if let Some(row) = commit.calls.iter().find(|row| before.calls.contains(row)) {
            return Err(broken("P8", format!("the call {} is written as it stood", row.id)));
        }
        if let Some(row) = commit.subscriptions.iter().find(|row| before.subscriptions.contains(row)) {
            return Err(broken("P8", format!("the subscription {} is written as it stood", row.call)));
        }
        let changed = commit.record.request.is_some()
            || commit.close
            || commit.pause
            || commit.resume
            || !(commit.consumed.is_empty() && commit.dead_letters.is_empty() && commit.entries.is_empty())
            || !(commit.calls.is_empty() && commit.subscriptions.is_empty() && commit.threads.is_empty())
            || !(commit.inputs.is_empty() && commit.outbox.is_empty());
        let idle = self.idle.entry(commit.thread.clone()).or_default();
        if changed {
            *idle = 0;
            return Ok(());
        }
        *idle += 1;
        if *idle > IDLE_SLICES {
            return Err(broken("P7", format!("{} was woken {idle} times for nothing", commit.thread)));
        }
        if commit.update.due_at.is_some_and(|due| due <= now) {
            return Err(broken("P7", format!("{} changes nothing and is due at once", commit.thread)));
        }
        Ok(())
    }

    /// P5: what a server gets is in the history of the thread that it names. CON-01: and nobody had to allow it
    /// who did not.
    pub(crate) fn received(&self, id: &str, tool: &str, store: &Memory) -> Checked {
        if tool == DESTRUCTIVE && !self.words.iter().any(|(call, yes)| call.as_str() == id && *yes) {
            return Err(broken("CON-01", format!("the server got the call {id}, which nobody allowed")));
        }
        if store.has_call(id) {
            Ok(())
        } else {
            Err(broken("P5", format!("the server got the call {id} before it was committed")))
        }
    }

    /// What must hold when nothing is due and nothing is on its way.
    pub(crate) fn at_rest(&self, store: &Memory, servers: &Servers, root: &ThreadId) -> Checked {
        self.nothing_lost(store)?;
        let ignored = |view: &&CallView| {
            view.row.state == CallState::AwaitingApproval && self.words.contains_key(&view.row.id)
        };
        if let Some(view) = store.calls(true).iter().find(ignored) {
            let message = format!("a person has spoken about {}, and nothing came of it", view.row.id);
            return Err(broken("P1", message));
        }
        nothing_waits_for_nothing(store, servers, root)?;
        self.nobody_else_answers(store, root)?;
        self.nobody_waits_for_a_look(store, root)?;
        for (call, job) in &servers.jobs {
            if !job.told && store.call_state(call) == Some(CallState::Cancelled) {
                let message = format!("{call} was cancelled, and its server was never told");
                return Err(broken("P11", message));
            }
            if job.worked > 1 {
                return Err(broken("P2", format!("{call} was worked {} times", job.worked)));
            }
        }
        Ok(())
    }

    fn nothing_lost(&self, store: &Memory) -> Checked {
        let dead: BTreeSet<String> =
            store.dead_letters().iter().flat_map(|letter| marks(&letter.body.to_string())).collect();
        for mark in &self.promised {
            if !self.seen.contains_key(mark)
                && !dead.contains(mark)
                && !refused(mark, store)
                && !held_by_rest(mark, store)
            {
                let promise =
                    if mark.starts_with("<out-") && self.was_detached(mark, store) { "P10" } else { "P1" };
                let calls = store.calls(false);
                let about = calls.iter().find(|view| mark.contains(view.row.id.as_str()));
                let message =
                    format!("{mark} was taken, and is neither in a history nor a dead letter: {about:?}");
                return Err(broken(promise, message));
            }
        }
        Ok(())
    }

    /// Whether a mark is that of a call which history shows a placeholder for.
    fn was_detached(&self, mark: &str, store: &Memory) -> bool {
        let call = mark.trim_start_matches("<out-").trim_end_matches('>');
        let wanted =
            |view: &&CallView| view.row.id.as_str() == call && view.row.state != CallState::Cancelled;
        store.calls(false).iter().filter(wanted).any(|view| {
            store.history(&view.row.thread).is_some_and(|history| {
                history.entries.iter().any(|entry| match &**entry {
                    Entry::Results { results } => {
                        results.iter().any(|r| r.call.as_str() == call && r.placeholder)
                    }
                    _ => false,
                })
            })
        })
    }
}

/// A turn that asked to rest waits for all its calls: what is known of some of them waits on their rows. A
/// thread that was closed meanwhile keeps it there; people have seen it.
fn held_by_rest(mark: &str, store: &Memory) -> bool {
    let calls = store.calls(false);
    let kept = |view: &CallView| {
        let outcome = view.row.outcome.as_ref();
        outcome.is_some_and(|outcome| all_text(&outcome.content).contains(mark))
            && store.history(&view.row.thread).is_some_and(|history| history.thread.row.closed)
    };
    if calls.iter().any(kept) {
        return true;
    }
    let held =
        calls.iter().find(|view| mark.contains(view.row.id.as_str()) && view.row.state == CallState::Pending);
    held.is_some_and(|held| {
        let of_turn =
            calls.iter().filter(|view| view.row.thread == held.row.thread && view.row.turn == held.row.turn);
        held.row.outcome.is_some()
            && of_turn.into_iter().any(|view| view.row.name == "sleep_until_event_or_input")
    })
}

/// A report, or a message to a child, whose call was refused promises nothing.
fn refused(mark: &str, store: &Memory) -> bool {
    (mark.starts_with("<rep-") || mark.starts_with("<par-"))
        && store
            .calls(false)
            .iter()
            .any(|view| view.row.arguments.to_string().contains(mark) && view.row.state == CallState::Refused)
}

/// P11 and P1: every open call is alive at its server, in the outbox, or a timer that will fire; nothing is
/// left in an inbox of a thread that could run.
fn nothing_waits_for_nothing(store: &Memory, servers: &Servers, root: &ThreadId) -> Checked {
    for view in store.calls(true) {
        let job = servers.jobs.get(&view.row.id);
        if view.row.outcome.is_some() {
            continue; // It is there; whether it was lost is asked apart.
        }
        // P11: what waits for a person is shown to people.
        let waits = |job: &Job| job.tool == ASKING && job.chosen.is_none();
        let waits = view.row.state == CallState::AwaitingApproval || job.is_some_and(waits);
        let shown =
            || store.interactions(root).iter().any(|open| open.interaction.call() == Some(&view.row.id));
        let alive = job.is_some_and(|job| job.tool == "never" || job.cancelled) || (waits && shown());
        if view.row.route == CallRoute::Rap && !alive && !view.undelivered {
            let message = format!(
                "the call {} of {} is {:?}, and nobody owes its outcome",
                view.row.id, view.row.name, view.row.state
            );
            return Err(broken("P11", message));
        }
        if view.row.route == CallRoute::Rap && view.undelivered {
            return Err(broken("P11", format!("the invocation of {} is never sent", view.row.id)));
        }
        if view.row.route == CallRoute::Timer {
            let threads = store.threads(root);
            let thread = threads.iter().find(|thread| thread.row.id == view.row.thread);
            let message = format!("the timer of {} never fires: {:?} in {thread:?}", view.row.id, view.row);
            return Err(broken("P11", message));
        }
    }
    for thread in store.threads(root) {
        if thread.state == ThreadState::Running {
            let owed = thread.row.model_owed;
            let parked = !owed && thread.open_calls > 0;
            if !parked {
                let promise = if owed { "P11" } else { "P1" };
                return Err(broken(
                    promise,
                    format!("{} has something to do, and nothing wakes it", thread.row.id),
                ));
            }
        }
    }
    Ok(())
}

/// What an entry tells a model that came from outside the model.
fn told(entry: &Entry) -> Vec<String> {
    match entry {
        Entry::User(user) => vec![all_text(&user.content)],
        Entry::Results { results } => results
            .iter()
            .filter(|result| !result.placeholder)
            .map(|result| all_text(&result.content))
            .collect(),
        Entry::Event(event) => vec![all_text(&event.content)],
        _ => Vec::new(),
    }
}

/// P3: every call is followed by its result before anything else, no orphan results, nothing empty.
fn strict(entries: &[&Entry]) -> Checked {
    let wrong = |message: String| Err(broken("P3", message));
    for (index, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Turn(turn) if !turn.calls.is_empty() => {
                let Some(Entry::Results { results }) = entries.get(index + 1) else {
                    return wrong(format!("entry {index}: calls without their results"));
                };
                let called: Vec<_> = turn.calls.iter().map(|call| &call.id).collect();
                let answered: Vec<_> = results.iter().map(|result| &result.call).collect();
                if called != answered {
                    return wrong(format!("entry {index}: called {called:?}, answered {answered:?}"));
                }
            }
            Entry::Turn(turn) if turn.text.is_empty() => {
                return wrong(format!("entry {index}: an empty turn"));
            }
            Entry::Results { .. } if index == 0 || entries[index - 1].calls().is_empty() => {
                return wrong(format!("entry {index}: orphan results"));
            }
            _ => {}
        }
    }
    Ok(())
}
