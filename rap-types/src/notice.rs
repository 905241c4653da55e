//! The small requests beside invocations: notices, status, migration, the answer to a choice.

use crate::{CallId, ChoiceIndex, HttpUrl, Message, ThreadId};
use serde::{Deserialize, Serialize};

macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),+ $(,)? } $obligation:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type),+
        }

        impl $name {
            /// The message with all that it needs.
            pub fn new($($field: impl Into<$type>),+) -> Self {
                Self { $($field: $field.into()),+ }
            }
        }

        impl Message for $name {
            const OBLIGATION: &'static str = $obligation;
        }
    };
}

message!(
    /// A thread was closed: release what it held (CLS-01 to CLS-06).
    CloseThread {
        /// The closed thread.
        thread_id: ThreadId,
    } "TRN-14"
);
message!(
    /// A call was cancelled: stop its work (CAN-01 to CAN-04).
    CancelToolCall {
        /// The call's thread.
        thread_id: ThreadId,
        /// The call.
        tool_call_id: CallId,
    } "TRN-14"
);
message!(
    /// Is a call still alive at the server? The extension `tool_call_status` (STA-01).
    ToolCallStatus {
        /// The call's thread.
        thread_id: ThreadId,
        /// The call.
        tool_call_id: CallId,
    } "STA-01"
);
message!(
    /// The answer to `tool_call_status` (STA-01).
    ToolCallAlive {
        /// True while a result is owed or a subscription lives.
        #[cfg_attr(feature = "schema", schemars(extend("examples" = [true, false])))]
        alive: bool,
    } "STA-03"
);
message!(
    /// Move a session's state to another server (MIG-01 to MIG-04).
    Migrate {
        /// The session: its root thread.
        session_id: ThreadId,
        /// The base URL of the server that takes over.
        destination_url: HttpUrl,
    } "TRN-14"
);
message!(
    /// What a person picked; POSTed to the `response_url` of a `user_choice` (CHO-01).
    ChoiceResponse {
        /// The call that asked.
        id: CallId,
        /// The picked choice: its place in the question, counted from 0.
        selected: ChoiceIndex,
    } "TRN-14"
);
