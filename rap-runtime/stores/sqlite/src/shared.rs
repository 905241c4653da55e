//! What the owner of the database knows in memory: who has which thread, what is on its way, and parsed
//! copies of what never changes. Lost with the process, and nothing is lost with it (P6).

use rap_core::{Claim, History, Millis, Rules, Session, StoreError};
use rap_types::ThreadId;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// Bytes of stored JSON that are kept at most, whether or not they were parsed since.
const CACHED_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of settings whose sessions are kept parsed at most.
const CACHED_SETTINGS: usize = 4 * 1024 * 1024;
/// What a session takes in memory beside the text of its settings.
const SESSION_BYTES: usize = 1024;
/// Sessions whose rules are kept at most.
const CACHED_RULES: usize = 4096;

/// What writer, readers and callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The database's path, for messages.
    pub(crate) path: String,
    /// This owner's epoch.
    pub(crate) epoch: i64,
    claims: Mutex<Claims>,
    under_way: Mutex<UnderWay>,
    /// Threads whose history somebody summarises.
    compacting: Mutex<HashSet<ThreadId>>,
    cache: Mutex<Cache>,
    /// The rules of sessions, by number: they never change. The writer's own: it knows sessions before they are durable.
    rules: Mutex<HashMap<i64, Arc<Rules>>>,
    generation: watch::Sender<u64>,
    /// Threads that are lent, by number; per lease, by its fence, the requests that stay here. Locked after
    /// `under_way`, never before.
    lent: Mutex<HashMap<i64, HashMap<i64, HashSet<i64>>>>,
    events: AtomicU64,
    /// Another process has taken the database over: nothing of it may be touched from here any more.
    replaced: AtomicBool,
    /// Settlements that could not be written, oldest first.
    unwritten: Mutex<Vec<(i64, Way)>>,
    /// Where this process is no owner, but was lent a thread.
    pub(crate) guest: Option<Guest>,
}

/// What a process that was lent a thread may touch of what others may hold.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The thread's number.
    pub(crate) thread: i64,
    /// Its version, as far as this process knows.
    pub(crate) version: AtomicI64,
    /// The requests that this process put into the outbox, and has not left to the owner.
    own: Mutex<HashSet<i64>>,
}

impl Guest {
    pub(crate) fn new(thread: i64) -> Self {
        Self { thread, version: AtomicI64::new(-1), own: Mutex::default() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: HashMap<ThreadId, i64>,
    issued: i64,
}

/// Deliveries that are taken, and settlements that are not yet in the database.
pub(crate) type UnderWay = HashMap<i64, Way>;

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Somebody has it. `before`: it may have been sent by an earlier try; `begun`: it is being sent.
    Taken { attempts: u32, first: Millis, before: bool, begun: bool },
    /// It was settled for good, and the row will go.
    Gone { attempts: u32 },
    /// It was settled to be tried again, and the row will say so.
    Again { at: Millis, attempts: u32, first: Millis, begun: bool },
    /// A commit that is being written removes it.
    Withdrawn,
    /// Another process has it.
    Elsewhere,
    /// Its row cannot be read: it is on its way to the dead letters.
    Unreadable,
}

#[derive(Debug, Default)]
struct Cache {
    histories: HashMap<i64, Kept>,
    sessions: HashMap<i64, (i64, Arc<Session>)>,
    /// Of the sessions' settings, about.
    settings: usize,
    /// Of the histories.
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Kept {
    /// The number of the first entry.
    base: u64,
    entries: History,
    bytes: usize,
    used: u64,
}

impl Kept {
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn part_len(&self, from: u64, upto: u64) -> u64 {
        if from < self.base { 0 } else { upto.min(self.end()).saturating_sub(from) }
    }

    fn part(&self, from: u64, upto: u64) -> History {
        let len = usize::try_from(self.part_len(from, upto)).unwrap_or(usize::MAX);
        let start = usize::try_from(from.saturating_sub(self.base)).unwrap_or(usize::MAX);
        if len == 0 { History::default() } else { self.entries.slice(start..start + len) }
    }
}

/// A lock that outlives a panic: everything behind it is right after every single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(path: String, epoch: i64) -> Self {
        Self {
            path,
            epoch,
            claims: Mutex::default(),
            under_way: Mutex::default(),
            compacting: Mutex::default(),
            cache: Mutex::default(),
            rules: Mutex::default(),
            generation: watch::Sender::new(0),
            lent: Mutex::default(),
            events: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            unwritten: Mutex::default(),
            guest: None,
        }
    }

    /// Whether a request of a thread may be taken here, or out of the outbox: not one that another process may be
    /// sending. Of a thread that is lent, what the guest puts into the outbox is the guest's until it leaves it, and
    /// all else stays the owner's.
    pub(crate) fn is_mine(&self, thread: i64, id: i64) -> bool {
        match &self.guest {
            Some(guest) => guest.thread == thread && lock(&guest.own).contains(&id),
            None => lock(&self.lent)
                .get(&thread)
                .is_none_or(|leases| leases.values().all(|stays| stays.contains(&id))),
        }
    }

    /// From now on another process sends what it puts into the outbox for a thread.
    pub(crate) fn lend(&self, thread: i64, fence: i64) {
        lock(&self.lent).entry(thread).or_default().insert(fence, HashSet::new());
    }

    /// Requests of a lent thread that are not, or no longer, the other process's.
    pub(crate) fn stays(&self, thread: i64, fence: i64, ids: &[i64]) {
        // Whoever takes looks at the database after it has this lock: it sees what the other process wrote.
        let _under_way = self.under_way();
        if let Some(stays) = lock(&self.lent).get_mut(&thread).and_then(|leases| leases.get_mut(&fence)) {
            stays.extend(ids);
        }
    }

    /// Whether a request of a lent thread is the other process's.
    pub(crate) fn is_lent(&self, thread: i64, fence: i64, id: i64) -> bool {
        let lent = lock(&self.lent);
        lent.get(&thread).and_then(|leases| leases.get(&fence)).is_some_and(|stays| !stays.contains(&id))
    }

    /// A request is in the outbox, by this process.
    pub(crate) fn sent(&self, thread: i64, id: i64) {
        match &self.guest {
            Some(guest) if guest.thread == thread => {
                lock(&guest.own).insert(id);
            }
            Some(_) => {}
            None => {
                if let Some(leases) = lock(&self.lent).get_mut(&thread) {
                    leases.values_mut().for_each(|stays| {
                        stays.insert(id);
                    });
                }
            }
        }
    }

    /// A request is out of the outbox.
    pub(crate) fn gone(&self, id: i64) {
        if let Some(guest) = &self.guest {
            lock(&guest.own).remove(&id);
        }
    }

    /// Leaves to the owner what a guest put into the outbox and does not have in hand.
    pub(crate) fn leave(&self) -> Vec<i64> {
        let Some(guest) = &self.guest else { return Vec::new() };
        let under_way = self.under_way();
        let mut own = lock(&guest.own);
        let mut left: Vec<i64> = own.iter().copied().filter(|id| !under_way.contains_key(id)).collect();
        left.sort_unstable();
        own.retain(|id| under_way.contains_key(id));
        left
    }

    /// Requests that are taken here, and those whose settlement is not written yet.
    pub(crate) fn in_hand(&self) -> Vec<i64> {
        let under_way = self.under_way();
        under_way.iter().filter(|(_, way)| **way != Way::Unreadable).map(|(id, _)| *id).collect()
    }

    /// The other process sends no more requests of a thread than those that it holds.
    pub(crate) fn end_lending(&self, thread: i64, fence: i64, held: &[i64]) {
        let mut under_way = self.under_way();
        for id in held {
            under_way.entry(*id).or_insert(Way::Elsewhere);
        }
        let mut lent = lock(&self.lent);
        if let Some(leases) = lent.get_mut(&thread) {
            leases.remove(&fence);
            if leases.is_empty() {
                lent.remove(&thread);
            }
        }
    }

    /// The other process is gone, and with it what it held.
    pub(crate) fn end_holding(&self, held: &[i64]) {
        let mut under_way = self.under_way();
        for id in held {
            if under_way.get(id) == Some(&Way::Elsewhere) {
                under_way.remove(id);
            }
        }
    }

    /// Counts an event that was accepted; how many there were before it.
    pub(crate) fn count_event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells everybody who waits that something may have changed.
    pub(crate) fn bump(&self) {
        self.generation.send_modify(|n| *n += 1);
    }

    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(crate) fn claims(&self) -> MutexGuard<'_, Claims> {
        lock(&self.claims)
    }

    pub(crate) fn compacting(&self) -> MutexGuard<'_, HashSet<ThreadId>> {
        lock(&self.compacting)
    }

    pub(crate) fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        lock(&self.under_way)
    }

    /// Whether this process still owns the database, as far as it knows.
    pub(crate) fn owns(&self) -> Result<(), StoreError> {
        if self.replaced.load(Ordering::Acquire) { Err(self.is_replaced()) } else { Ok(()) }
    }

    /// The database has another epoch: somebody else owns it, and this process does nothing with it any more.
    pub(crate) fn is_replaced(&self) -> StoreError {
        if !self.replaced.swap(true, Ordering::AcqRel) {
            // Whoever waits for something due is to hear of it.
            self.bump();
        }
        StoreError::Owned { path: self.path.clone(), owner: "a later process".into() }
    }

    pub(crate) fn unwritten(&self) -> MutexGuard<'_, Vec<(i64, Way)>> {
        lock(&self.unwritten)
    }

    /// Whether a claim still holds (P4).
    pub(crate) fn check(&self, claim: &Claim) -> Result<(), StoreError> {
        if self.owns().is_ok() && self.claims().held.get(&claim.thread) == Some(&claim.fence) {
            Ok(())
        } else {
            Err(StoreError::Fenced)
        }
    }

    /// Entries of a thread from one on, before another, as far as they are kept.
    pub(crate) fn kept_history(&self, thread: i64, from: u64, upto: u64) -> History {
        let mut cache = lock(&self.cache);
        cache.clock += 1;
        let now = cache.clock;
        let Some(kept) = cache.histories.get_mut(&thread) else { return History::default() };
        kept.used = now;
        kept.part(from, upto)
    }

    /// How many of these entries are not kept.
    pub(crate) fn missing(&self, thread: i64, from: u64, upto: u64) -> u64 {
        let cache = lock(&self.cache);
        let kept = cache.histories.get(&thread).map_or(0, |kept| kept.part_len(from, upto));
        upto.saturating_sub(from) - kept
    }

    /// Keeps entries, numbered from `next`, that were read from the database: they never change. They were read to go on
    /// after what is kept `from` an entry on, if anything is.
    pub(crate) fn keep_history(&self, thread: i64, from: u64, next: u64, new: &History, bytes: usize) {
        let mut cache = lock(&self.cache);
        cache.clock += 1;
        let now = cache.clock;
        let mut freed = 0;
        match cache.histories.get_mut(&thread) {
            Some(kept) if kept.end() == next => {
                kept.entries.append(new);
                kept.bytes += bytes;
                kept.used = now;
            }
            // Another load was faster.
            Some(kept) if kept.base <= from && kept.end() >= next => return,
            kept => {
                if from != next {
                    return; // What it went on after was dropped meanwhile.
                }
                freed = kept.map_or(0, |kept| kept.bytes);
                let entries = new.clone();
                cache.histories.insert(thread, Kept { base: from, entries, bytes, used: now });
            }
        }
        cache.bytes = cache.bytes + bytes - freed;
        while cache.bytes > CACHED_BYTES {
            let oldest = cache.histories.iter().min_by_key(|(_, kept)| kept.used).map(|(n, _)| *n);
            let Some(dropped) = oldest.and_then(|n| cache.histories.remove(&n)) else { break };
            cache.bytes -= dropped.bytes;
        }
    }

    pub(crate) fn kept_rules(&self, session: i64) -> Option<Arc<Rules>> {
        lock(&self.rules).get(&session).cloned()
    }

    pub(crate) fn keep_rules(&self, session: i64, rules: &Arc<Rules>) {
        let mut kept = lock(&self.rules);
        if kept.len() >= CACHED_RULES {
            kept.clear();
        }
        kept.insert(session, rules.clone());
    }

    /// Something was not written: the number of a session may become another's.
    pub(crate) fn forget_rules(&self) {
        lock(&self.rules).clear();
    }

    pub(crate) fn kept_session(&self, n: i64, revision: i64) -> Option<Arc<Session>> {
        let cache = lock(&self.cache);
        cache.sessions.get(&n).filter(|(kept, _)| *kept == revision).map(|(_, session)| session.clone())
    }

    /// Keeps a session; `bytes`: of the text of its settings.
    pub(crate) fn keep_session(&self, n: i64, revision: i64, session: &Arc<Session>, bytes: usize) {
        let mut cache = lock(&self.cache);
        cache.settings += bytes + SESSION_BYTES;
        if cache.settings > CACHED_SETTINGS {
            cache.sessions.clear();
            cache.settings = bytes + SESSION_BYTES;
        }
        cache.sessions.insert(n, (revision, session.clone()));
    }
}

impl Claims {
    pub(crate) fn is_held(&self, thread: &ThreadId) -> bool {
        self.held.contains_key(thread)
    }

    /// A new claim. Its fence is unique: the epoch, then a count.
    pub(crate) fn issue(&mut self, thread: ThreadId, epoch: i64) -> Claim {
        self.issued += 1;
        let fence = (epoch << 32) | self.issued;
        self.held.insert(thread.clone(), fence);
        Claim { thread, fence }
    }

    /// Takes over a claim that another process issued.
    pub(crate) fn adopt(&mut self, claim: &Claim) {
        self.held.insert(claim.thread.clone(), claim.fence);
    }

    pub(crate) fn release(&mut self, claim: &Claim) -> bool {
        let holds = self.held.get(&claim.thread) == Some(&claim.fence);
        if holds {
            self.held.remove(&claim.thread);
        }
        holds
    }

    pub(crate) fn revoke(&mut self, thread: &ThreadId) {
        self.held.remove(thread);
    }
}
