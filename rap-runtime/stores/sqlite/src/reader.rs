//! The threads that read. Each job sees one moment of the database, beside the writer and never behind it.

use crate::{fault::Done, rehearsal};
use rap_core::StoreError;
use rusqlite::Connection;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Source) + Send>;

/// Where a reading thread gets its connection.
pub(crate) enum Source {
    /// One of its own, as long as it lives.
    Held(Connection),
    /// A new one for every job: the owner may come and go.
    Fresh(Box<dyn Fn() -> Done<Connection> + Send>),
}

/// Where reading jobs are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    jobs: mpsc::Sender<Job>,
    /// For what is read where it is asked.
    quick: Option<Arc<Mutex<Connection>>>,
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
        let quick = quick.map(|conn| Arc::new(Mutex::new(conn)));
        for (n, mut source) in sources.into_iter().enumerate() {
            let inbox = inbox.clone();
            let quick = quick.clone().filter(|_| n == 0);
            let run = move || {
                if let Some(quick) = quick {
                    rehearsed(&quick.lock().unwrap_or_else(PoisonError::into_inner));
                }
                if let Source::Held(conn) = &source {
                    rehearsed(conn);
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
            && let Ok(conn) = quick.try_lock()
        {
            return caught(&self.path, || in_transaction(&conn, work));
        }
        self.read(work).await
    }

    /// Reads in one transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = oneshot::channel();
        let path = self.path.clone();
        let job: Job = Box::new(move |source| {
            let result = caught(&path, || match source {
                Source::Held(conn) => in_transaction(conn, work),
                Source::Fresh(open) => in_transaction(&open()?, work),
            });
            let _ = reply.send(result);
        });
        let _ = self.jobs.send(job);
        result.await.unwrap_or_else(|_| Err(StoreError::Failed("the store is closed".into())))
    }
}

/// The first to ask need not wait for what is the same for all.
fn rehearsed(conn: &Connection) {
    let _ = catch_unwind(AssertUnwindSafe(|| rehearsal::of_reading(conn)));
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
