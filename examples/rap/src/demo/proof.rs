//! The proof: what the tools did, by their own ledger, against what the agent knows, by the database.
//!
//! A pure function over both. Everything on either side must have exactly one counterpart on the other, so
//! that whatever is lost, doubled or altered, on whichever side, is a fault with a name.

use super::ledger::{Deed, Line};
use rap_runtime::core::{
    CallRoute, CallState, CallView, DeadLetterView, Entry, EventEntry, HistoryView, ThreadKind,
};
use rap_types::{CallId, ContentPart, ThreadId};
use std::collections::BTreeMap;

/// What the runtime has in its database.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// All threads.
    pub(crate) threads: Vec<HistoryView>,
    /// All calls.
    pub(crate) calls: Vec<CallView>,
    /// All dead letters.
    pub(crate) dead_letters: Vec<DeadLetterView>,
}

/// What was counted, and what does not fit.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Proof {
    /// Calls in the ledger.
    pub(crate) works: usize,
    /// Events in the ledger.
    pub(crate) sent: usize,
    /// Calls that the tools worked on, each answered once in history.
    pub(crate) calls: usize,
    /// Of these, answered after the agent had stopped waiting.
    pub(crate) late: usize,
    /// Events that the tools told, each shown once, in a thread of its own.
    pub(crate) events: usize,
    /// Reports of those threads, each shown once to their parent.
    pub(crate) reports: usize,
    /// Calls that are still open.
    pub(crate) open: usize,
    /// Dead letters.
    pub(crate) dead_letters: usize,
    /// One sentence for each thing that does not fit.
    pub(crate) faults: Vec<String>,
}

impl Proof {
    /// Whether nothing is lost and nothing is there twice.
    pub(crate) fn holds(&self) -> bool {
        self.faults.is_empty() && self.calls > 0
    }
}

/// A call of the ledger.
#[derive(Default)]
struct Work<'a> {
    tool: Option<&'a str>,
    thread: Option<&'a ThreadId>,
    started: usize,
    ended: Vec<&'a str>,
    emitted: Vec<&'a str>,
}

/// A call of the history.
#[derive(Default)]
struct Seen<'a> {
    /// Where it was made, and as what.
    made: Vec<(&'a ThreadId, &'a str)>,
    /// Its result in its turn, when it is no placeholder.
    results: Vec<String>,
    /// A placeholder stands in its turn.
    placeholders: usize,
    /// What came as `receive_event` in the thread that made it.
    arrivals: Vec<String>,
    /// What came as the first entry of threads made for an event.
    handled: Vec<String>,
}

/// A report that a child made.
struct Report<'a> {
    child: &'a ThreadId,
    parent: &'a ThreadId,
    about: &'a CallId,
    text: String,
}

/// Holds the ledger against the database.
pub(crate) fn prove(ledger: &[Line], evidence: &Evidence) -> Proof {
    let mut proof = Proof::default();
    let works = works(ledger);
    let mut seen = seen(evidence, &mut proof.faults);
    proof.works = works.len();
    proof.sent = works.values().map(|work| work.emitted.len()).sum();
    let reports = reports(evidence);
    for report in &reports {
        take_report(report, &mut seen, &mut proof);
    }
    for (call, work) in &works {
        let nothing = Seen::default();
        check_work(call, work, seen.get(call).unwrap_or(&nothing), &mut proof);
    }
    for (call, seen) in &seen {
        if !works.contains_key(call) && seen.made.iter().any(|(_, name)| is_remote(evidence, call, name)) {
            let name = seen.made.first().map_or("a tool", |(_, name)| name);
            proof.faults.push(format!("{name} ({call}) is in history, but the tool never worked on it"));
        }
    }
    for call in &evidence.calls {
        check_row(call, &works, &seen, &mut proof);
    }
    for letter in &evidence.dead_letters {
        proof.dead_letters += 1;
        proof.faults.push(format!("{} became a dead letter: {}", letter.what, letter.reason));
    }
    if works.is_empty() {
        proof.faults.push("the ledger is empty: the tools did nothing".to_owned());
    }
    proof
}

fn works(ledger: &[Line]) -> BTreeMap<&CallId, Work<'_>> {
    let mut works: BTreeMap<&CallId, Work<'_>> = BTreeMap::new();
    for line in ledger {
        let work = works.entry(&line.call).or_default();
        work.thread = Some(&line.thread);
        match &line.deed {
            Deed::Started { tool, .. } => {
                work.tool = Some(tool);
                work.started += 1;
            }
            Deed::Ended { text } => work.ended.push(text),
            Deed::Emitted { text } => work.emitted.push(text),
        }
    }
    works
}

/// Goes through what each thread wrote itself; what it took over from its ancestors was counted there.
fn seen<'a>(evidence: &'a Evidence, faults: &mut Vec<String>) -> BTreeMap<&'a CallId, Seen<'a>> {
    let mut seen: BTreeMap<&CallId, Seen<'_>> = BTreeMap::new();
    for history in &evidence.threads {
        let thread = &history.thread.row.id;
        let mut open: &[rap_runtime::core::TurnCall] = &[];
        for (n, entry) in own(history).enumerate() {
            match entry {
                Entry::Turn(turn) => {
                    unanswered(thread, open, faults);
                    open = &turn.calls;
                    for call in &turn.calls {
                        seen.entry(&call.id).or_default().made.push((thread, &call.name));
                    }
                    continue;
                }
                Entry::Results { results } => {
                    let ids = |calls: &[rap_runtime::core::TurnCall]| -> Vec<CallId> {
                        calls.iter().map(|call| call.id.clone()).collect()
                    };
                    if results.iter().map(|result| result.call.clone()).collect::<Vec<_>>() != ids(open) {
                        faults.push(format!("thread {thread} has results that do not fit the turn before"));
                    }
                    open = &[];
                    for result in results {
                        let seen = seen.entry(&result.call).or_default();
                        match result.placeholder {
                            true => seen.placeholders += 1,
                            false => seen.results.push(text_of(&result.content)),
                        }
                    }
                    continue;
                }
                Entry::Event(event) => {
                    let seen = seen.entry(&event.original_tool_call_id).or_default();
                    match opens_thread(history, n, event) {
                        true => seen.handled.push(text_of(&event.content)),
                        false => seen.arrivals.push(text_of(&event.content)),
                    }
                }
                _ => {}
            }
            unanswered(thread, open, faults);
            open = &[];
        }
        unanswered(thread, open, faults);
    }
    seen
}

fn unanswered(thread: &ThreadId, open: &[rap_runtime::core::TurnCall], faults: &mut Vec<String>) {
    for call in open {
        faults.push(format!("{} ({}) of thread {thread} has no result in history", call.name, call.id));
    }
}

fn own(history: &HistoryView) -> impl Iterator<Item = &Entry> {
    history.entries.iter().skip(history.inherited).map(AsRef::as_ref)
}

/// The event that a thread was made for is its first own entry.
fn opens_thread(history: &HistoryView, n: usize, event: &EventEntry) -> bool {
    matches!(&history.thread.row.kind, ThreadKind::Event { call, .. } if n == 0 && *call == event.original_tool_call_id)
}

/// What children reported, as they wrote it themselves.
fn reports(evidence: &Evidence) -> Vec<Report<'_>> {
    let mut reports = Vec::new();
    for history in &evidence.threads {
        let row = &history.thread.row;
        let (Some(parent), ThreadKind::Event { call: about, .. }) = (row.ancestors.last(), &row.kind) else {
            continue;
        };
        for call in own(history).flat_map(Entry::calls) {
            let text = match call.name.as_str() {
                "close_thread" => call.arguments.get("report_to_parent"),
                "report_to_parent" => call.arguments.get("report"),
                _ => None,
            };
            if let Some(text) = text.and_then(serde_json::Value::as_str) {
                reports.push(Report { child: &row.id, parent, about, text: text.to_owned() });
            }
        }
    }
    reports
}

/// A report was shown once, in the history of the parent.
fn take_report(report: &Report<'_>, seen: &mut BTreeMap<&CallId, Seen<'_>>, proof: &mut Proof) {
    let Some(seen) = seen.get_mut(report.about) else {
        proof.faults.push(format!("the report of thread {} is lost", report.child));
        return;
    };
    let before = seen.arrivals.len();
    let is_it = |text: &String| {
        text.starts_with(&format!("Report of thread {} ", report.child)) && text.ends_with(&report.text)
    };
    seen.arrivals.retain(|text| !is_it(text));
    match before - seen.arrivals.len() {
        0 => proof
            .faults
            .push(format!("the report of thread {} never reached thread {}", report.child, report.parent)),
        1 => proof.reports += 1,
        n => proof.faults.push(format!(
            "the report of thread {} reached thread {} {n} times",
            report.child, report.parent
        )),
    }
}

fn check_work(call: &CallId, work: &Work<'_>, seen: &Seen<'_>, proof: &mut Proof) {
    let tool = work.tool.unwrap_or("a tool");
    let mut fault = |text: String| proof.faults.push(format!("{tool} ({call}) {text}"));
    match work.started {
        1 => {}
        0 => fault("ended without having started, by its ledger".to_owned()),
        n => fault(format!("was started {n} times, by its ledger")),
    }
    match work.ended.len() {
        1 => {}
        0 => fault("was never ended, by its ledger".to_owned()),
        n => fault(format!("was ended {n} times, by its ledger")),
    }
    match seen.made.as_slice() {
        [] => fault("was worked on, but no turn in history made this call".to_owned()),
        [(thread, name)] => {
            if *name != tool {
                fault(format!("is {name} in history"));
            }
            if work.thread.is_some_and(|its| its != *thread) {
                fault(format!("was made by thread {thread}, but worked on for another"));
            }
        }
        more => fault(format!("was made {} times in history", more.len())),
    }
    let mut arrivals: Vec<&String> = seen.arrivals.iter().collect();
    let mut late = false;
    if let (Some(answer), true) = (work.ended.first(), seen.results.is_empty()) {
        // The agent did not wait: the answer is one of what arrived later.
        match arrivals.iter().position(|text| text == answer) {
            Some(at) => {
                arrivals.remove(at);
                late = true;
            }
            None => fault("was answered, but its outcome is not in history".to_owned()),
        }
        if seen.placeholders != 1 {
            fault(format!("has {} placeholders in history, and no result in its turn", seen.placeholders));
        }
    } else {
        match seen.results.as_slice() {
            [text] if work.ended.first().is_some_and(|answer| answer != text) => {
                fault(format!("answered {:?}, but history says {text:?}", work.ended[0]));
            }
            [_] | [] => {}
            more => fault(format!("has {} results in history", more.len())),
        }
    }
    for text in arrivals {
        match work.ended.contains(&text.as_str()) {
            true => fault("has its outcome twice in history".to_owned()),
            false => fault(format!("has {text:?} in its thread's history, which nobody sent")),
        }
    }
    let faults = proof.faults.len();
    check_events(call, tool, work, seen, proof);
    if faults == proof.faults.len() && !work.ended.is_empty() {
        proof.calls += 1;
        proof.late += usize::from(late);
    }
}

/// Each event was handled by exactly one thread, and each such thread has an event.
fn check_events(call: &CallId, tool: &str, work: &Work<'_>, seen: &Seen<'_>, proof: &mut Proof) {
    let mut handled: Vec<&str> = seen.handled.iter().map(String::as_str).collect();
    for event in &work.emitted {
        match handled.iter().position(|text| text == event) {
            Some(at) => {
                handled.remove(at);
                proof.events += 1;
            }
            None => proof
                .faults
                .push(format!("the event {event:?} of {tool} ({call}) was sent, but no thread handled it")),
        }
    }
    for text in handled {
        proof.faults.push(match work.emitted.contains(&text) {
            true => format!("the event {text:?} of {tool} ({call}) was handled twice"),
            false => format!("the event {text:?} of {tool} ({call}) was handled, but never sent"),
        });
    }
}

fn is_remote(evidence: &Evidence, call: &CallId, name: &str) -> bool {
    match evidence.calls.iter().find(|view| view.row.id == *call) {
        Some(view) => view.row.route == CallRoute::Rap && view.row.state != CallState::Refused,
        None => !rap_runtime::core::BUILT_IN_TOOLS.contains(&name),
    }
}

/// The row of a call agrees with both.
fn check_row(
    view: &CallView,
    works: &BTreeMap<&CallId, Work<'_>>,
    seen: &BTreeMap<&CallId, Seen<'_>>,
    proof: &mut Proof,
) {
    let row = &view.row;
    if row.state.is_open() {
        proof.open += 1;
        proof.faults.push(format!("{} ({}) is still open", row.name, row.id));
    }
    if seen.get(&row.id).is_none_or(|seen| seen.made.is_empty()) && !works.contains_key(&row.id) {
        proof.faults.push(format!("{} ({}) has a row, but no turn in history made it", row.name, row.id));
    }
}

/// The text of content parts, as a model reads it.
pub(crate) fn text_of(content: &[ContentPart]) -> String {
    let texts: Vec<&str> = content
        .iter()
        .map(|part| match part {
            ContentPart::Text(text) => text.text.as_str(),
            ContentPart::Image(_) => "[image]",
            _ => "[content of an unknown kind]",
        })
        .collect();
    texts.join("\n")
}
