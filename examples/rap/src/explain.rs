//! `rap explain` and `rap replay`: why each slice did what it did, and whether it would do so again (P12).

use crate::{
    cli::{DbArgs, ExplainArgs},
    failure::Failure,
    inspect::{age, count, read, unknown_thread},
    output::{BAD, DIM, GOOD, NAME, Out, paint},
};
use rap_runtime::{
    core::{
        HistoryView, SliceView,
        replay::{Explanation, Replayed, ThreadReplay, Verdict},
    },
    sqlite::SqliteReader,
};
use rap_types::ThreadId;
use serde_json::json;

/// Slices that are read at once.
const PAGE: usize = 256;

/// `rap explain`
pub(crate) async fn explain(args: ExplainArgs, out: &Out) -> Result<(), Failure> {
    let reader = read(&args.db).await?;
    let Some(history) = reader.history(&args.thread).await? else {
        return Err(unknown_thread(&args.thread, &args.db));
    };
    let mut found = false;
    let mut last = 0;
    through(&reader, history, |view, replayed| {
        last = view.version;
        if args.slice.is_none_or(|wanted| wanted == view.version) {
            found = true;
            tell(view, replayed, out);
        }
    })
    .await?;
    match args.slice {
        Some(wanted) if !found => Err(Failure::new(format!("thread {} has no slice {wanted}", args.thread))
            .hint(if last == 0 {
                "it has none yet".to_owned()
            } else {
                format!("its newest one is {last}; without a number all of them are explained")
            })),
        None if !found => {
            out.note("no slices yet");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Replays a thread's slices in order.
async fn through(
    reader: &SqliteReader,
    history: HistoryView,
    mut each: impl FnMut(&SliceView, &Replayed),
) -> Result<(), Failure> {
    let (thread, session) = (history.thread.row.id.clone(), history.thread.row.session.clone());
    let session = reader.session(&session).await?;
    let session =
        session.ok_or_else(|| Failure::new(format!("the session of thread {thread} is missing")))?;
    let mut replay = ThreadReplay::new(session, history);
    let mut after = 0;
    loop {
        let slices = reader.slices(&thread, after, PAGE).await?;
        let Some(last) = slices.last() else { return Ok(()) };
        after = last.version;
        for view in &slices {
            if let Some(name) = replay.wants_toolbox(view)
                && let Some(text) = reader.get(&name).await?
                && let Ok(toolbox) = serde_json::from_str(&text)
            {
                replay.add_toolbox(toolbox);
            }
            each(view, &replay.slice(view));
        }
    }
}

fn tell(view: &SliceView, replayed: &Replayed, out: &Out) {
    let told = Explanation::new(view, replayed);
    out.record(&json!({
        "slice": view.version,
        "at": view.record.moment.now,
        "verdict": replayed.verdict,
        "woke": told.woke,
        "model": told.model,
        "decided": told.decided,
        "sent": told.sent,
        "record": view.record,
        "inputs": view.inputs,
        "commit": replayed.commit,
    }));
    let at = jiff::Timestamp::from_millisecond(view.record.moment.now.0).unwrap_or_default();
    out.line(format_args!("{}  {}", paint(NAME, format!("slice {}", view.version)), paint(DIM, at)));
    for (word, lines) in
        [("woke for", &told.woke), ("model", &told.model), ("decided", &told.decided), ("sent", &told.sent)]
    {
        for (n, line) in lines.iter().enumerate() {
            let word = if n == 0 { word } else { "" };
            out.line(format_args!("{} {line}", paint(DIM, format!("{word:>10}"))));
        }
    }
    if !replayed.verdict.is_same() {
        out.line(format_args!("{} {}", paint(BAD, format!("{:>10}", "replay")), replayed.verdict));
    }
}

/// How a replay of a database went.
#[derive(Debug, Default)]
struct Tally {
    threads: usize,
    same: usize,
    unknown: usize,
    differ: Vec<String>,
}

impl Tally {
    fn count(&mut self, thread: &ThreadId, version: i64, verdict: &Verdict) {
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Unknown(_) => self.unknown += 1,
            _ => self.differ.push(format!("slice {version} of thread {thread}")),
        }
    }
}

/// `rap replay`: 0 if every slice comes out the same, 1 if one does not or cannot be told.
pub(crate) async fn replay(args: DbArgs, out: &Out) -> Result<(), Failure> {
    let reader = read(&args.db).await?;
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    for session in reader.sessions().await? {
        for thread in reader.threads(&session.id).await? {
            let Some(history) = reader.history(&thread.row.id).await? else { continue };
            tally.threads += 1;
            through(&reader, history, |view, replayed| {
                let verdict = &replayed.verdict;
                tally.count(&thread.row.id, view.version, verdict);
                out.record(&json!({"thread": thread.row.id, "slice": view.version, "verdict": verdict}));
                if !verdict.is_same() {
                    let style = if verdict.is_different() { BAD } else { DIM };
                    let slice = paint(style, format!("slice {}", view.version));
                    out.line(format_args!("{} {slice} {verdict}", paint(NAME, &thread.row.id)));
                }
            })
            .await?;
        }
    }
    let slices = tally.same + tally.unknown + tally.differ.len();
    out.record(&json!({
        "threads": tally.threads,
        "slices": slices,
        "same": tally.same,
        "differ": tally.differ.len(),
        "unknown": tally.unknown,
    }));
    let took = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    out.line(format_args!(
        "{} of {} in {} replayed in {}",
        count(slices, "slice"),
        count(tally.threads, "thread"),
        args.db.display(),
        age(took)
    ));
    match (tally.differ.as_slice(), tally.unknown) {
        ([], 0) => {
            out.line(paint(GOOD, "every commit comes out the same"));
            Ok(())
        }
        ([], unknown) => Err(Failure::new(format!("of {} it cannot be told", count(unknown, "slice")))
            .hint("rap explain <thread> says why; all others come out the same")),
        ([first, ..], _) => Err(Failure::new(format!(
            "{} would be decided otherwise, {first} first",
            count(tally.differ.len(), "slice")
        ))
        .hint("look at it with rap explain <thread> <slice>")),
    }
}
