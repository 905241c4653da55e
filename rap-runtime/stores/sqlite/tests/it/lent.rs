//! Threads that are lent: who sends what, and what is thought of a guest that is gone without a word.

use rap_core::contract::hand::{all_used, at, call, call_row, claim, invocation, message, root, woken};
use rap_core::{
    Accepted, Answered, CallState, Commit, Delivery, DeliveryKind, Interaction, Settlement, Snapshot, Store,
};
use rap_store_sqlite::{Lease, SqliteStore};
use rap_types::{HttpUrl, ThreadId};
use tempfile::TempDir;

struct Lent {
    owner: SqliteStore,
    lease: Lease,
    root: ThreadId,
    directory: TempDir,
}

impl Lent {
    /// A root that is due and lent; a call `before` is in the outbox.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let owner = SqliteStore::open(directory.path().join("agent.db")).await.unwrap();
        let root = root(&owner).await;
        woken(&owner, &root, "before", 10, |_, commit| invoke(&root, "before", commit)).await;
        let lease = lend(&owner, &root, 20).await;
        Self { owner, lease, root, directory }
    }

    async fn guest(&self) -> SqliteStore {
        SqliteStore::join(self.directory.path().join("agent.db"), self.lease.clone()).await.unwrap()
    }

    /// A guest whose slice has made a call `c`.
    async fn guest_with_a_call(&self) -> SqliteStore {
        let guest = self.guest().await;
        self.slice(&guest, |_, commit| invoke(&self.root, "c", commit)).await;
        guest
    }

    async fn slice(&self, guest: &SqliteStore, decide: impl FnOnce(&Snapshot, &mut Commit)) {
        let snapshot = guest.load(&self.lease.claim()).await.unwrap();
        let mut commit = all_used(&snapshot);
        decide(&snapshot, &mut commit);
        guest.commit(&self.lease.claim(), commit, at(30)).await.unwrap();
    }

    /// The call is cancelled by the owner; whether the servers are told.
    async fn cancel_tells(&self, name: &str) -> bool {
        self.owner.release(self.lease.claim()).await.unwrap();
        woken(&self.owner, &self.root, "stop", 2_000, |_, commit| {
            commit.calls = vec![call_row(&self.root, name, CallState::Cancelled)];
            commit.cancel = vec![call(name)];
        })
        .await;
        let all = take(&self.owner, i64::MAX).await;
        for delivery in all.iter().filter(|delivery| delivery.kind == DeliveryKind::Invocation) {
            self.owner.settle(delivery.id, Settlement::Delivered, at(2_001)).await.unwrap();
        }
        let notices = take(&self.owner, i64::MAX).await;
        all.iter().chain(&notices).any(|delivery| delivery.kind == DeliveryKind::CancelToolCall)
    }
}

fn invoke(root: &ThreadId, name: &str, commit: &mut Commit) {
    commit.calls = vec![call_row(root, name, CallState::Pending)];
    commit.outbox = vec![invocation(root, name)];
}

async fn lend(owner: &SqliteStore, root: &ThreadId, now: i64) -> Lease {
    let key = format!("go at {now}");
    assert_eq!(owner.accept(message(root, &key), at(now)).await.unwrap(), Accepted::Accepted);
    owner.lend(&claim(owner, root, now).await).await.unwrap()
}

async fn take(store: &SqliteStore, now: i64) -> Vec<Delivery> {
    store.take(at(now), 10).await.unwrap()
}

fn calls(taken: &[Delivery]) -> Vec<&str> {
    taken.iter().map(|delivery| delivery.call.as_ref().unwrap().as_str()).collect()
}

/// P10, CAN-01: what a guest was sending when it was killed counts as begun: a cancel does not take it back, and the
/// servers are told.
#[tokio::test]
async fn a_guest_is_killed_while_it_sends() {
    for cancelled in [false, true] {
        let lent = Lent::new().await;
        let guest = lent.guest_with_a_call().await;
        let taken = take(&guest, 40).await;
        assert_eq!(calls(&taken), ["c"]);
        assert!(!taken[0].begun && guest.begin(taken[0].id).await.unwrap());
        drop(guest);
        lent.owner.slices_lost(&lent.lease).await.unwrap();
        if cancelled {
            assert!(lent.cancel_tells("c").await);
            continue;
        }
        let again = take(&lent.owner, 50).await;
        let of = |name: &str| again.iter().find(|delivery| delivery.call == Some(call(name))).unwrap();
        assert_eq!((of("c").attempts, of("c").begun), (0, true));
        assert!(!of("before").begun, "that was never the guest's");
    }
}

/// P10, CAN-01: the same where its slices had ended in order, and it was killed while it still sent.
#[tokio::test]
async fn a_guest_is_killed_after_its_slices() {
    for cancelled in [false, true] {
        let lent = Lent::new().await;
        let guest = lent.guest_with_a_call().await;
        let taken = take(&guest, 40).await;
        assert!(guest.begin(taken[0].id).await.unwrap());
        let holds = guest.in_hand();
        assert_eq!((&holds, guest.leave()), (&vec![taken[0].id], vec![]));
        lent.owner.end_slices(&lent.lease, &holds);
        assert_eq!(calls(&take(&lent.owner, 45).await), ["before"], "it is still held");
        drop(guest);
        lent.owner.end_sending(&holds).await.unwrap();
        if cancelled {
            assert!(lent.cancel_tells("c").await);
        } else {
            assert!(take(&lent.owner, 50).await[0].begun);
        }
    }
}

/// CAN-01: of what nobody began to send nobody is told.
#[tokio::test]
async fn a_guest_that_ends_in_order_has_begun_nothing() {
    let lent = Lent::new().await;
    let guest = lent.guest_with_a_call().await;
    let left = guest.leave();
    assert_eq!(left.len(), 1);
    lent.owner.leaves(&lent.lease, &left);
    drop(guest);
    lent.owner.end_slices(&lent.lease, &[]);
    assert!(!lent.cancel_tells("c").await);
}

/// P11: what stands in the outbox when a thread is lent, what the owner adds and what the guest leaves is the owner's to
/// send, while the guest is at its completion; the rest is the guest's.
#[tokio::test]
async fn each_request_is_for_one_of_the_two() {
    let lent = Lent::new().await;
    let guest = lent.guest_with_a_call().await;
    let ask = Interaction::Choice {
        call: call("before"),
        prompt: "?".into(),
        choices: vec!["yes".into(), "no".into()],
        default: 0,
        response_url: HttpUrl::new("http://one/answer").unwrap(),
    };
    lent.owner.interact(&lent.root, ask, at(30)).await.unwrap();
    assert!(matches!(lent.owner.answer(&call("before"), 1, at(31)).await.unwrap(), Answered::Accepted));

    let owners = take(&lent.owner, 40).await;
    assert_eq!(calls(&owners), ["before"]);
    lent.owner.settle(owners[0].id, Settlement::Delivered, at(41)).await.unwrap();
    let answer = take(&lent.owner, 41).await;
    assert_eq!((calls(&answer), answer[0].kind), (vec!["before"], DeliveryKind::ChoiceAnswer));

    let guests = take(&guest, 42).await;
    assert_eq!(calls(&guests), ["c"]);
    assert!(guest.begin(guests[0].id).await.unwrap());
    guest.settle(guests[0].id, Settlement::RetryAt(at(500)), at(43)).await.unwrap();
    // Left only when it is written that it was tried.
    let left = loop {
        guest.changed().await;
        match guest.leave() {
            left if left.is_empty() => {}
            left => break left,
        }
    };
    assert_eq!(left, [guests[0].id]);
    assert_eq!(take(&guest, 1_000).await, [], "it is not the guest's any more");
    assert_eq!(take(&lent.owner, 1_000).await, [], "and not the owner's before it is told");
    lent.owner.leaves(&lent.lease, &left);
    let again = take(&lent.owner, 1_000).await;
    assert_eq!((calls(&again), again[0].attempts, again[0].begun), (vec!["c"], 1, true));
    drop(guest);
    lent.owner.slices_lost(&lent.lease).await.unwrap();
    assert_eq!(take(&lent.owner, 1_000).await, [], "taken is taken");
}

/// What a guest has delivered is gone, and it leaves nothing of it.
#[tokio::test]
async fn what_is_delivered_is_not_left() {
    let lent = Lent::new().await;
    let guest = lent.guest_with_a_call().await;
    let taken = take(&guest, 40).await;
    guest.settle(taken[0].id, Settlement::Delivered, at(41)).await.unwrap();
    while !guest.in_hand().is_empty() {
        assert_eq!(guest.leave(), Vec::<i64>::new());
        guest.changed().await;
    }
    assert_eq!(guest.leave(), Vec::<i64>::new());
}

/// A thread that is lent again leaves to the owner what an earlier guest still sends.
#[tokio::test]
async fn two_guests_one_after_another() {
    let mut lent = Lent::new().await;
    let first = lent.guest_with_a_call().await;
    let taken = take(&first, 40).await;
    let holds = first.in_hand();
    lent.owner.end_slices(&lent.lease, &holds);
    lent.owner.release(lent.lease.claim()).await.unwrap();
    lent.lease = lend(&lent.owner, &lent.root, 50).await;
    let second = lent.guest().await;
    assert_eq!(take(&second, 60).await, []);
    assert_eq!(calls(&take(&lent.owner, 60).await), ["before"]);
    assert!(first.begin(taken[0].id).await.unwrap());
    first.settle(taken[0].id, Settlement::RetryAt(at(500)), at(61)).await.unwrap();
    drop(first);
    lent.owner.end_sending(&holds).await.unwrap();
    assert_eq!(take(&second, 1_000).await, []);
    let again = take(&lent.owner, 1_000).await;
    assert_eq!((calls(&again), again[0].attempts), (vec!["c"], 1), "tried again while the thread is lent");
}
