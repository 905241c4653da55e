//! The SQLite store, by the store contract and by what only files can do.

#![allow(clippy::unwrap_used)]

mod contract;
mod contract_outbox;
mod contract_tree;
mod files;
mod hand;
mod twins;

/// Runs each function of the contract on a fresh store.
macro_rules! contract {
    ($($module:ident :: { $($name:ident),+ $(,)? }),+ $(,)?) => {$($(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let directory = tempfile::tempdir().unwrap();
            let store = rap_store_sqlite::SqliteStore::open(directory.path().join("agent.db")).await.unwrap();
            $module::$name(&store).await;
        }
    )+)+};
}

contract! {
    contract::{
        a_session_is_made_once,
        a_message_is_kept_and_wakes,
        an_input_has_one_effect,
        outcomes_are_admitted_by_the_state_of_their_call,
        events_are_admitted_by_the_state_of_their_subscription,
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
        many_accepts_at_once,
        damage_in_a_commit_writes_nothing,
    },
    contract_outbox::{
        requests_go_out_one_after_another_per_call,
        a_request_is_tried_again,
        a_request_is_given_up,
        cancelling_what_was_never_attempted,
        cancelling_what_was_attempted,
        cancelling_what_was_taken_and_not_begun,
        cancelling_what_was_delivered,
        a_choice_is_answered_once,
        questions_end_with_their_call,
        views_are_replaced_whole,
    },
    contract_tree::{
        a_child_sees_its_parent,
        closing_takes_all_below_along,
        a_slice_below_a_closed_thread_is_fenced,
        stop_and_go_on,
        a_paused_thread_hears_people,
        a_timer_outlives_a_pause,
        going_on_above_a_running_slice,
    },
}
