//! The life of one call, as a machine without clock, task or socket: what happened goes in, what is to be
//! done comes out. Whoever drives it (the engine here, a simulation elsewhere) has the tasks and sockets.
//!
//! ```text
//! Working ── returned, panicked, dropped, out of time, stopped ──► Settling ── answered ──► Over
//!    └────── returned a subscription ──► Confirming ── answered 2xx ──► Live ── finished ──► Ending ──► Over
//! ```
//!
//! What is deliberately absent: a way back, and a second result.

/// Why a call is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The runtime cancelled the call.
    Cancelled,
    /// The runtime closed the call's thread.
    Closed,
    /// The server is shutting down.
    ShutDown,
}

/// Something that happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The function returned a plain outcome, good (`true`) or an error.
    Returned(bool),
    /// The function returned the confirmation of a subscription.
    Confirmed,
    /// The function panicked.
    Panicked,
    /// The function's future was dropped before it was done.
    Dropped,
    /// The call's time limit is over.
    OutOfTime,
    /// Somebody wants it to stop.
    Stopped(Stop),
    /// The time that a stopped function has for returning is over.
    GraceOver,
    /// A person's answer was none of the choices (CHO-03).
    WrongPick,
    /// The result was answered 2xx.
    ResultTaken,
    /// The result will never be answered 2xx: refused for good, or given up.
    ResultLost,
    /// The last event was handed to the subscription.
    Finished,
    /// The last event was answered, or given up.
    LastSettled,
    /// The callback URL is gone (410): nothing more goes there.
    UrlGone,
}

/// Why a call ends in an error result that the framework writes.
///
/// ```
/// use rap_server::life::{Act, Cause, Input, Life};
///
/// assert_eq!(Life::new().input(Input::Panicked), Act::SendError(Cause::Panicked));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The function panicked.
    Panicked,
    /// The function's future was dropped.
    Dropped,
    /// The time limit.
    OutOfTime,
    /// It was stopped and did not return in time, or returned a subscription that nobody wants now.
    Stopped(Stop),
    /// A person's answer was none of the choices, and the function went on regardless (CHO-03).
    WrongPick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Send what the function returned.
    SendOutcome,
    /// Send an error result instead.
    SendError(Cause),
    /// Tell the function to stop; after its grace comes [`Input::GraceOver`].
    Signal,
    /// Events may go out now.
    OpenEvents,
    /// Throw the waiting events away, take no more, and tell the function.
    DropEvents,
    /// Say goodbye with a last event, and take no more.
    Farewell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working { stop: Option<Stop>, wrong_pick: bool, finished: bool },
    Settling,
    Confirming { finished: bool },
    Live,
    Ending,
    Over,
}

/// The life of one call.
///
/// ```
/// use rap_server::life::{Act, Input, Life, Stop};
///
/// let mut call = Life::new();
/// assert_eq!(call.input(Input::Stopped(Stop::Cancelled)), Act::Signal);
/// assert_eq!(call.input(Input::Returned(true)), Act::SendOutcome);
/// assert_eq!(call.input(Input::Returned(true)), Act::Nothing, "there is no second result");
/// assert!(call.owes_result());
/// call.input(Input::ResultTaken);
/// assert!(!call.is_alive());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    phase: Phase,
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

impl Life {
    /// A call that was acknowledged and now runs.
    pub fn new() -> Self {
        Self { phase: Phase::Working { stop: None, wrong_pick: false, finished: false } }
    }

    /// A result is owed, or a subscription lives (STA-01).
    pub fn is_alive(&self) -> bool {
        self.phase != Phase::Over
    }

    /// The function returned, and its result was not answered yet.
    pub fn owes_result(&self) -> bool {
        matches!(self.phase, Phase::Settling | Phase::Confirming { .. })
    }

    /// The function has not returned.
    pub fn is_working(&self) -> bool {
        matches!(self.phase, Phase::Working { .. })
    }

    /// Events may be handed over; they wait until [`may_send_events`](Self::may_send_events).
    pub fn takes_events(&self) -> bool {
        matches!(
            self.phase,
            Phase::Working { stop: None, finished: false, .. }
                | Phase::Confirming { finished: false }
                | Phase::Live
        )
    }

    /// The confirming result was answered 2xx and nobody cancelled (SUB-01, SUB-07).
    pub fn may_send_events(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Ending)
    }

    /// Events that were handed over are kept for sending.
    pub fn keeps_events(&self) -> bool {
        matches!(self.phase, Phase::Working { .. } | Phase::Confirming { .. } | Phase::Live | Phase::Ending)
    }

    /// Views may be sent: as long as somebody may look.
    pub fn takes_views(&self) -> bool {
        matches!(self.phase, Phase::Working { .. } | Phase::Confirming { .. } | Phase::Live)
    }

    /// Takes what happened and says what to do.
    pub fn input(&mut self, input: Input) -> Act {
        use Input as I;
        use Phase as P;
        let (phase, act) = match (self.phase, input) {
            (P::Working { stop, wrong_pick, finished }, input) => match input {
                I::Returned(true) if wrong_pick => (P::Settling, Act::SendError(Cause::WrongPick)),
                I::Returned(_) => (P::Settling, Act::SendOutcome),
                I::Confirmed if wrong_pick => (P::Settling, Act::SendError(Cause::WrongPick)),
                I::Confirmed => match stop {
                    Some(stop) => (P::Settling, Act::SendError(Cause::Stopped(stop))),
                    None => (P::Confirming { finished }, Act::SendOutcome),
                },
                I::Panicked => (P::Settling, Act::SendError(Cause::Panicked)),
                I::Dropped => (P::Settling, Act::SendError(stop.map_or(Cause::Dropped, Cause::Stopped))),
                I::OutOfTime => (P::Settling, Act::SendError(Cause::OutOfTime)),
                I::GraceOver => (P::Settling, Act::SendError(stop.map_or(Cause::Dropped, Cause::Stopped))),
                I::Stopped(why) if stop.is_none() => {
                    (P::Working { stop: Some(why), wrong_pick, finished }, Act::Signal)
                }
                I::WrongPick => (P::Working { stop, wrong_pick: true, finished }, Act::Nothing),
                I::Finished => (P::Working { stop, wrong_pick, finished: true }, Act::Nothing),
                _ => (self.phase, Act::Nothing),
            },
            (P::Settling, I::ResultTaken | I::ResultLost | I::UrlGone) => (P::Over, Act::Nothing),
            (P::Confirming { finished: false }, I::ResultTaken) => (P::Live, Act::OpenEvents),
            (P::Confirming { finished: true }, I::ResultTaken) => (P::Ending, Act::OpenEvents),
            (P::Confirming { .. }, I::Finished) => (P::Confirming { finished: true }, Act::Nothing),
            (P::Confirming { finished }, I::Stopped(Stop::ShutDown)) => {
                (P::Confirming { finished: true }, if finished { Act::Nothing } else { Act::Farewell })
            }
            // The confirming result is still owed; only its events are not wanted any more.
            (P::Confirming { .. }, I::Stopped(_)) => (P::Settling, Act::DropEvents),
            (P::Confirming { .. }, I::ResultLost | I::UrlGone) => (P::Over, Act::DropEvents),
            (P::Live, I::Finished) => (P::Ending, Act::Nothing),
            (P::Live, I::Stopped(Stop::ShutDown)) => (P::Ending, Act::Farewell),
            (P::Live | P::Ending, I::Stopped(Stop::Cancelled | Stop::Closed) | I::UrlGone) => {
                (P::Over, Act::DropEvents)
            }
            (P::Ending, I::LastSettled) => (P::Over, Act::DropEvents),
            (phase, _) => (phase, Act::Nothing),
        };
        self.phase = phase;
        act
    }
}

#[cfg(test)]
mod tests {
    use super::{Act::*, Cause, Input::*, Life, Stop::*, *};

    fn run(inputs: &[Input]) -> (Life, Vec<Act>) {
        let mut life = Life::new();
        let acts = inputs.iter().map(|i| life.input(*i)).filter(|a| *a != Nothing).collect();
        (life, acts)
    }

    /// INV-07, SUB-01, SUB-07, CHO-03: each story of a call, and what it makes the server do.
    #[test]
    fn stories() {
        let stopped = |s| SendError(Cause::Stopped(s));
        let table: &[(&str, &[Input], &[Act], bool)] = &[
            ("returns", &[Returned(true)], &[SendOutcome], true),
            ("returns, answered", &[Returned(true), ResultTaken], &[SendOutcome], false),
            ("returns, given up", &[Returned(false), ResultLost], &[SendOutcome], false),
            ("panics", &[Panicked], &[SendError(Cause::Panicked)], true),
            ("dropped", &[Dropped], &[SendError(Cause::Dropped)], true),
            ("out of time", &[OutOfTime, Returned(true)], &[SendError(Cause::OutOfTime)], true),
            ("cancelled, returns", &[Stopped(Cancelled), Returned(true)], &[Signal, SendOutcome], true),
            ("cancelled twice", &[Stopped(Cancelled), Stopped(Closed)], &[Signal], true),
            ("cancelled, hangs", &[Stopped(Cancelled), GraceOver], &[Signal, stopped(Cancelled)], true),
            ("cancelled, dropped", &[Stopped(Closed), Dropped], &[Signal, stopped(Closed)], true),
            ("cancelled, confirms", &[Stopped(Cancelled), Confirmed], &[Signal, stopped(Cancelled)], true),
            (
                "cancelled after the end",
                &[Returned(true), ResultTaken, Stopped(Cancelled)],
                &[SendOutcome],
                false,
            ),
            ("wrong pick", &[WrongPick, Returned(true)], &[SendError(Cause::WrongPick)], true),
            ("wrong pick, confirms", &[WrongPick, Confirmed], &[SendError(Cause::WrongPick)], true),
            ("wrong pick, own error", &[WrongPick, Returned(false)], &[SendOutcome], true),
            ("subscribes", &[Confirmed], &[SendOutcome], true),
            ("lives", &[Confirmed, ResultTaken], &[SendOutcome, OpenEvents], true),
            ("confirmation lost", &[Confirmed, ResultLost], &[SendOutcome, DropEvents], false),
            ("finished early", &[Confirmed, Finished, ResultTaken], &[SendOutcome, OpenEvents], true),
            (
                "finished before it began",
                &[Finished, Confirmed, ResultTaken, LastSettled],
                &[SendOutcome, OpenEvents, DropEvents],
                false,
            ),
            (
                "finished",
                &[Confirmed, ResultTaken, Finished, LastSettled],
                &[SendOutcome, OpenEvents, DropEvents],
                false,
            ),
            (
                "cancelled live",
                &[Confirmed, ResultTaken, Stopped(Cancelled)],
                &[SendOutcome, OpenEvents, DropEvents],
                false,
            ),
            (
                "cancelled ending",
                &[Confirmed, ResultTaken, Finished, Stopped(Closed)],
                &[SendOutcome, OpenEvents, DropEvents],
                false,
            ),
            (
                "cancelled confirming",
                &[Confirmed, Stopped(Cancelled), ResultTaken],
                &[SendOutcome, DropEvents],
                false,
            ),
            (
                "shut down live",
                &[Confirmed, ResultTaken, Stopped(ShutDown)],
                &[SendOutcome, OpenEvents, Farewell],
                true,
            ),
            (
                "shut down confirming",
                &[Confirmed, Stopped(ShutDown), ResultTaken],
                &[SendOutcome, Farewell, OpenEvents],
                true,
            ),
            ("gone", &[Confirmed, ResultTaken, UrlGone], &[SendOutcome, OpenEvents, DropEvents], false),
        ];
        for (story, inputs, acts, alive) in table {
            let (life, got) = run(inputs);
            assert_eq!((got.as_slice(), life.is_alive()), (*acts, *alive), "{story}");
        }
    }

    /// INV-07, RES-01, SUB-01, SUB-07: over every sequence of up to five inputs, at most one result is sent, every end
    /// of the function sends one, and events are open only after a confirming result was taken.
    #[test]
    fn every_order() {
        let all = [
            Returned(true),
            Returned(false),
            Confirmed,
            Panicked,
            Dropped,
            OutOfTime,
            Stopped(Cancelled),
            Stopped(Closed),
            Stopped(ShutDown),
            GraceOver,
            WrongPick,
            ResultTaken,
            ResultLost,
            Finished,
            LastSettled,
            UrlGone,
        ];
        let n = all.len();
        for code in 0..n.pow(5) {
            let inputs: Vec<_> = (0..5).map(|i| all[code / n.pow(i) % n]).collect();
            let mut life = Life::new();
            let (mut results, mut taken, mut confirmed, mut unwanted) = (0, false, false, false);
            for input in &inputs {
                let ends =
                    matches!(input, Returned(_) | Confirmed | Panicked | Dropped | OutOfTime | GraceOver);
                let working = life.is_working();
                let act = life.input(*input);
                let sends = matches!(act, SendOutcome | SendError(_));
                assert_eq!(sends, ends && working, "{inputs:?}");
                results += u32::from(sends);
                confirmed |= sends && *input == Confirmed && act == SendOutcome;
                taken |= results > 0 && *input == ResultTaken;
                unwanted |= matches!(input, Stopped(Cancelled | Closed) | UrlGone) && results > 0;
                assert!(!life.may_send_events() || (confirmed && taken && !unwanted), "{inputs:?}");
            }
            assert!(results <= 1, "{inputs:?}");
        }
    }
}
