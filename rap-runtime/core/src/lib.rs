#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod admit;
mod builtin;
mod commit;
mod compaction;
#[cfg(feature = "contract")]
pub mod contract;
mod history;
mod ids;
mod input;
mod interaction;
mod machine;

pub mod memory;
mod model;
mod own;
pub mod replay;
mod rows;
mod rules;
pub mod situations {
    #![doc = include_str!("../docs/situations.md")]
}
mod store;
mod surface;
mod time;
mod toolbox;

pub use admit::{Admission, AdmissionFacts, EVENT_IDS_KEPT, EVENT_IDS_KEPT_MS, admit};
pub use builtin::BUILT_IN_TOOLS;
pub use commit::{Commit, DeadLetter, NewDelivery, NewThread, SliceFacts, SliceRecord, ThreadUpdate};
pub use history::{
    Entry, EventEntry, History, HistoryDigest, ReasoningBlock, ResultEntry, Sealed, SummaryEntry, TurnCall,
    TurnEntry, TurnPart, TurnPiece, UserAuthor, UserEntry, shown_to_model,
};
pub use ids::{derive_call_id, derive_thread_id};
pub use input::{Input, InputBody, InputId, NewInput, Outcome};

pub use compaction::{Compactor, CompactorStep};
pub use interaction::{APPROVAL_CHOICES, Answered, Interaction, OpenInteraction, Reply, approval};
pub use machine::{SliceMachine, Step};
pub use model::{ModelCall, ModelRequest, ModelTurn, StopReason, TurnOutcome, Usage};
pub use own::{EMBEDDED_URL, InstantCall, InstantTools, OwnTool};
pub use rows::{
    CallRoute, CallRow, CallState, Child, ChildKind, Compaction, DeliveryKind, Segment, Session, Snapshot,
    SubscriptionRow, SubscriptionState, ThreadKind, ThreadRow, ThreadState,
};
pub use rules::{DestructivePolicy, Rules};
pub use store::{
    Accepted, CallView, Claim, Committed, DeadLetterView, Delivery, HistoryView, Owed, SessionView,
    Settlement, SliceView, Store, StoreError, SubscriptionView, ThreadView,
};
pub use surface::{Numbered, ServerNews, Surface, SurfaceEvent};
pub use time::{Millis, Moment};
pub use toolbox::{LiveServers, OfferedTool, ServerCard, ToolForModel, Toolbox};

/// The version of the decisions in this crate, kept in every slice record (P12): it rises when the same
/// inputs would lead to another commit.
pub const DECISIONS_VERSION: u32 = 5;
