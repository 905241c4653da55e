//! `subscription_event`: what happened, for a thread that asked to be told.

use super::{is_false, null_default};
use crate::{CallId, EventId, ThreadId};
use serde::{Deserialize, Serialize};

/// An event of a subscription, after the confirming result was answered (SUB-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "subscription_event")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "SubscriptionEvent", transform = schema::event))]
#[non_exhaustive]
pub struct SubscriptionEvent {
    /// The thread that subscribed.
    pub group_id: ThreadId,
    /// The `id` of the subscribing call.
    pub tool_call_id: CallId,
    /// What happened.
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["build 17 failed: 2 of 340 tests"])))]
    pub text: String,
    /// Into the subscribing thread instead of a thread of its own (SUB-05).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>", extend("examples" = [true])))]
    pub associative: bool,
    /// The last event: the subscription ends (SUB-06).
    #[serde(rename = "final", default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>", extend("examples" = [true])))]
    pub is_final: bool,
    /// The extension `event_id`, for dropping duplicates (SUB-13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
}

impl SubscriptionEvent {
    /// An event that gets a thread of its own and ends nothing.
    ///
    /// ```
    /// use rap_types::{CallId, EventId, SubscriptionEvent, ThreadId};
    ///
    /// let event = SubscriptionEvent::new(ThreadId::new("thread-1")?, CallId::new("call-1")?, "build 17 failed")
    ///     .event_id(EventId::new("build-17")?)
    ///     .last(true);
    /// assert_eq!(serde_json::to_value(&event)?["final"], true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(group_id: ThreadId, tool_call_id: CallId, text: impl Into<String>) -> Self {
        Self {
            group_id,
            tool_call_id,
            text: text.into(),
            associative: false,
            is_final: false,
            event_id: None,
        }
    }

    /// Sends it into the subscribing thread (SUB-05).
    #[must_use]
    pub fn associative(mut self, associative: bool) -> Self {
        self.associative = associative;
        self
    }

    /// Makes it the last event (SUB-06).
    #[must_use]
    pub fn last(mut self, is_final: bool) -> Self {
        self.is_final = is_final;
        self
    }

    /// Names it, so that a re-sent event has no second effect (SUB-13).
    #[must_use]
    pub fn event_id(mut self, event_id: EventId) -> Self {
        self.event_id = Some(event_id);
        self
    }
}

#[cfg(feature = "schema")]
mod schema {
    pub(super) fn event(schema: &mut schemars::Schema) {
        crate::schema::tag(schema, "subscription_event");
    }
}
