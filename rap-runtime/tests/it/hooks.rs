//! A store in memory that tests can count on, hold up and make fail.

use rap_runtime::{
    MemoryStore,
    core::{
        Accepted, Answered, CallRow, CallView, Claim, Commit, Committed, DeadLetterView, Delivery,
        HistoryView, Interaction, Millis, NewInput, Numbered, OpenInteraction, Reply, Session, SessionView,
        Settlement, SliceView, Snapshot, Store, StoreError, SubscriptionView, SurfaceEvent, ThreadView,
        Toolbox,
    },
};
use rap_types::{CallId, ThreadId};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

#[derive(Default)]
pub(crate) struct Hooks {
    /// Looks for something due.
    pub(crate) claims: AtomicUsize,
    /// So many of the next loads fail.
    pub(crate) failing_loads: AtomicUsize,
    /// So many of the next commits fail.
    pub(crate) failing_commits: AtomicUsize,
    /// So many of the next looks for an old call fail.
    pub(crate) failing_calls: AtomicUsize,
    /// So many of the next commits are told that the database is damaged.
    pub(crate) damaged_commits: AtomicUsize,
    /// So many of the next settlements fail.
    pub(crate) failing_settles: AtomicUsize,
    /// Settlements, those that failed included.
    pub(crate) settles: AtomicUsize,
    /// So many of the next commits are told that another worker has the thread.
    pub(crate) fenced_commits: AtomicUsize,
    /// While it is set, a commit needs a permit of it before it begins.
    pub(crate) commit_gate: std::sync::Mutex<Option<Arc<Semaphore>>>,
    /// Commits that wait at the gate, or have passed it.
    pub(crate) commits: AtomicUsize,
    /// So many of the next accepts fail.
    pub(crate) failing_accepts: AtomicUsize,
    /// While it is set, an accept needs a permit of it before it begins.
    pub(crate) accept_gate: std::sync::Mutex<Option<Arc<Semaphore>>>,
    /// Accepts that wait at the gate, or have passed it.
    pub(crate) accepts: AtomicUsize,
}

#[derive(Clone, Default)]
pub(crate) struct Hooked {
    pub(crate) store: MemoryStore,
    pub(crate) hooks: Arc<Hooks>,
}

fn fails(counter: &AtomicUsize) -> Result<(), StoreError> {
    let error = || StoreError::Failed("the test says so".into());
    if is_one_of_the_next(counter) { Err(error()) } else { Ok(()) }
}

fn is_one_of_the_next(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

macro_rules! pass_on {
    ($(async fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Store for Hooked {
            $(async fn $name(&self $(, $arg: $type)*) -> $out { self.store.$name($($arg),*).await })*

            async fn accept(&self, input: NewInput, now: Millis) -> Result<Accepted, StoreError> {
                self.hooks.accepts.fetch_add(1, Ordering::SeqCst);
                let gate = self.hooks.accept_gate.lock().unwrap().clone();
                if let Some(gate) = gate {
                    gate.acquire().await.unwrap().forget();
                }
                fails(&self.hooks.failing_accepts)?;
                self.store.accept(input, now).await
            }

            async fn claim(&self, now: Millis) -> Result<Option<Claim>, StoreError> {
                self.hooks.claims.fetch_add(1, Ordering::SeqCst);
                self.store.claim(now).await
            }

            async fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError> {
                fails(&self.hooks.failing_loads)?;
                self.store.load(claim).await
            }

            async fn call(&self, thread: &ThreadId, id: &CallId) -> Result<Option<CallRow>, StoreError> {
                fails(&self.hooks.failing_calls)?;
                self.store.call(thread, id).await
            }

            async fn settle(&self, delivery: i64, settlement: Settlement, now: Millis) -> Result<(), StoreError> {
                self.hooks.settles.fetch_add(1, Ordering::SeqCst);
                fails(&self.hooks.failing_settles)?;
                self.store.settle(delivery, settlement, now).await
            }

            async fn commit(&self, claim: &Claim, commit: Commit, now: Millis) -> Result<Committed, StoreError> {
                self.hooks.commits.fetch_add(1, Ordering::SeqCst);
                let gate = self.hooks.commit_gate.lock().unwrap().clone();
                if let Some(gate) = gate {
                    gate.acquire().await.unwrap().forget();
                }
                fails(&self.hooks.failing_commits)?;
                if is_one_of_the_next(&self.hooks.damaged_commits) {
                    return Err(StoreError::Damaged { what: "a page".into(), detail: "the test says so".into() });
                }
                if is_one_of_the_next(&self.hooks.fenced_commits) {
                    return Err(StoreError::Fenced);
                }
                self.store.commit(claim, commit, now).await
            }
        }
    };
}

pass_on! {
    async fn create(&self, session: &Session) -> Result<(), StoreError>;
    async fn session(&self, id: &ThreadId) -> Result<Option<Arc<Session>>, StoreError>;
    async fn update_toolbox(&self, id: &ThreadId, from: &Toolbox, to: &Toolbox) -> Result<bool, StoreError>;
    async fn clock_starts(&self, now: Millis) -> Result<Option<i64>, StoreError>;
    async fn renew(&self, claim: &Claim) -> Result<(), StoreError>;
    async fn release(&self, claim: Claim) -> Result<(), StoreError>;
    async fn take(&self, now: Millis, limit: usize) -> Result<Vec<Delivery>, StoreError>;
    async fn begin(&self, delivery: i64) -> Result<bool, StoreError>;
    async fn next_due(&self) -> Result<Option<Millis>, StoreError>;
    async fn changed(&self) -> ();
    async fn interact(&self, thread: &ThreadId, what: Interaction, now: Millis) -> Result<Accepted, StoreError>;
    async fn claim_compaction(&self) -> Result<Option<ThreadId>, StoreError>;
    async fn release_compaction(&self, thread: &ThreadId) -> Result<(), StoreError>;
    async fn reply(&self, call: &CallId, reply: Reply, now: Millis) -> Result<Answered, StoreError>;
    async fn interactions(&self, session: &ThreadId) -> Result<Vec<OpenInteraction>, StoreError>;
    async fn get(&self, name: &str) -> Result<Option<String>, StoreError>;
    async fn put(&self, name: &str, value: &str) -> Result<(), StoreError>;
    async fn sessions(&self) -> Result<Vec<SessionView>, StoreError>;
    async fn threads(&self, session: &ThreadId) -> Result<Vec<ThreadView>, StoreError>;
    async fn history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError>;
    async fn slices(&self, thread: &ThreadId, after: i64, limit: usize) -> Result<Vec<SliceView>, StoreError>;
    async fn calls(&self, only_open: bool) -> Result<Vec<CallView>, StoreError>;
    async fn subscriptions(&self) -> Result<Vec<SubscriptionView>, StoreError>;
    async fn show(&self, event: &SurfaceEvent, now: Millis) -> Result<(), StoreError>;
    async fn events(&self, session: &ThreadId, after: i64, limit: usize) -> Result<Vec<Numbered>, StoreError>;
    async fn recent_history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError>;
    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError>;
    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, StoreError>;
}
