//! Faults that can be switched on, each to show that a check catches it.

/// A mistake in the runtime, made on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Invocations are sent before their commit is written.
    SendBeforeCommit,
    /// After a restart, nobody looks into the outbox.
    ForgetTheOutbox,
    /// An outcome that comes after its call was detached is dropped.
    DropLateOutcomes,
    /// A consumed input leaves no trace: its history entry is dropped.
    DropMessages,
    /// A worker that lost its claim commits all the same.
    SkipTheFence,
    /// An input is not taken from the inbox when it is used.
    KeepConsumedInputs,
    /// A callback is answered 200 before it is accepted.
    AnswerBeforeAccepting,
    /// The results of a turn are written as soon as one of them is known.
    ForgetOpenCalls,
    /// Only the first call of a turn is sent.
    SendOnlyTheFirstCall,
    /// An event's id is not looked at.
    IgnoreEventIds,
    /// Reports of children are lost.
    LoseReports,
    /// Due times are lost: nothing wakes by itself.
    LoseDueTimes,
    /// Inputs that come while a slice runs are overlooked.
    OverlookUnseenInputs,
    /// A decision looks at something that is not in its snapshot.
    DecideByChance,
    /// A thread made for an event sees its parent's open calls.
    InheritOpenCalls,
}

impl Fault {
    /// All of them, each with the promise whose check has to catch it.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::SendBeforeCommit, "P5"),
        (Self::ForgetTheOutbox, "P11"),
        (Self::DropLateOutcomes, "P10"),
        (Self::DropMessages, "P1"),
        (Self::SkipTheFence, "P4"),
        (Self::KeepConsumedInputs, "P2"),
        (Self::AnswerBeforeAccepting, "P1"),
        (Self::ForgetOpenCalls, "P3"),
        (Self::SendOnlyTheFirstCall, "P11"),
        (Self::IgnoreEventIds, "P2"),
        (Self::LoseReports, "P1"),
        (Self::LoseDueTimes, "P11"),
        (Self::OverlookUnseenInputs, "P1"),
        (Self::DecideByChance, "P12"),
        (Self::InheritOpenCalls, "P3"),
    ];
}
