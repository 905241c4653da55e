//! A store in memory, for tests and for agents that need not outlive their process.

use rap_core::{
    Accepted, Answered, CallRow, CallView, Claim, Commit, Committed, DeadLetterView, Delivery, HistoryView,
    Interaction, Millis, NewInput, Numbered, OpenInteraction, Reply, Session, SessionView, Settlement,
    SliceView, Snapshot, Store, StoreError, SubscriptionView, SurfaceEvent, ThreadView, Toolbox,
    memory::Memory,
};
use rap_types::{CallId, ThreadId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The store contract in memory. It keeps all of it but durability: what "durable" promises elsewhere lasts
/// here as long as the process.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<Memory>,
    changed: Notify,
}

impl MemoryStore {
    /// An empty store. Clones share their state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all leases run out: what was claimed or taken is anybody's. For tests of what happens then.
    pub fn run_out(&self) {
        self.write(Memory::crash);
    }

    fn read(&self) -> MutexGuard<'_, Memory> {
        // A panic in the state's own code is a bug that its caller hears of; the next caller may go on.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        let out = work(&mut self.read());
        self.inner.changed.notify_one();
        out
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn create(&self, session: &Session) -> Result<(), StoreError> {
        self.write(|m| m.create(session));
        Ok(())
    }

    async fn session(&self, id: &ThreadId) -> Result<Option<Arc<Session>>, StoreError> {
        Ok(self.read().session(id))
    }

    async fn update_toolbox(&self, id: &ThreadId, from: &Toolbox, to: &Toolbox) -> Result<bool, StoreError> {
        Ok(self.write(|m| m.update_toolbox(id, from, to)))
    }

    async fn clock_starts(&self, now: Millis) -> Result<Option<i64>, StoreError> {
        Ok(self.write(|m| m.clock_starts(now)))
    }

    async fn accept(&self, input: NewInput, now: Millis) -> Result<Accepted, StoreError> {
        Ok(self.write(|m| m.accept(input, now)))
    }

    async fn claim(&self, now: Millis) -> Result<Option<Claim>, StoreError> {
        Ok(self.read().claim(now))
    }

    async fn renew(&self, claim: &Claim) -> Result<(), StoreError> {
        self.read().check(claim)
    }

    async fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError> {
        self.read().load(claim)
    }

    async fn commit(&self, claim: &Claim, commit: Commit, now: Millis) -> Result<Committed, StoreError> {
        self.write(|m| m.commit(claim, commit, now))
    }

    async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        self.write(|m| m.release(&claim));
        Ok(())
    }

    async fn take(&self, now: Millis, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.read().take(now, limit))
    }

    async fn begin(&self, delivery: i64) -> Result<bool, StoreError> {
        Ok(self.read().begin(delivery))
    }

    async fn settle(&self, delivery: i64, settlement: Settlement, now: Millis) -> Result<(), StoreError> {
        self.write(|m| m.settle(delivery, settlement, now));
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        Ok(self.read().next_due())
    }

    async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    async fn interact(
        &self,
        thread: &ThreadId,
        interaction: Interaction,
        now: Millis,
    ) -> Result<Accepted, StoreError> {
        Ok(self.write(|m| m.interact(thread, interaction, now)))
    }

    async fn claim_compaction(&self) -> Result<Option<ThreadId>, StoreError> {
        Ok(self.read().claim_compaction())
    }

    async fn release_compaction(&self, thread: &ThreadId) -> Result<(), StoreError> {
        self.read().release_compaction(thread);
        Ok(())
    }

    async fn reply(&self, call: &CallId, reply: Reply, now: Millis) -> Result<Answered, StoreError> {
        Ok(self.write(|m| m.reply(call, reply, now)))
    }

    async fn interactions(&self, session: &ThreadId) -> Result<Vec<OpenInteraction>, StoreError> {
        Ok(self.read().interactions(session))
    }

    async fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.read().get(name))
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.read().put(name, value);
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<SessionView>, StoreError> {
        Ok(self.read().sessions())
    }

    async fn threads(&self, session: &ThreadId) -> Result<Vec<ThreadView>, StoreError> {
        Ok(self.read().threads(session))
    }

    async fn history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError> {
        Ok(self.read().history(thread))
    }

    async fn slices(
        &self,
        thread: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<SliceView>, StoreError> {
        Ok(self.read().slices(thread, after, limit))
    }

    async fn call(&self, thread: &ThreadId, id: &CallId) -> Result<Option<CallRow>, StoreError> {
        Ok(self.read().call(thread, id))
    }

    async fn calls(&self, only_open: bool) -> Result<Vec<CallView>, StoreError> {
        Ok(self.read().calls(only_open))
    }

    async fn subscriptions(&self) -> Result<Vec<SubscriptionView>, StoreError> {
        Ok(self.read().subscriptions())
    }

    async fn show(&self, event: &SurfaceEvent, now: Millis) -> Result<(), StoreError> {
        self.write(|m| m.show_event(event, now));
        Ok(())
    }

    async fn events(
        &self,
        session: &ThreadId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Numbered>, StoreError> {
        Ok(self.read().events(session, after, limit))
    }

    async fn recent_history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError> {
        Ok(self.read().recent_history(thread))
    }

    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.write(|m| m.drop_dead_letter(id)))
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, StoreError> {
        Ok(self.read().dead_letters())
    }
}
