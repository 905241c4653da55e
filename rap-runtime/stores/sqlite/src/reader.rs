//! The threads that read. Each job sees one moment of the database, beside the writer and never behind it.
//!
//! An owner has one connection for all that slices read, ready from the start. A thread opens one of its own for what
//! people look at, and when that one is taken: a connection costs a millisecond, and a start should not pay for three.

use crate::{fault::Done, rehearsal};
use rap_core::StoreError;
use rusqlite::Connection;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Source) + Send>;

type Open = Box<dyn Fn() -> Done<Connection> + Send>;

/// Where a reading thread gets its connection.
pub(crate) enum Source {
    /// One of its own from when it first needs one, as long as it lives.
    Kept(Open, Option<Connection>),
    /// A new one for every job: the owner may come and go.
    Fresh(Open),
}

/// What a job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A few rows of a slice: it waits for the connection of all.
    Few,
    /// A whole history for a slice: it takes that connection if it is free.
    Whole,
    /// Something else, of any size.
    Other,
}

impl Source {
    fn read<T>(
        &mut self,
        quick: Option<&Quick>,
        kind: Kind,
        work: impl FnOnce(&Connection) -> Done<T>,
    ) -> Done<T> {
        let (open, own) = match self {
            Self::Kept(_, Some(own)) => return in_transaction(own, work),
            Self::Kept(open, own) => (open, own),
            Self::Fresh(open) => return in_transaction(&open()?, work),
        };
        let shared = match kind {
            Kind::Few => quick.map(Quick::wait),
            Kind::Whole => quick.and_then(Quick::take),
            Kind::Other => None,
        };
        match shared {
            Some(conn) => in_transaction(&conn, work),
            None => in_transaction(own.insert(open()?), work),
        }
    }
}

/// The connection of all slices.
#[derive(Debug)]
struct Quick {
    conn: Mutex<Connection>,
    /// Its rehearsal is over.
    ready: AtomicBool,
}

impl Quick {
    /// It, unless somebody reads. Its rehearsal is waited for: to open another one takes longer.
    fn take(&self) -> Option<MutexGuard<'_, Connection>> {
        if self.ready.load(Ordering::Acquire) { self.take_now() } else { Some(self.wait()) }
    }

    fn wait(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_now(&self) -> Option<MutexGuard<'_, Connection>> {
        match self.conn.try_lock() {
            Ok(conn) => Some(conn),
            Err(TryLockError::Poisoned(conn)) => Some(conn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The first to ask need not wait for what is the same for all.
    fn rehearse(&self) {
        let conn = self.wait();
        let _ = catch_unwind(AssertUnwindSafe(|| rehearsal::of_reading(&conn)));
        self.ready.store(true, Ordering::Release);
    }
}

/// Where reading jobs are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    jobs: mpsc::Sender<Job>,
    /// For what is read where it is asked.
    quick: Option<Arc<Quick>>,
    path: Arc<str>,
}

impl Readers {
    /// Starts a thread for each source. They end when all senders are gone.
    pub(crate) fn start(
        path: &str,
        sources: Vec<Source>,
        quick: Option<Connection>,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let inbox = Arc::new(Mutex::new(inbox));
        let mut handles = Vec::new();
        let quick = quick.map(|conn| Quick { conn: Mutex::new(conn), ready: AtomicBool::new(false) });
        let quick = quick.map(Arc::new);
        for (n, mut source) in sources.into_iter().enumerate() {
            let inbox = inbox.clone();
            let quick = quick.clone().filter(|_| n == 0);
            let run = move || {
                if let Some(quick) = quick {
                    quick.rehearse();
                }
                loop {
                    let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(&mut source),
                        Err(_) => return,
                    }
                }
            };
            handles.push(std::thread::Builder::new().name("rap-sqlite-read".into()).spawn(run)?);
        }
        Ok((Self { jobs, quick, path: path.into() }, handles))
    }

    /// Reads in one transaction, on the caller's own thread where that is possible at once. For what takes microseconds.
    pub(crate) async fn read_here<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if let Some(quick) = &self.quick
            && let Some(conn) = quick.take_now()
        {
            return caught(&self.path, || in_transaction(&conn, work));
        }
        self.hand_in(Kind::Few, work).await
    }

    /// Reads what a slice needs that is not few.
    pub(crate) async fn read_whole<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(Kind::Whole, work).await
    }

    /// Reads anything else.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(Kind::Other, work).await
    }

    /// Reads in one transaction, on a thread that reads.
    async fn hand_in<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = oneshot::channel();
        let (path, quick) = (self.path.clone(), self.quick.clone());
        let job: Job = Box::new(move |source| {
            let result = caught(&path, || source.read(quick.as_deref(), kind, work));
            let _ = reply.send(result);
        });
        let _ = self.jobs.send(job);
        result.await.unwrap_or_else(|_| Err(StoreError::Failed("the store is closed".into())))
    }
}

fn caught<T>(path: &str, work: impl FnOnce() -> Done<T>) -> Result<T, StoreError> {
    let result = catch_unwind(AssertUnwindSafe(work));
    let result = result.unwrap_or_else(|_| Err(StoreError::Failed("bug: a read panicked".into()).into()));
    result.map_err(|fault| fault.into_error(path))
}

fn in_transaction<T>(conn: &Connection, work: impl FnOnce(&Connection) -> Done<T>) -> Done<T> {
    if !conn.is_autocommit() {
        // A read that panicked left its transaction behind.
        conn.execute_batch("ROLLBACK")?;
    }
    conn.prepare_cached("BEGIN")?.execute([])?;
    let result = work(conn);
    conn.prepare_cached("COMMIT")?.execute([])?;
    result
}
