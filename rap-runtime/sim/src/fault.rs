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
    /// Messages of parents to their children are lost.
    LoseParentsMessages,
    /// A person wants the servers to be asked again, and nobody asks them.
    ForgetToAskServers,
    /// Due times are lost: nothing wakes by itself.
    LoseDueTimes,
    /// Inputs that come while a slice runs are overlooked.
    OverlookUnseenInputs,
    /// A decision looks at something that is not in its snapshot.
    DecideByChance,
    /// A thread made for an event sees its parent's open calls.
    InheritOpenCalls,
    /// A call gets an id that another has.
    ReuseCallIds,
    /// A report is sent under two names.
    ReportTwice,
    /// A request that is sent again is not the same request.
    ResendSomethingElse,
    /// The model is asked again although it has answered.
    AskTwice,
    /// What a stream has said refills the budget of its tries.
    RefillTheBudget,
    /// A thread that rests looks for work every second.
    PollForWork,
    /// A slice writes every call that it has loaded.
    RewriteWhatStands,
    /// A slice loads all calls of its thread.
    LoadEverything,
    /// What cannot be used is thrown away.
    LoseDeadLetters,
    /// An outcome that nobody wants any more is answered 200 and thrown away.
    SwallowTheUnwanted,
    /// A person's message waits until calls have ended.
    MakePeopleWait,
    /// A call is cancelled, and its server hears nothing of it.
    CancelWithoutNotice,
    /// A thread is closed, and no server hears of it.
    CloseWithoutNotice,
    /// The results of a turn are in another order than its calls.
    MixUpResults,
    /// The results of a turn are not written.
    LoseResults,
    /// A call that is no longer waited for counts as done.
    CloseTheBookOnDetachedCalls,
    /// A call that may have arrived counts as one that did not.
    RefuseWhatMayHaveArrived,
    /// A request is sent, and nobody notes that it was.
    SendWithoutBeginning,
    /// Calls that a person must allow are sent without asking.
    SendUnasked,
    /// Whatever a person says to a question counts as a yes.
    TakeANoForAYes,
    /// What a person said to a call's question is lost.
    LosePeoplesWords,
    /// Nobody summarises a history, though the model cannot be asked before.
    ForgetToSummarise,
    /// A history that was summarised is summarised again, and again.
    SummariseForEver,
    /// A summary covers the newest message as well.
    SummariseTheLastWord,
    /// A callback is answered 200 though the store failed.
    AnswerDespiteAnError,
    /// A commit that failed counts as written.
    TakeAnErrorForDone,
    /// A history that cannot be read counts as empty.
    TakeAReadErrorForEmpty,
    /// The model is shown all of a result, however long.
    ShowAllOfAResult,
    /// A model that a person has chosen is forgotten.
    ForgetTheChosenModel,
    /// A model that a person has chosen answers in the thread alone, and not below it.
    ChooseForOneThreadOnly,
    /// Nobody looks at what a clock that was set back has done to due times.
    TrustTheClock,
}

impl Fault {
    /// All of them, each with the promise or obligation whose check has to catch it.
    pub const ALL: [(Self, &'static str); 48] = [
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
        (Self::LoseParentsMessages, "P1"),
        (Self::ForgetToAskServers, "P1"),
        (Self::LoseDueTimes, "P11"),
        (Self::OverlookUnseenInputs, "P1"),
        (Self::DecideByChance, "P12"),
        (Self::InheritOpenCalls, "P3"),
        (Self::ReuseCallIds, "P2"),
        (Self::ReportTwice, "P2"),
        (Self::ResendSomethingElse, "P6"),
        (Self::AskTwice, "P6"),
        (Self::RefillTheBudget, "P6"),
        (Self::PollForWork, "P7"),
        (Self::RewriteWhatStands, "P8"),
        (Self::LoadEverything, "P8"),
        (Self::LoseDeadLetters, "P1"),
        (Self::SwallowTheUnwanted, "P1"),
        (Self::MakePeopleWait, "P9"),
        (Self::CancelWithoutNotice, "P11"),
        (Self::CloseWithoutNotice, "P11"),
        (Self::MixUpResults, "P3"),
        (Self::LoseResults, "P3"),
        (Self::CloseTheBookOnDetachedCalls, "P10"),
        (Self::RefuseWhatMayHaveArrived, "P10"),
        (Self::SendWithoutBeginning, "P11"),
        (Self::SendUnasked, "CON-01"),
        (Self::TakeANoForAYes, "CON-01"),
        (Self::LosePeoplesWords, "P1"),
        (Self::ForgetToSummarise, "P11"),
        (Self::SummariseForEver, "P6"),
        (Self::SummariseTheLastWord, "P3"),
        (Self::AnswerDespiteAnError, "P1"),
        (Self::TakeAnErrorForDone, "P6"),
        (Self::TakeAReadErrorForEmpty, "ERR-02"),
        (Self::ShowAllOfAResult, "P8"),
        (Self::ForgetTheChosenModel, "P1"),
        (Self::ChooseForOneThreadOnly, "P1"),
        (Self::TrustTheClock, "P9"),
    ];
}
