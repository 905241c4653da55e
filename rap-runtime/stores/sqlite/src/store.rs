//! The store: one thread that writes, a few that read, and the contract on top.

use crate::{
    accept, clock, commit,
    fault::{Done, json},
    interact, lent, load, open, outbox, owed,
    reader::{Readers, Source},
    rows,
    shared::{Shared, Way},
    subtree, views,
    writer::{Write, Writer},
};
use async_trait::async_trait;
use rap_core::{
    Accepted, Answered, CallRow, CallView, Claim, Commit, Committed, DeadLetterView, Delivery, HistoryView,
    Interaction, Millis, NewInput, Numbered, OpenInteraction, Owed, Reply, Session, SessionView, Settlement,
    SliceView, Snapshot, Store, StoreError, SubscriptionView, SurfaceEvent, ThreadView, Toolbox,
};
use rap_types::{CallId, ThreadId};
use rusqlite::{Connection, params};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::oneshot;

/// Threads that read.
const READERS: usize = 2;
/// Entries that a caller reads by itself; more are read by a thread.
const FEW: u64 = 256;

/// A database that this process owns.
///
/// Dropping it writes what is still in hand, then gives the database free; it waits for that, a few
/// milliseconds.
#[derive(Debug)]
pub struct SqliteStore {
    pub(crate) shared: Arc<Shared>,
    /// The generation that the last call of `changed` saw.
    seen: AtomicU64,
    /// None only while it is dropped.
    writer: Option<Writer>,
    readers: Option<Readers>,
    reading: Vec<JoinHandle<()>>,
    writing: Option<JoinHandle<()>>,
    /// Held as long as any thread may write; a guest has none.
    _lock: Option<File>,
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The writer goes last: whoever closes last tidies the log away, and only it may.
        self.readers = None;
        for reader in self.reading.drain(..) {
            let _ = reader.join();
        }
        self.writer = None;
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
    }
}

impl SqliteStore {
    /// Opens a database and takes it for this process; makes it if there is none.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, it is damaged or not ours: then it is left
    /// untouched. When its directory is missing or cannot be written.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref().to_owned(), Self::open_now).await
    }

    /// Opens on a thread of its own: files may be slow.
    pub(crate) async fn open_with(
        path: PathBuf,
        work: impl FnOnce(PathBuf) -> Done<Self> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (reply, opened) = oneshot::channel();
        let open = move || {
            let shown = path.display().to_string();
            let _ = reply.send(work(path).map_err(|fault| fault.into_error(&shown)));
        };
        std::thread::Builder::new()
            .name("rap-sqlite-open".into())
            .spawn(open)
            .map_err(|e| StoreError::Failed(format!("no thread to open the database: {e}")))?;
        opened.await.unwrap_or_else(|_| Err(StoreError::Failed("bug: opening panicked".into())))
    }

    fn open_now(path: PathBuf) -> Done<Self> {
        open::look(&path)?;
        let lock = open::own(&path)?;
        // Only now does it stand still.
        let found = open::look(&path)?;
        let (conn, epoch) = open::writer(&path, &found)?;
        let shared = Shared::new(path.display().to_string(), epoch);
        Self::start(&path, conn, shared, Some(lock), READERS)
    }

    pub(crate) fn start(
        path: &Path,
        conn: Connection,
        shared: Shared,
        lock: Option<File>,
        readers: usize,
    ) -> Done<Self> {
        let quick = open::reader(path)?;
        // By then the program may be in another directory.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let source = || {
            let path = whole.clone();
            Source::Kept(Box::new(move || open::reader(&path)), None)
        };
        let sources = (0..readers).map(|_| source()).collect();
        let shown = path.display().to_string();
        let no_thread = |e| StoreError::Failed(format!("no thread for {}: {e}", path.display()));
        let shared = Arc::new(shared);
        let (writer, writing) = Writer::start(conn, shared.clone()).map_err(no_thread)?;
        let (readers, reading) = Readers::start(&shown, sources, Some(quick)).map_err(no_thread)?;
        Ok(Self {
            shared,
            seen: AtomicU64::new(0),
            writer: Some(writer),
            readers: Some(readers),
            reading,
            writing: Some(writing),
            _lock: lock,
        })
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Write<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Failed("the store is closed".into());
        let result = self.writer.as_ref().ok_or_else(closed)?.hand_in(work);
        result.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Writes a settlement with the next commit, or soon.
    fn settle_soon(&self, delivery: i64, way: Way) {
        if let Some(writer) = &self.writer {
            writer.settle(delivery, way);
        }
    }

    /// Puts a row of the outbox away that cannot be read. Where that fails, whoever looks next finds it again.
    async fn put_away(&self, delivery: i64, why: String, now: Millis) {
        tracing::error!(
            request = delivery,
            why,
            "a request of the outbox cannot be read: it becomes a dead letter"
        );
        if let Err(error) = self.write(move |write| outbox::put_away(write, delivery, &why, now)).await {
            tracing::error!(request = delivery, %error, "it could not be put away");
            let mut under_way = self.shared.under_way();
            if under_way.get(&delivery) == Some(&Way::Unreadable) {
                under_way.remove(&delivery);
            }
        }
    }

    /// Reads a few rows right here, unless somebody else does so at the moment: to hand that to a thread and to be woken
    /// by it costs more than the reading.
    pub(crate) async fn read_here<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Shared) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let closed = || StoreError::Failed("the store is closed".into());
        self.readers.as_ref().ok_or_else(closed)?.read_here(move |conn| work(conn, &shared)).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Shared) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let closed = || StoreError::Failed("the store is closed".into());
        self.readers.as_ref().ok_or_else(closed)?.read(move |conn| work(conn, &shared)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn create(&self, session: &Session) -> Result<(), StoreError> {
        let session = session.clone();
        self.write(move |write| accept::create(write, &session)).await
    }

    async fn session(&self, id: &ThreadId) -> Result<Option<Arc<Session>>, StoreError> {
        let id = id.clone();
        self.read_here(move |conn, shared| {
            let found = views::session_number(conn, &id)?;
            found.map(|(n, revision)| load::session(conn, shared, n, revision)).transpose()
        })
        .await
    }

    async fn update_toolbox(&self, id: &ThreadId, from: &Toolbox, to: &Toolbox) -> Result<bool, StoreError> {
        let (id, from, to) = (id.clone(), from.clone(), json(to));
        self.write(move |write| {
            let Some((n, _)) = views::session_number(write.conn, &id)? else { return Ok(false) };
            if subtree::toolbox(write.conn, n)? != from {
                return Ok(false);
            }
            write
                .conn
                .prepare_cached("UPDATE settings SET toolbox = ?2 WHERE session = ?1")?
                .execute(params![n, to])?;
            write
                .conn
                .prepare_cached("UPDATE sessions SET revision = revision + 1 WHERE n = ?1")?
                .execute([n])?;
            Ok(true)
        })
        .await
    }

    async fn clock_starts(&self, now: Millis) -> Result<Option<i64>, StoreError> {
        // Only what is worth it costs a flush.
        if self.read_here(move |conn, _| clock::set_back_by(conn, now)).await?.is_none() {
            return Ok(None);
        }
        self.write(move |write| clock::starts(write, now)).await
    }

    async fn accept(&self, input: NewInput, now: Millis) -> Result<Accepted, StoreError> {
        self.write(move |write| accept::accept(write, &input, now)).await
    }

    async fn claim(&self, now: Millis) -> Result<Option<Claim>, StoreError> {
        self.shared.owns()?;
        self.read_here(move |conn, shared| load::claim(conn, shared, now)).await
    }

    async fn renew(&self, claim: &Claim) -> Result<(), StoreError> {
        self.shared.check(claim)?;
        if self.shared.guest.is_some() {
            return self.read(lent::still_mine).await;
        }
        Ok(())
    }

    async fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError> {
        let asked = claim.clone();
        let small = self.read_here(move |conn, shared| load::load(conn, shared, &asked, FEW)).await?;
        let snapshot = match small {
            Some(snapshot) => snapshot,
            None => {
                let asked = claim.clone();
                let shared = self.shared.clone();
                let closed = || StoreError::Failed("the store is closed".into());
                let readers = self.readers.as_ref().ok_or_else(closed)?;
                let whole =
                    readers.read_whole(move |conn| load::load(conn, &shared, &asked, u64::MAX)).await?;
                whole.ok_or(StoreError::Fenced)?
            }
        };
        lent::knows(&self.shared, snapshot.thread.version);
        Ok(snapshot)
    }

    async fn commit(&self, claim: &Claim, commit: Commit, now: Millis) -> Result<Committed, StoreError> {
        let claim = claim.clone();
        let committed = self.write(move |write| commit::commit(write, &claim, &commit, now)).await;
        if let Ok(committed) = &committed {
            lent::knows(&self.shared, committed.version);
        }
        committed.map_err(|error| match error {
            // A later owner has every thread.
            StoreError::Owned { .. } => StoreError::Fenced,
            other => other,
        })
    }

    async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        if self.shared.claims().release(&claim) {
            self.shared.bump();
        }
        Ok(())
    }

    async fn take(&self, now: Millis, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        self.shared.owns()?;
        let found = self.read_here(move |conn, shared| outbox::take(conn, shared, now, limit)).await?;
        for (delivery, way) in found.answered {
            self.settle_soon(delivery, way);
        }
        for (delivery, why) in found.unreadable {
            self.put_away(delivery, why, now).await;
        }
        Ok(found.taken)
    }

    async fn begin(&self, delivery: i64) -> Result<bool, StoreError> {
        self.shared.owns()?;
        Ok(outbox::begin(&self.shared, delivery))
    }

    async fn settle(&self, delivery: i64, settlement: Settlement, now: Millis) -> Result<(), StoreError> {
        let lazily = match &settlement {
            Settlement::Delivered => Some(None),
            Settlement::RetryAt(at) => Some(Some(*at)),
            Settlement::GaveUp { .. } | Settlement::Answered(_) => None,
        };
        if let Some(again) = lazily {
            if let Some(way) = outbox::settle_in_memory(&self.shared, delivery, again) {
                self.settle_soon(delivery, way);
                self.shared.bump();
            }
            return Ok(());
        }
        // What is not written stays taken, to be settled again: nobody else may say otherwise meanwhile.
        let Some(ending) = outbox::end(&self.shared, delivery) else { return Ok(()) };
        let way = ending.way;
        self.write(move |write| match settlement {
            Settlement::GaveUp { reason, input } => {
                outbox::give_up(write, delivery, way, &reason, input.as_deref(), now)
            }
            Settlement::Answered(input) => outbox::answered(write, delivery, way, &input, now),
            Settlement::Delivered | Settlement::RetryAt(_) => outbox::settle(write, delivery, way),
        })
        .await?;
        ending.written();
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        self.shared.owns()?;
        self.read_here(|conn, shared| {
            let thread = load::next_due(conn, shared)?;
            let delivery = outbox::next_due(conn, shared)?;
            Ok(match (thread, delivery) {
                (Some(thread), Some(delivery)) => Some(thread.min(delivery)),
                (thread, delivery) => thread.or(delivery),
            })
        })
        .await
    }

    async fn changed(&self) {
        let mut generation = self.shared.generation();
        let seen = self.seen.load(Ordering::Acquire);
        // The sender lives as long as the store: waiting cannot fail.
        let now = generation.wait_for(|now| *now > seen).await.map_or(seen, |now| *now);
        self.seen.fetch_max(now, Ordering::AcqRel);
    }

    async fn interact(
        &self,
        thread: &ThreadId,
        interaction: Interaction,
        now: Millis,
    ) -> Result<Accepted, StoreError> {
        let thread = thread.clone();
        self.write(move |write| interact::interact(write, &thread, &interaction, now)).await
    }

    async fn claim_compaction(&self) -> Result<Option<ThreadId>, StoreError> {
        self.shared.owns()?;
        self.read_here(load::claim_compaction).await
    }

    async fn release_compaction(&self, thread: &ThreadId) -> Result<(), StoreError> {
        self.shared.compacting().remove(thread);
        Ok(())
    }

    async fn reply(&self, call: &CallId, reply: Reply, now: Millis) -> Result<Answered, StoreError> {
        let call = call.clone();
        self.write(move |write| interact::reply(write, &call, reply, now)).await
    }

    async fn interactions(&self, session: &ThreadId) -> Result<Vec<OpenInteraction>, StoreError> {
        let session = session.clone();
        self.read(move |conn, _| interact::interactions(conn, &session)).await
    }

    async fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read_here(move |conn, _| views::get(conn, &name)).await
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(move |write| {
            write
                .conn
                .prepare_cached(
                    "INSERT INTO named_values VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
                )?
                .execute(params![name, value])?;
            Ok(())
        })
        .await
    }

    async fn sessions(&self) -> Result<Vec<SessionView>, StoreError> {
        self.read(|conn, shared| views::sessions(conn, &|id| shared.claims().is_held(id))).await
    }

    async fn threads(&self, session: &ThreadId) -> Result<Vec<ThreadView>, StoreError> {
        let session = session.clone();
        self.read(move |conn, shared| views::threads(conn, &session, &|id| shared.claims().is_held(id))).await
    }

    async fn history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError> {
        let thread = thread.clone();
        self.read(move |conn, shared| views::history(conn, &thread, &|id| shared.claims().is_held(id))).await
    }

    async fn slices(
        &self,
        thread: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<SliceView>, StoreError> {
        let thread = thread.clone();
        self.read(move |conn, _| views::slices(conn, &thread, after, limit)).await
    }

    async fn call(&self, thread: &ThreadId, id: &CallId) -> Result<Option<CallRow>, StoreError> {
        let (thread, id) = (thread.clone(), id.clone());
        self.read_here(move |conn, _| load::call(conn, &thread, &id)).await
    }

    async fn calls(&self, only_open: bool) -> Result<Vec<CallView>, StoreError> {
        self.read(move |conn, shared| {
            // Not held while all of them are read: senders and slices need it.
            let under_way = shared.under_way().clone();
            views::calls(conn, only_open, &under_way)
        })
        .await
    }

    async fn subscriptions(&self) -> Result<Vec<SubscriptionView>, StoreError> {
        self.read(|conn, _| views::subscriptions(conn)).await
    }

    async fn owed(&self, after: Option<&Owed>, limit: usize) -> Result<Vec<Owed>, StoreError> {
        let after = after.cloned();
        self.read(move |conn, shared| {
            let under_way = shared.under_way().clone();
            owed::owed(conn, &under_way, after.as_ref(), limit)
        })
        .await
    }

    async fn show(&self, event: &SurfaceEvent, now: Millis) -> Result<(), StoreError> {
        let event = event.clone();
        self.write(move |write| match rows::numbers(write.conn, &event.thread)? {
            Some((_, session)) => accept::show(write, session, &event, now),
            None => Ok(()),
        })
        .await
    }

    async fn events(
        &self,
        session: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Numbered>, StoreError> {
        let session = session.clone();
        self.read(move |conn, _| views::events(conn, &session, after, limit)).await
    }

    async fn recent_history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError> {
        let thread = thread.clone();
        self.read(move |conn, shared| views::recent_history(conn, shared, &thread)).await
    }

    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.write(move |write| {
            let gone = write.conn.prepare_cached("DELETE FROM dead_letters WHERE n = ?1")?.execute([id])?;
            Ok(gone > 0)
        })
        .await
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, StoreError> {
        self.read(|conn, _| views::dead_letters(conn)).await
    }
}
