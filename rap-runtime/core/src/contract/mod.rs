//! The store contract as tests: what every store must do, whoever wrote it.
//!
//! To run it for a store, name `rap-core` with the feature `contract` among the `dev-dependencies`, beside `tokio`
//! with `macros` and `rt-multi-thread`, write a function that opens an empty store, and hand it to
//! [`store_contract!`](crate::store_contract):
//!
//! ```text
//! /// A fresh store, and whatever has to live as long as it does.
//! async fn open() -> (MyStore, tempfile::TempDir) { … }
//!
//! rap_core::store_contract!(open);
//! ```
//!
//! Where leases run out while the process lives, a second function lets them, and [`leases`] is tested as well:
//!
//! ```text
//! /// Every lease that was given so far has run out: the store's clock is moved, or its rows are.
//! async fn run_out(store: &MyStore, directory: &tempfile::TempDir) { … }
//!
//! rap_core::store_contract!(open, run_out);
//! ```
//!
//! That makes one test of each function here, named like it. `rap-store-sqlite` and the store in memory of
//! `rap-runtime` pass them all, so a test that fails shows a difference in the new store.
//!
//! # Writing a store
//!
//! * A store decides nothing. [`admit`](crate::admit) says what becomes of an input, from rows that are read in the
//!   transaction that stores it; what a slice does is in its [`Commit`](crate::Commit), to be written whole.
//! * Begin with `create`, `accept`, `claim`, `load`, `commit`, `release`: [`inputs`] and [`concurrency`] test them.
//!   Then the outbox ([`outbox`]), then what a commit does to other threads ([`tree`]), then [`compactions`].
//! * `accept` and `commit` return when what they did survives a kill; many may share one flush. A settlement may be
//!   lost: the request is then sent again, with the same id.
//! * The fence: `commit` writes only if the claim holds *and* the version is the one that was loaded, both checked
//!   in its transaction.
//! * Histories only grow. Keep them as they came, and read only what is newer than what is in memory: a
//!   [`History`](crate::History) is cheap to keep and to hand on. Keep the digest of a commit
//!   ([`Commit::shown`](crate::Commit)) and hand it back, or leave it out; never hand back an older one.
//!
//! What no suite can test from outside is left to the store's own tests: that a kill at any instant loses nothing,
//! that a database of a newer version is refused untouched, and that damage is found where it is read.

#![allow(clippy::unwrap_used, reason = "these are tests, though they live in a library")]

pub mod compactions;
pub mod concurrency;
pub mod hand;
pub mod histories;
pub mod inputs;
pub mod leases;
pub mod outbox;
pub mod tree;

/// Makes a test of each function of the [contract](crate::contract) for the store that a function opens: an `async
/// fn() -> (S, G)`, where `S` is an empty [`Store`](crate::Store) and `G` whatever has to live as long. With a second
/// function, an `async fn(&S, &G)` that lets all leases run out, of the [leases](crate::contract::leases) too.
#[macro_export]
macro_rules! store_contract {
    ($open:path, $run_out:path) => {
        $crate::store_contract!($open);

        #[tokio::test(flavor = "multi_thread")]
        async fn a_lease_that_runs_out() {
            let (store, guard) = $open().await;
            $crate::contract::leases::a_lease_that_runs_out(&store, $run_out(&store, &guard)).await;
        }
    };
    ($open:path) => {
        $crate::store_contract! { @cases $open;
            inputs::{
                a_session_is_made_once,
                a_message_is_kept_and_wakes,
                an_input_has_one_effect,
                outcomes_are_admitted_by_the_state_of_their_call,
                events_are_admitted_by_the_state_of_their_subscription,
                events_are_known_for_thirty_days,
                events_wait_for_the_result_of_their_call,
                inputs_of_strangers_are_refused,
                one_claim_at_a_time,
                a_lost_claim_commits_nothing,
                a_commit_on_an_old_version_is_fenced,
                an_input_that_comes_late_wakes_the_thread,
                a_slice_is_written_whole,
                a_message_between_threads_is_admitted,
                changes_are_heard,
                values_have_names,
                a_toolbox_is_replaced_by_who_knows_it,
                an_inbox_holds_so_much,
                dead_letters_of_strangers_are_few,
                a_call_that_nobody_waits_for_is_asked_for,
                many_accepts_at_once,
                damage_in_a_commit_writes_nothing,
            },
            outbox::{
                requests_go_out_one_after_another_per_call,
                a_request_is_tried_again,
                a_request_is_given_up,
                what_was_worked_is_settled_with_its_outcome,
                an_answered_invocation_is_not_sent_again,
                cancelling_what_was_never_attempted,
                cancelling_what_was_taken_and_not_begun,
                cancelling_what_was_attempted,
                cancelling_what_was_delivered,
                a_choice_is_answered_once,
                a_choice_is_dismissed,
                questions_end_with_their_call,
                views_are_replaced_whole,
            },
            tree::{
                a_child_sees_its_parent,
                a_chosen_model_is_kept,
                active_subscriptions_are_listed,
                what_no_slice_decided_is_shown,
                closing_takes_all_below_along,
                closing_loses_no_input,
                a_slice_below_a_closed_thread_is_fenced,
                stop_and_go_on,
                a_paused_thread_hears_people,
                what_a_person_says_after_a_stop_is_heard,
                a_timer_outlives_a_pause,
                a_clock_that_was_set_back,
                going_on_above_a_running_slice,
            },
            histories::{
                long_histories_are_whole,
                a_child_sees_a_part_of_a_long_history,
                a_summary_covers_a_part_of_a_long_history,
                large_contents_are_whole,
            },
            compactions::{
                a_compaction_has_one_worker,
                a_compaction_ends_in_the_inbox,
                a_compaction_reads_what_is_shown,
            },
            concurrency::{
                claims_at_once_are_distinct,
                of_two_commits_one_is_written,
                an_input_sent_many_times_at_once,
                takes_at_once_are_distinct,
                an_outcome_beside_a_cancel,
            },
        }
    };
    (@cases $open:path; $($module:ident :: { $($name:ident),+ $(,)? }),+ $(,)?) => {$($(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let (store, _guard) = $open().await;
            $crate::contract::$module::$name(&store).await;
        }
    )+)+};
}

#[cfg(test)]
mod tests {
    /// Every function of the contract is in the list that a store's author runs.
    #[test]
    fn nothing_is_left_out() {
        let list = include_str!("mod.rs");
        for source in [
            include_str!("inputs.rs"),
            include_str!("outbox.rs"),
            include_str!("tree.rs"),
            include_str!("histories.rs"),
            include_str!("compactions.rs"),
            include_str!("concurrency.rs"),
        ] {
            for line in source.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let name = line.split('(').next().unwrap();
                assert!(list.contains(&format!("                {name},\n")), "{name} is not in the list");
            }
        }
    }
}
