//! A case: what it holds, what it needs, and an async function over a [`Bench`] that notes what it finds.

use crate::{bench::Bench, verdict::Stop};
use std::{future::Future, pin::Pin};

/// What a case returns: nothing, or why it stopped early. What it found is noted at the bench.
pub type Outcome = Result<(), Stop>;

/// The function of a case.
pub type Run = fn(Bench) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// How far a case goes into the server; each tier wants more trust than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Discovery, schemas, HTTP hygiene, notices for unknown ids. Calls nothing.
    Look,
    /// Calls an operation that no toolset has.
    Unknown,
    /// Calls tools that are annotated `readOnly` and not `destructive` or `longRunning`, and those that were
    /// allowed by name.
    Tools,
    /// Calls the tools of the fixture toolset.
    Fixture,
}

/// What a server must have for a case to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A tool of the fixture toolset.
    Tool(&'static str),
    /// A tool of the fixture toolset whose work outlives a kill, at a server that the judge started.
    Durable(&'static str),
    /// The judge started the server and can kill and start it.
    Spawn,
    /// Any tool that may be called.
    AnyTool,
    /// The toolset lists this in `x-rap-ext`.
    Extension(&'static str),
    /// The toolset says `needsMigration`.
    Migration,
    /// The server wants authentication and the judge was given it.
    Authentication,
}

impl Need {
    /// The capability in words, for "unimplemented".
    pub fn words(self) -> String {
        match self {
            Self::Tool(name) => format!("the fixture tool `{name}`"),
            Self::Durable(name) => {
                format!("a durable fixture tool `{name}`, and --spawn with {{data}} in the command")
            }
            Self::Spawn => "--spawn, since the server must be killed and started".to_owned(),
            Self::AnyTool => "a tool that may be called (--allow-tool)".to_owned(),
            Self::Extension(name) => format!("`{name}` in the toolset's x-rap-ext"),
            Self::Migration => "`needsMigration` in the toolset".to_owned(),
            Self::Authentication => "authentication (--bearer, --webhook-secret-env)".to_owned(),
        }
    }
}

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name for ever: topic and what is tried, e.g. `transport/retry-after-503`.
    pub id: &'static str,
    /// What holds when it passes, in a sentence.
    pub title: &'static str,
    /// The obligations that it judges; it may find fault with these alone.
    pub obligations: &'static [&'static str],
    /// What the server must have.
    pub needs: &'static [Need],
    /// How far it goes.
    pub tier: Tier,
    /// Not beside others, which would suffer from it: after those that may be, each by itself.
    pub apart: bool,
    /// After all of them, with others of its kind: it kills the server, or wants it idle.
    pub alone: bool,
    /// What it does.
    pub run: Run,
}

/// Writes a [`Case`]: `case!("id", "title", ["TRN-01"], Tier::Look, [], function)`, with `apart` or
/// `alone` as a last word for one that does not run beside others.
macro_rules! case {
    ($id:literal, $title:literal, [$($obligation:literal),+ $(,)?], $tier:expr, [$($need:expr),* $(,)?], $run:path) => {
        $crate::case::Case {
            id: $id, title: $title, obligations: &[$($obligation),+], needs: &[$($need),*], tier: $tier, apart: false,
            alone: false,
            run: |bench| Box::pin($run(bench)),
        }
    };
    ($id:literal, $title:literal, [$($obligation:literal),+ $(,)?], $tier:expr, [$($need:expr),* $(,)?], $run:path, $when:ident) => {
        $crate::case::Case { $when: true, ..$crate::case::case!($id, $title, [$($obligation),+], $tier, [$($need),*], $run) }
    };
}
pub(crate) use case;
