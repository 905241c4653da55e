//! `rap sessions`, `rap show`, `rap calls`: what a database holds, read beside whoever owns it.

use crate::{
    cli::{CallsArgs, DbArgs, DeadLettersArgs, DeadLettersCommand, RefreshArgs, ResendArgs, ShowArgs},
    demo::proof::text_of,
    failure::Failure,
    output::{BAD, DIM, GOOD, NAME, Out, paint},
};
use rap_runtime::{
    AgentHost, LocalFiles, NOTHING_KNOWN, RemoteHost, Runtime,
    core::{
        Accepted, CallState, CallView, Entry, InputBody, InputId, Millis, NewInput, SessionView, Store,
        StoreError, Surface, ThreadState, Usage, UserAuthor,
    },
    nothing_known,
    sqlite::{SqliteReader, SqliteStore},
};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::json;
use std::{
    collections::HashMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Opens a database for reading; none is made where there is none.
pub(crate) async fn read(db: &Path) -> Result<SqliteReader, Failure> {
    if !db.exists() {
        return Err(Failure::new(format!("there is no database {}", db.display()))
            .hint("name the file that was given to rap run or rap serve with --db"));
    }
    Ok(SqliteReader::open(db).await?)
}

/// `rap sessions`
pub(crate) async fn sessions(args: DbArgs, out: &Out) -> Result<(), Failure> {
    let sessions = read(&args.db).await?.sessions().await?;
    if sessions.is_empty() {
        out.note("no sessions yet");
    }
    let now = now();
    for session in &sessions {
        out.record(session);
        out.line(session_line(session, now));
    }
    Ok(())
}

fn session_line(session: &SessionView, now: Millis) -> String {
    let mut notes = vec![state(session.state).to_owned()];
    if session.open_calls > 0 {
        notes.push(count(session.open_calls, "open call"));
    }
    if session.open_threads > 1 {
        notes.push(count(session.open_threads, "open thread"));
    }
    format!(
        "{}  {}  {}  {}",
        paint(NAME, &session.id),
        paint(DIM, format!("{:>8} ago", age(now - session.created_at))),
        notes.join(", "),
        session.title
    )
}

/// `rap show`
pub(crate) async fn show(args: ShowArgs, out: &Out) -> Result<(), Failure> {
    let reader = read(&args.db).await?;
    let Some(history) = reader.history(&args.thread).await? else {
        return Err(unknown_thread(&args.thread, &args.db));
    };
    let row = &history.thread.row;
    let session = reader.session(&row.session).await?;
    let model = row.model.clone().or_else(|| session?.model.clone());
    out.record(&json!({
        "thread": row.id,
        "session": row.session,
        "ancestors": row.ancestors,
        "state": history.thread.state,
        "model": model,
        "open_calls": history.thread.open_calls,
        "subscriptions": history.thread.subscriptions,
    }));
    let stack: Vec<&str> = row.ancestors.iter().map(|id| id.as_str()).collect();
    let below = if stack.is_empty() { String::new() } else { format!(" below {}", stack.join(" > ")) };
    out.line(format_args!("{}{below}: {}", paint(NAME, &row.id), state(history.thread.state)));
    if let Some(model) = &model {
        out.line(paint(DIM, format!("answered by {model}")));
    }
    for (n, entry) in history.entries.iter().enumerate() {
        let inherited = n < history.inherited;
        if n > 0 && n == history.inherited {
            out.line(paint(DIM, "── its own from here ──"));
        }
        out.record(&json!({"n": n, "inherited": inherited, "entry": entry.as_ref()}));
        entry_lines(entry, |line| out.line(line));
    }
    let used = used(&reader, &row.session).await?;
    let of_session = used.values().fold(Usage::default(), |sum, usage| added(sum, *usage));
    let of_thread = used.get(&row.id).copied().unwrap_or_default();
    out.record(&json!({"usage": {"thread": of_thread, "session": of_session}}));
    if of_session != Usage::default() {
        out.line(paint(
            DIM,
            format!(
                "tokens: {} read, {} written; in the whole session {} read, {} written",
                of_thread.input, of_thread.output, of_session.input, of_session.output
            ),
        ));
    }
    for child in reader.threads(&row.session).await? {
        if child.row.ancestors.last() == Some(&row.id) {
            out.record(&json!({"child": child.row.id, "state": child.state}));
            out.line(format_args!(
                "{} {}: {}",
                paint(DIM, "child"),
                paint(NAME, &child.row.id),
                state(child.state)
            ));
        }
    }
    Ok(())
}

/// The tokens that each thread of a session has used.
async fn used(reader: &SqliteReader, session: &ThreadId) -> Result<HashMap<ThreadId, Usage>, Failure> {
    const AT_ONCE: usize = 1_000;
    let mut used = HashMap::new();
    let mut after = 0;
    loop {
        let events = reader.events(session, after, AT_ONCE).await?;
        for numbered in &events {
            after = numbered.n;
            if let Surface::Usage(usage) = numbered.event.what {
                let sum: &mut Usage = used.entry(numbered.event.thread.clone()).or_default();
                *sum = added(*sum, usage);
            }
        }
        if events.len() < AT_ONCE {
            return Ok(used);
        }
    }
}

fn added(a: Usage, b: Usage) -> Usage {
    Usage { input: a.input.saturating_add(b.input), output: a.output.saturating_add(b.output) }
}

fn entry_lines(entry: &Entry, mut line: impl FnMut(String)) {
    let mut say = |who: &str, text: &str| {
        for (n, part) in text.lines().enumerate() {
            let who = if n == 0 { who } else { "" };
            line(format!("{} {part}", paint(DIM, format!("{who:>9}"))));
        }
    };
    match entry {
        Entry::User(user) => {
            let who = match user.author {
                UserAuthor::Person => "person",
                UserAuthor::Parent => "parent",
                _ => "runtime",
            };
            say(who, &text_of(&user.content));
        }
        Entry::Turn(turn) => {
            say("model", &turn.text);
            if turn.interrupted {
                say("", "(interrupted)");
            }
            for call in &turn.calls {
                say("call", &format!("{} {}  {}", call.name, call.arguments, paint(DIM, &call.id)));
            }
        }
        Entry::Results { results } => {
            for result in results {
                let who = match (result.placeholder, result.is_error) {
                    (true, _) => "meanwhile",
                    (_, true) => "error",
                    _ => "result",
                };
                say(who, &text_of(&result.content));
            }
        }
        Entry::Event(event) => {
            let from =
                format!("from {}  {}", event.original_tool_name, paint(DIM, &event.original_tool_call_id));
            say("event", &format!("{}\n{from}", text_of(&event.content)));
        }
        _ => say("?", "an entry of a newer version"),
    }
}

/// `rap calls`
pub(crate) async fn calls(args: CallsArgs, out: &Out) -> Result<(), Failure> {
    let reader = read(&args.db).await?;
    let (calls, subscriptions) = (reader.calls(!args.all).await?, reader.subscriptions().await?);
    let unknown = nothing_known(reader.get(NOTHING_KNOWN).await?.as_deref());
    if calls.is_empty() && subscriptions.is_empty() {
        out.note(if args.all { "no calls yet" } else { "no open calls" });
    }
    let now = now();
    let note = |call: &CallId| {
        unknown.get(call).map(|unknown| {
            let since = age(now - unknown.since);
            format!("\n    its server does not say whether it is alive, since {since}: {}", unknown.reason)
        })
    };
    for view in &subscriptions {
        let row = &view.row;
        out.record(&json!({
            "call": row.call,
            "thread": row.thread,
            "session": view.session,
            "tool": row.name,
            "arguments": row.arguments,
            "state": "subscribed",
            "age_ms": now - row.created_at,
            "unknown": unknown.get(&row.call),
        }));
        out.line(format_args!(
            "{}  {}  {}  {} {}{}",
            paint(NAME, &row.call),
            paint(DIM, format!("{:>8} old", age(now - row.created_at))),
            paint(NAME, "subscribed"),
            row.name,
            row.arguments,
            note(&row.call).unwrap_or_default()
        ));
    }
    for call in &calls {
        let row = &call.row;
        out.record(&json!({
            "call": row.id,
            "thread": row.thread,
            "session": call.session,
            "tool": row.name,
            "arguments": row.arguments,
            "state": row.state,
            "age_ms": now - row.created_at,
            "attempts": call.attempts,
            "undelivered": call.undelivered,
            "unknown": unknown.get(&row.id).filter(|_| row.state.is_open()),
        }));
        let note = note(&row.id).filter(|_| row.state.is_open()).unwrap_or_default();
        out.line(format_args!("{}{note}", call_line(call, now)));
    }
    Ok(())
}

fn call_line(call: &CallView, now: Millis) -> String {
    let row = &call.row;
    let mut text = format!(
        "{}  {}  {}  {} {}",
        paint(NAME, &row.id),
        paint(DIM, format!("{:>8} old", age(now - row.created_at))),
        call_state(row.state),
        row.name,
        row.arguments
    );
    if call.undelivered {
        text += &format!("  (not delivered yet, {})", count(call.attempts as usize, "attempt"));
    }
    text
}

fn call_state(state: CallState) -> String {
    let word = match state {
        CallState::AwaitingApproval => "awaits approval",
        CallState::Pending => "pending",
        CallState::Detached => "detached",
        CallState::PresumedLost => "presumed lost",
        CallState::Refused => "refused",
        CallState::Done => "done",
        CallState::Cancelled => "cancelled",
        _ => "?",
    };
    let style = match state {
        CallState::Done => GOOD,
        CallState::PresumedLost | CallState::Refused => BAD,
        _ => NAME,
    };
    paint(style, word).to_string()
}

/// `rap refresh`: by the process that has the database; where none has it, the next one finds it in the inbox.
pub(crate) async fn refresh(args: RefreshArgs, out: &Out) -> Result<(), Failure> {
    read(&args.db).await?; // Says what is wrong with it, and makes no file.
    let unknown = || unknown_thread(&args.session, &args.db);
    match SqliteStore::open(&args.db).await {
        Ok(store) => {
            if store.session(&args.session).await?.is_none() {
                return Err(unknown());
            }
            let input = NewInput {
                thread: args.session.clone(),
                id: InputId::control(&crate::run::key()?),
                source: "person".to_owned(),
                body: InputBody::Refresh,
                traceparent: None,
            };
            match store.accept(input, now()).await? {
                Accepted::Accepted => {}
                Accepted::Busy => return Err(Failure::new("its inbox is full; try again later")),
                _ => return Err(Failure::new("the session is closed; begin another")),
            }
            out.record(&json!({"session": args.session, "asked": false}));
            out.line("its tool servers are asked when rap serve or rap run opens this database again");
        }
        Err(StoreError::Owned { .. }) => {
            let host = crate::reach::host(&args.db).await?;
            let found = host.refresh(&args.session).await;
            let found = found.map_err(|e| if e.is_unknown() { unknown() } else { Failure::of(e) })?;
            found.problems.iter().for_each(|problem| out.warning(problem));
            out.record(&json!({
                "session": args.session, "asked": true, "tools": found.tools, "problems": found.problems,
            }));
            out.line(format_args!("its tool servers were asked: it has {}", count(found.tools, "tool")));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// `rap dead-letters`
pub(crate) async fn dead_letters(args: DeadLettersArgs, out: &Out) -> Result<(), Failure> {
    let db = match args.command {
        Some(DeadLettersCommand::Resend(args)) => return resend(&args, out).await,
        None => args.db.unwrap_or_default(),
    };
    let letters = read(&db).await?.dead_letters().await?;
    if letters.is_empty() {
        out.note("no dead letters");
    }
    let now = now();
    for letter in &letters {
        out.record(letter);
        let tries = match letter.attempts {
            0 => String::new(),
            1 => ", after one try".to_owned(),
            n => format!(", after {n} tries"),
        };
        out.line(format_args!(
            "{}  {}  {}  {}{tries}: {}",
            paint(NAME, format!("{:>4}", letter.id)),
            paint(DIM, format!("{:>8} ago", age(now - letter.at))),
            paint(DIM, &letter.thread),
            letter.what,
            letter.reason
        ));
    }
    Ok(())
}

/// `rap dead-letters resend`: by the process that has the database, else here.
async fn resend(args: &ResendArgs, out: &Out) -> Result<(), Failure> {
    read(&args.db).await?; // Says what is wrong with it, and makes no file.
    let (letter, files) = (args.letter, LocalFiles::beside(&args.db));
    let sent = match SqliteStore::open(&args.db).await {
        Ok(store) => {
            let url = HttpUrl::new("http://127.0.0.1").map_err(Failure::of)?; // Nothing is served here.
            let keys = files.keys().map_err(Failure::of)?;
            let runtime = Runtime::builder().store(store).keys(keys).public_url(url).build().await;
            runtime.map_err(Failure::of)?.resend(letter).await
        }
        Err(StoreError::Owned { .. }) => {
            let address = read(&args.db).await?.get(crate::host::LISTEN).await?.unwrap_or_default();
            let url = HttpUrl::new(format!("http://{address}")).map_err(Failure::of)?;
            RemoteHost::new(url, files.token().map_err(Failure::of)?).resend(letter).await
        }
        Err(error) => return Err(error.into()),
    };
    sent.map_err(Failure::of)?;
    out.record(&json!({"resent": letter}));
    out.line(format_args!("the dead letter {letter} is sent again"));
    Ok(())
}

/// The word for a thread's state.
pub(crate) fn state(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Running => "running",
        ThreadState::Waiting => "waiting",
        ThreadState::Resting => "resting",
        ThreadState::Paused => "paused",
        ThreadState::Closed => "closed",
    }
}

/// What to say of a thread that is not there.
pub(crate) fn unknown_thread(thread: &ThreadId, db: &Path) -> Failure {
    Failure::new(format!("there is no thread {thread} in {}", db.display()))
        .hint(format!("list its sessions with rap sessions --db {}", db.display()))
}

/// `1 call`, `2 calls`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A length of time in its largest unit: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn age(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{} s", ms / 1_000),
        ms @ 60_000..3_600_000 => format!("{} min", ms / 60_000),
        ms @ 3_600_000..86_400_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (ms, text) in
            [(-5, "0 ms"), (850, "850 ms"), (12_345, "12 s"), (200_000, "3 min"), (90_000_000, "1 d")]
        {
            assert_eq!(age(ms), text);
        }
    }
}
