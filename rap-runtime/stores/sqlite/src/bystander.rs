//! Reading a database that another process owns.

use crate::{
    fault::Done,
    interact, open,
    reader::{Readers, Source},
    rows,
    shared::UnderWay,
    views,
};
use rap_core::{
    CallView, DeadLetterView, HistoryView, Numbered, OpenInteraction, Session, SessionView, SliceView,
    StoreError, SubscriptionView, ThreadView,
};
use rap_types::ThreadId;
use rusqlite::Connection;
use std::{path::Path, sync::Arc};

/// A read-only view of a database, whether or not a process owns it. It takes no lock, and makes and
/// changes no file.
///
/// Claims live in the owner's memory: a thread whose slice runs shows as `running` here only while
/// something of it is due.
#[derive(Debug, Clone)]
pub struct SqliteReader {
    readers: Readers,
}

impl SqliteReader {
    /// Looks at a database.
    ///
    /// # Errors
    /// When there is none, or it cannot be read: newer, damaged, of another program.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let shown = path.display().to_string();
        let source = Source::Fresh(Box::new(move || open::bystander(&path)));
        let (readers, _) = Readers::start(&shown, vec![source], None)
            .map_err(|e| StoreError::Failed(format!("no thread for {shown}: {e}")))?;
        readers.read(|_| Ok(())).await?;
        Ok(Self { readers })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(work).await
    }

    /// See [`Store::session`](rap_core::Store::session).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session(&self, id: &ThreadId) -> Result<Option<Arc<Session>>, StoreError> {
        let id = id.clone();
        self.read(move |conn| {
            let found = views::session_number(conn, &id)?;
            found.map(|(n, _)| rows::session(conn, n).map(|(session, _)| Arc::new(session))).transpose()
        })
        .await
    }

    /// See [`Store::sessions`](rap_core::Store::sessions).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn sessions(&self) -> Result<Vec<SessionView>, StoreError> {
        self.read(|conn| views::sessions(conn, &|_| false)).await
    }

    /// See [`Store::threads`](rap_core::Store::threads).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn threads(&self, session: &ThreadId) -> Result<Vec<ThreadView>, StoreError> {
        let session = session.clone();
        self.read(move |conn| views::threads(conn, &session, &|_| false)).await
    }

    /// See [`Store::history`](rap_core::Store::history).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError> {
        let thread = thread.clone();
        self.read(move |conn| views::history(conn, &thread, &|_| false)).await
    }

    /// See [`Store::slices`](rap_core::Store::slices).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn slices(
        &self,
        thread: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<SliceView>, StoreError> {
        let thread = thread.clone();
        self.read(move |conn| views::slices(conn, &thread, after, limit)).await
    }

    /// See [`Store::calls`](rap_core::Store::calls).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn calls(&self, only_open: bool) -> Result<Vec<CallView>, StoreError> {
        self.read(move |conn| views::calls(conn, only_open, &UnderWay::default())).await
    }

    /// See [`Store::subscriptions`](rap_core::Store::subscriptions).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionView>, StoreError> {
        self.read(views::subscriptions).await
    }

    /// See [`Store::events`](rap_core::Store::events).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(
        &self,
        session: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Numbered>, StoreError> {
        let session = session.clone();
        self.read(move |conn| views::events(conn, &session, after, limit)).await
    }

    /// See [`Store::dead_letters`](rap_core::Store::dead_letters).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, StoreError> {
        self.read(views::dead_letters).await
    }

    /// See [`Store::interactions`](rap_core::Store::interactions).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn interactions(&self, session: &ThreadId) -> Result<Vec<OpenInteraction>, StoreError> {
        let session = session.clone();
        self.read(move |conn| interact::interactions(conn, &session)).await
    }

    /// See [`Store::get`](rap_core::Store::get).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |conn| views::get(conn, &name)).await
    }
}
