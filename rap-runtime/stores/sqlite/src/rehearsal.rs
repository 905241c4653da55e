//! A slice on trial, right after the opening and beside it: all statements are prepared and the schema is read before
//! anybody waits for it. What it writes is rolled back.

use crate::{
    accept, commit,
    fault::{Done, damaged},
    load,
    shared::Shared,
    writer::{After, Write},
};
use rap_core::{
    Millis, ModelTurn, Moment, NewInput, Rules, Session, SliceMachine, Step, Toolbox, TurnOutcome,
};
use rap_types::{ContentPart, ThreadId};
use rusqlite::Connection;

/// For a connection that writes. Whatever goes wrong will go wrong again, for somebody who hears of it.
pub(crate) fn of_writing(conn: &Connection, shared: &Shared) -> Done<()> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let on_trial = slice(conn, &Shared::new(shared.path.clone(), shared.epoch));
    if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    on_trial
}

/// For a connection that reads.
pub(crate) fn of_reading(conn: &Connection) -> Done<()> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let on_trial = load::rehearse(conn, &Shared::new(String::new(), 0));
    conn.prepare_cached("COMMIT")?.execute([])?;
    on_trial
}

fn slice(conn: &Connection, scratch: &Shared) -> Done<()> {
    let root = ThreadId::new("rehearsal").map_err(|e| damaged("a thread's id", e))?;
    let now = Millis(0);
    let session = Session {
        id: root.clone(),
        owner: None,
        user: None,
        created_at: now,
        model: None,
        system: String::new(),
        toolbox: Toolbox::default(),
        rules: Rules::default(),
    };
    let mut write = Write { conn, shared: scratch, after: After::default() };
    accept::create(&mut write, &session)?;
    let message = NewInput::message(root.clone(), "go", vec![ContentPart::text("go")], "rehearsal");
    accept::accept(&mut write, &message, now)?;
    let claim = scratch.claims().issue(root, scratch.epoch);
    let Some(snapshot) = load::load(conn, scratch, &claim, u64::MAX)? else { return Ok(()) };
    let mut machine = SliceMachine::new(snapshot, Moment { now, seed: 0 });
    if let Step::Complete(_) = machine.step() {
        machine.turn(TurnOutcome::Turn(ModelTurn { text: "gone".into(), ..ModelTurn::default() }));
    }
    if let Step::Commit(decided) = machine.step() {
        commit::commit(&mut write, &claim, &decided, now)?;
    }
    Ok(())
}
