//! The one thread that writes. It takes all jobs that wait and commits them in one transaction, each in a
//! savepoint of its own: many share one flush, and one that fails takes no other with it.

use crate::{
    fault::{Done, Fault},
    outbox, rehearsal,
    shared::{Shared, Way},
};
use rap_core::StoreError;
use rap_types::ThreadId;
use rusqlite::Connection;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long a job that need not be durable waits for others.
const LAZY: Duration = Duration::from_millis(50);
/// How long settlements that could not be written wait, where nothing else is written meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// Jobs in one transaction, at most.
const BATCH: usize = 1024;

/// What a job works on.
pub(crate) struct Write<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) shared: &'a Shared,
    pub(crate) after: After,
}

/// What is done in memory once the transaction is durable, or undone when it failed.
#[derive(Default)]
pub(crate) struct After {
    /// Threads whose claims are fenced off.
    pub(crate) revoked: Vec<ThreadId>,
    /// Deliveries that leave the outbox untried.
    pub(crate) withdrawn: Vec<i64>,
    /// Settlements that are now in the database.
    pub(crate) settled: Vec<(i64, Way)>,
    /// Requests that are now in the outbox, each behind its thread's number.
    pub(crate) sent: Vec<(i64, i64)>,
}

impl Write<'_> {
    /// Whether a delivery may have been sent. If not, nobody can take it any more.
    pub(crate) fn withdraw(&mut self, id: i64) -> bool {
        let mut under_way = self.shared.under_way();
        match under_way.get(&id) {
            // It is taken, and nobody has begun to send it: whoever has it will find it gone.
            None | Some(Way::Taken { before: false, begun: false, .. } | Way::Again { begun: false, .. }) => {
            }
            Some(_) => return false,
        }
        under_way.insert(id, Way::Withdrawn);
        self.after.withdrawn.push(id);
        true
    }
}

/// A piece of writing that waits for its turn.
pub(crate) trait Job: Send {
    /// Runs in the transaction. An error is kept for the caller and makes the savepoint roll back.
    fn run(&mut self, write: &mut Write<'_>) -> Result<(), ()>;
    /// The transaction is durable, or failed with an error.
    fn finish(self: Box<Self>, failed: Option<&StoreError>, shared: &Shared);
    /// It need not be durable when its caller goes on.
    fn is_lazy(&self) -> bool;
}

struct Call<T, F> {
    work: Option<F>,
    result: Option<Done<T>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Write<'_>) -> Done<T> + Send> Job for Call<T, F> {
    fn run(&mut self, write: &mut Write<'_>) -> Result<(), ()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = catch_unwind(AssertUnwindSafe(|| work(write))).unwrap_or_else(|_| {
            Err(StoreError::Failed("bug: a write panicked; nothing of it was written".into()).into())
        });
        let outcome = if result.is_ok() { Ok(()) } else { Err(()) };
        self.result = Some(result);
        outcome
    }

    fn finish(self: Box<Self>, failed: Option<&StoreError>, shared: &Shared) {
        let result = match (self.result, failed) {
            (Some(Err(fault)), _) => Err(fault.into_error(&shared.path)),
            (_, Some(failed)) => Err(shared_by_all(failed)),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Failed("bug: a write was not run".into())),
        };
        let _ = self.reply.send(result);
    }

    fn is_lazy(&self) -> bool {
        false
    }
}

/// A settlement. Nobody waits for it, and it is handed in until it is written: else what a server has taken would be sent
/// to it once more, at the next start.
struct Settling {
    id: i64,
    way: Way,
    failed: Option<Fault>,
}

impl Job for Settling {
    fn run(&mut self, write: &mut Write<'_>) -> Result<(), ()> {
        self.failed = outbox::settle(write, self.id, self.way).err();
        if self.failed.is_none() { Ok(()) } else { Err(()) }
    }

    fn finish(self: Box<Self>, failed: Option<&StoreError>, shared: &Shared) {
        let own = self.failed.map(|fault| fault.into_error(&shared.path));
        match own.as_ref().or(failed) {
            // It is another process's by now.
            None | Some(StoreError::Owned { .. }) => {}
            Some(error) => {
                tracing::warn!(request = self.id, %error, "a settlement could not be written; trying again");
                shared.unwritten().push((self.id, self.way));
            }
        }
    }

    fn is_lazy(&self) -> bool {
        true
    }
}

/// Where jobs are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
}

impl Writer {
    /// Starts the thread. It ends when all senders are gone and everything handed in is written.
    pub(crate) fn start(
        conn: Connection,
        shared: Arc<Shared>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::channel();
        let handle = std::thread::Builder::new()
            .name("rap-sqlite-write".into())
            .spawn(move || run(&conn, &shared, &inbox))?;
        Ok((Self { jobs }, handle))
    }

    /// Hands in a job; the receiver gets its result once it is durable.
    pub(crate) fn hand_in<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Write<'_>) -> Done<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (reply, result) = oneshot::channel();
        let job = Call { work: Some(work), result: None, reply };
        // If the thread is gone, so is the reply, and the caller hears of it there.
        let _ = self.jobs.send(Box::new(job));
        result
    }

    /// Hands in a settlement, to be written with the next commit, or soon.
    pub(crate) fn settle(&self, id: i64, way: Way) {
        let _ = self.jobs.send(Box::new(Settling { id, way, failed: None }));
    }
}

fn run(conn: &Connection, shared: &Shared, inbox: &mpsc::Receiver<Box<dyn Job>>) {
    if shared.guest.is_none() {
        let _ = catch_unwind(AssertUnwindSafe(|| rehearsal::of_writing(conn, shared)));
    }
    while let Some(mut batch) = next(shared, inbox) {
        gather(&mut batch, inbox);
        let deadline = Instant::now() + LAZY;
        while batch.len() < BATCH && batch.iter().all(|job| job.is_lazy()) {
            match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
            gather(&mut batch, inbox);
        }
        write_all(conn, shared, batch);
    }
    // The last chance of what could not be written.
    let rest = unwritten(shared);
    write_all(conn, shared, rest);
}

/// Waits for something to write: what could not be written comes along, or alone after a while. None once nobody hands
/// anything in any more.
fn next(shared: &Shared, inbox: &mpsc::Receiver<Box<dyn Job>>) -> Option<Vec<Box<dyn Job>>> {
    if shared.unwritten().is_empty() {
        return inbox.recv().ok().map(|job| vec![job]);
    }
    let job = match inbox.recv_timeout(AGAIN) {
        Ok(job) => Some(job),
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        Err(mpsc::RecvTimeoutError::Disconnected) => return None,
    };
    // Of two settlements of a request the later one counts.
    let mut batch = unwritten(shared);
    batch.extend(job);
    Some(batch)
}

fn unwritten(shared: &Shared) -> Vec<Box<dyn Job>> {
    let unwritten = std::mem::take(&mut *shared.unwritten());
    let job = |(id, way)| Box::new(Settling { id, way, failed: None }) as Box<dyn Job>;
    unwritten.into_iter().map(job).collect()
}

fn write_all(conn: &Connection, shared: &Shared, mut batch: Vec<Box<dyn Job>>) {
    while !batch.is_empty() {
        batch = match <[_; 1]>::try_from(batch) {
            Ok([job]) => {
                write_alone(conn, shared, job);
                Vec::new()
            }
            Err(batch) => write(conn, shared, batch),
        };
    }
}

fn gather(batch: &mut Vec<Box<dyn Job>>, inbox: &mpsc::Receiver<Box<dyn Job>>) {
    while batch.len() < BATCH {
        match inbox.try_recv() {
            Ok(job) => batch.push(job),
            Err(_) => break,
        }
    }
}

/// Writes a batch. Gives back the jobs that were not reached because SQLite gave the transaction up.
fn write(conn: &Connection, shared: &Shared, batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let mut after = After::default();
    let mut done = Vec::with_capacity(batch.len());
    let mut rest = batch.into_iter();
    let mut failed = begin(conn, shared).err();
    if failed.is_none() {
        for mut job in rest.by_ref() {
            let result = savepoint(conn, shared, &mut *job, &mut after);
            done.push(job);
            if let Err(fault) = result {
                failed = Some(fault);
                break;
            }
        }
    } else {
        done.extend(rest.by_ref());
    }
    let error = match failed {
        None => commit(conn, shared, &after).err(),
        some => some,
    };
    let error = error.map(|fault| fault.into_error(&shared.path));
    if error.is_some() {
        if !conn.is_autocommit() {
            let _ = conn.execute_batch("ROLLBACK");
        }
        undo(shared, &after);
    } else {
        shared.bump();
    }
    for job in done {
        job.finish(error.as_ref(), shared);
    }
    rest.collect()
}

/// Writes a single job: it needs no savepoint, the transaction is its own.
fn write_alone(conn: &Connection, shared: &Shared, mut job: Box<dyn Job>) {
    let mut own = Write { conn, shared, after: After::default() };
    let written = begin(conn, shared).and_then(|()| match job.run(&mut own) {
        Ok(()) => commit(conn, shared, &own.after).map(|()| true),
        Err(()) => Ok(false),
    });
    if matches!(written, Ok(true)) {
        shared.bump();
    } else {
        if !conn.is_autocommit() {
            let _ = conn.execute_batch("ROLLBACK");
        }
        undo(shared, &own.after);
    }
    let error = written.err().map(|fault| fault.into_error(&shared.path));
    job.finish(error.as_ref(), shared);
}

/// The error of a transaction, for one of its jobs.
fn shared_by_all(error: &StoreError) -> StoreError {
    match error {
        StoreError::Owned { path, owner } => StoreError::Owned { path: path.clone(), owner: owner.clone() },
        StoreError::Damaged { what, detail } => {
            StoreError::Damaged { what: what.clone(), detail: detail.clone() }
        }
        StoreError::Failed(text) => StoreError::Failed(text.clone()),
        other => StoreError::Failed(other.to_string()),
    }
}

fn begin(conn: &Connection, shared: &Shared) -> Done<()> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let epoch: i64 = conn
        .prepare_cached("SELECT value FROM meta WHERE name = 'epoch'")?
        .query_row([], |row| row.get(0))?;
    if epoch != shared.epoch {
        return Err(shared.is_replaced().into());
    }
    Ok(())
}

/// Runs a job in a savepoint. An error means that the transaction itself is gone.
fn savepoint(conn: &Connection, shared: &Shared, job: &mut dyn Job, after: &mut After) -> Done<()> {
    conn.prepare_cached("SAVEPOINT job")?.execute([])?;
    let mut write = Write { conn, shared, after: After::default() };
    let outcome = job.run(&mut write);
    let mut own = write.after;
    if outcome.is_ok() {
        conn.prepare_cached("RELEASE job")?.execute([])?;
        after.revoked.append(&mut own.revoked);
        after.withdrawn.append(&mut own.withdrawn);
        after.settled.append(&mut own.settled);
        after.sent.append(&mut own.sent);
        return Ok(());
    }
    undo(shared, &own);
    if conn.is_autocommit() {
        return Err(StoreError::Failed(format!("{}: SQLite gave up the transaction", shared.path)).into());
    }
    conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
    conn.prepare_cached("RELEASE job")?.execute([])?;
    Ok(())
}

/// Commits, and makes memory agree before anybody can look.
fn commit(conn: &Connection, shared: &Shared, after: &After) -> Done<()> {
    // Nobody claims a thread between the commit that fences it off and the loss of its claims.
    let mut claims = (!after.revoked.is_empty()).then(|| shared.claims());
    conn.prepare_cached("COMMIT")?.execute([]).map_err(Fault::Sql)?;
    if let Some(claims) = &mut claims {
        after.revoked.iter().for_each(|thread| claims.revoke(thread));
    }
    drop(claims);
    after.sent.iter().for_each(|(thread, id)| shared.sent(*thread, *id));
    after.withdrawn.iter().for_each(|id| shared.gone(*id));
    let gone = after.settled.iter().filter(|(_, way)| matches!(way, Way::Gone { .. }));
    gone.for_each(|(id, _)| shared.gone(*id));
    let mut under_way = shared.under_way();
    after.withdrawn.iter().for_each(|id| {
        under_way.remove(id);
    });
    for (id, way) in &after.settled {
        if under_way.get(id) == Some(way) {
            under_way.remove(id);
        }
    }
    Ok(())
}

fn undo(shared: &Shared, after: &After) {
    shared.forget_rules();
    let mut under_way = shared.under_way();
    after.withdrawn.iter().for_each(|id| {
        under_way.remove(id);
    });
}
