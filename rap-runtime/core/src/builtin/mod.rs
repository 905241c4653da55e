//! The built-in tools: what the model is told of them. What they do is in [`sleep`] and [`threads`].

mod definitions;
pub(crate) mod sleep;
pub(crate) use definitions::definitions;

/// The names of the built-in tools. A foreign tool of one of these names is not offered.
pub const BUILT_IN_TOOLS: [&str; 8] = [
    "sleep",
    "sleep_until",
    "sleep_until_event_or_input",
    "spawn_thread",
    "report_to_parent",
    "close_thread",
    "send_message_to_child",
    "cancel_subscription",
];
