//! Views and questions: what tools show and ask people beside the conversation.

use crate::{
    accept::{accept, rules, show, shown},
    commit::send,
    fault::{Done, from_json, from_word, json},
    rows::{self, thread_id},
    writer::Write,
};
use rap_core::{
    APPROVAL_CHOICES, Accepted, Answered, CallRow, CallState, DeliveryKind, Interaction, Millis, NewDelivery,
    OpenInteraction, Reply, approval,
};
use rap_types::{CallId, ChoiceResponse, ThreadId};
use rusqlite::{Connection, OptionalExtension, params};

pub(crate) fn interact(
    write: &Write<'_>,
    thread: &ThreadId,
    interaction: &Interaction,
    now: Millis,
) -> Done<Accepted> {
    if let Interaction::Approval { .. } = interaction {
        return Ok(Accepted::Discarded("only the runtime itself asks for approval".into()));
    }
    let found: Option<(i64, i64, bool)> = write
        .conn
        .prepare_cached("SELECT n, session, closed FROM threads WHERE id = ?1")?
        .query_row([thread.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (n, session) = match (found, interaction.call()) {
        (None, None) => return Ok(Accepted::UnknownThread),
        (None, Some(_)) => return Ok(Accepted::Discarded("no such thread".into())),
        (Some((_, _, true)), _) => return Ok(Accepted::Ended),
        (Some((n, session, false)), _) => (n, session),
    };
    match (interaction.call(), interaction) {
        (Some(call), _) => match state(write.conn, n, call)? {
            None => return Ok(Accepted::Discarded("no such call in this thread".into())),
            Some((CallState::Cancelled, _)) => {
                return Ok(Accepted::Discarded("the call was cancelled".into()));
            }
            Some((state, has_outcome)) if !Interaction::is_welcome(state, has_outcome) => {
                return Ok(Accepted::Duplicate);
            }
            Some(_) => {
                if ask(write, n, call, &json(interaction))? == 0 {
                    return Ok(Accepted::Duplicate);
                }
                // What waits for calls that may soon end need not wait for this one.
                write
                    .conn
                    .prepare_cached("UPDATE threads SET due_at = min(due_at, ?2) WHERE n = ?1 AND inbox > 0")?
                    .execute(params![n, now.0])?;
            }
        },
        (None, Interaction::View { view_type, .. }) => {
            write
                .conn
                .prepare_cached(
                    // A new number with each update: the oldest goes first.
                    "INSERT OR REPLACE INTO views (thread, view_type, body) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![n, view_type, json(interaction)])?;
            drop_oldest_view(write, n, session)?;
        }
        (None, _) => {}
    }
    show(write, session, &shown(thread, interaction.surface()), now)?;
    Ok(Accepted::Accepted)
}

/// At the limit, the view that was longest without an update goes.
fn drop_oldest_view(write: &Write<'_>, thread: i64, session: i64) -> Done<()> {
    let kept: i64 = write
        .conn
        .prepare_cached("SELECT count(*) FROM views WHERE thread = ?1")?
        .query_row([thread], |row| row.get(0))?;
    if rows::count(kept) > rules(write, session)?.views {
        write
            .conn
            .prepare_cached("DELETE FROM views WHERE n = (SELECT min(n) FROM views WHERE thread = ?1)")?
            .execute([thread])?;
    }
    Ok(())
}

/// A call's state, and whether its outcome is known.
fn state(conn: &Connection, thread: i64, call: &CallId) -> Done<Option<(CallState, bool)>> {
    let found: Option<(String, bool)> = conn
        .prepare_cached("SELECT state, outcome IS NOT NULL FROM calls WHERE thread = ?1 AND id = ?2")?
        .query_row(params![thread, call.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    found.map(|(word, has_outcome)| Ok((from_word(word, "a call's state")?, has_outcome))).transpose()
}

/// Keeps a call's newest question; 0 if it is asked already.
fn ask(write: &Write<'_>, thread: i64, call: &CallId, body: &str) -> Done<usize> {
    Ok(write
        .conn
        .prepare_cached(
            "INSERT INTO questions (call, thread, answered, body) VALUES (?1, ?2, 0, ?3)
            ON CONFLICT (call, thread) DO UPDATE SET answered = 0, body = ?3 WHERE body <> ?3",
        )?
        .execute(params![call.as_str(), thread, body])?)
}

/// A call that has ended asks nothing: what it asked is forgotten, an authorization's URL first of all
/// (OAU-04).
pub(crate) fn forget_ended(conn: &Connection, thread: i64, row: &CallRow) -> Done<()> {
    if !row.may_ask() {
        conn.prepare_cached("DELETE FROM questions WHERE call = ?1 AND thread = ?2")?
            .execute(params![row.id.as_str(), thread])?;
    }
    Ok(())
}

/// Takes a person's word. A question goes with its call, so one that is there is open.
pub(crate) fn reply(write: &mut Write<'_>, call: &CallId, reply: Reply, now: Millis) -> Done<Answered> {
    if let Some(selected) = reply.approval()
        && let Some(answered) = approve(write, call, selected, now)?
    {
        return Ok(answered);
    }
    let question: Option<(i64, String, bool, String)> = write
        .conn
        .prepare_cached(
            "SELECT q.thread, t.id, q.answered, q.body FROM questions q
            JOIN threads t ON t.n = q.thread WHERE q.call = ?1",
        )?
        .query_row([call.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((n, thread, answered, body)) = question else { return Ok(Answered::NoQuestion) };
    let asked: Interaction = from_json(&body, || format!("the question of call {call}"))?;
    let Interaction::Choice { choices, response_url, default, .. } = asked else {
        return Ok(Answered::NoQuestion);
    };
    let Some(selected) = reply.choice(default) else { return Ok(Answered::NoQuestion) };
    if matches!(reply, Reply::PickAgain(_)) {
        if !answered {
            return Ok(Answered::NoQuestion);
        }
        if answer_is_under_way(write.conn, n, call)? {
            return Ok(Answered::Already);
        }
    } else if answered {
        return Ok(Answered::Already);
    }
    if usize::try_from(selected).map_or(true, |index| index >= choices.len()) {
        return Ok(Answered::NoSuchChoice(choices.len()));
    }
    write
        .conn
        .prepare_cached("UPDATE questions SET answered = 1 WHERE call = ?1 AND thread = ?2")?
        .execute(params![call.as_str(), n])?;
    let body = serde_json::to_value(ChoiceResponse::new(call.clone(), selected)).unwrap_or_default();
    let delivery = NewDelivery {
        kind: DeliveryKind::ChoiceAnswer,
        thread: thread_id(thread)?,
        call: Some(call.clone()),
        url: response_url,
        body,
        traceparent: None,
    };
    send(write, &delivery, now)?;
    Ok(Answered::Accepted)
}

fn answer_is_under_way(conn: &Connection, thread: i64, call: &CallId) -> Done<bool> {
    let mut statement = conn
        .prepare_cached("SELECT 1 FROM outbox WHERE thread = ?1 AND call = ?2 AND kind = 'choice_answer'")?;
    Ok(statement.exists(params![thread, call.as_str()])?)
}

/// A person's word on a call that awaits one; none if it does not.
fn approve(write: &mut Write<'_>, call: &CallId, selected: u64, now: Millis) -> Done<Option<Answered>> {
    let thread: Option<String> = write
        .conn
        .prepare_cached(
            "SELECT t.id FROM calls c JOIN threads t ON t.n = c.thread
            WHERE c.id = ?1 AND c.state = 'awaiting_approval' AND t.closed = 0",
        )?
        .query_row([call.as_str()], |row| row.get(0))
        .optional()?;
    let Some(thread) = thread else { return Ok(None) };
    if selected >= APPROVAL_CHOICES.len() as u64 {
        return Ok(Some(Answered::NoSuchChoice(APPROVAL_CHOICES.len())));
    }
    Ok(Some(match accept(write, &approval(thread_id(thread)?, call, selected == 1), now)? {
        Accepted::Accepted => Answered::Accepted,
        Accepted::Duplicate => Answered::Already,
        _ => Answered::NoQuestion,
    }))
}

/// Calls of a session that await a person's word, oldest first; whatever an inbox holds for one is that word.
fn awaiting(conn: &Connection, session: &ThreadId) -> Done<Vec<OpenInteraction>> {
    let sql = rows::select_calls(
        ", t.id",
        "JOIN threads t ON t.n = c.thread
        WHERE c.state = 'awaiting_approval' AND t.closed = 0
            AND t.session = (SELECT n FROM sessions WHERE id = ?1)
            AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.thread = c.thread AND i.call = c.id)
        ORDER BY c.created_at, t.id, c.turn, c.idx",
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([session.as_str()])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let thread = thread_id(row.get(11)?)?;
        if let Some(interaction) = Interaction::approval_of(&rows::call(conn, row, &thread)?) {
            open.push(OpenInteraction { thread, interaction });
        }
    }
    Ok(open)
}

pub(crate) fn interactions(conn: &Connection, session: &ThreadId) -> Done<Vec<OpenInteraction>> {
    let mut open = Vec::new();
    for sql in [
        "SELECT t.id, v.body FROM views v JOIN threads t ON t.n = v.thread
        WHERE t.session = (SELECT n FROM sessions WHERE id = ?1) ORDER BY v.n",
        "SELECT t.id, q.body FROM questions q JOIN threads t ON t.n = q.thread
        WHERE t.session = (SELECT n FROM sessions WHERE id = ?1) AND q.answered = 0 ORDER BY q.n",
    ] {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query([session.as_str()])?;
        while let Some(row) = rows.next()? {
            let thread = rows::thread_id(row.get(0)?)?;
            let body: String = row.get(1)?;
            let interaction = from_json(&body, || format!("what thread {thread} shows or asks"))?;
            open.push(OpenInteraction { thread, interaction });
        }
    }
    open.extend(awaiting(conn, session)?);
    Ok(open)
}
