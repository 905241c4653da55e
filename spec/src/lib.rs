#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[rustfmt::skip]
mod tables;

/// The version of the wire that this specification describes.
pub const WIRE_VERSION: &str = "1";

/// Every obligation, in the order of the book.
pub const REQUIREMENTS: &[Requirement] = tables::REQUIREMENTS;
/// The JSON Schemas (2020-12), one per message and the bundle `rap`.
pub const SCHEMAS: &[Schema] = tables::SCHEMAS;
/// Every test vector, the valid ones first.
pub const VECTORS: &[Vector] = tables::VECTORS;

/// An obligation of the registry `requirements.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// Its name everywhere, e.g. `TRN-01`.
    pub id: &'static str,
    /// Who must meet it.
    pub role: Role,
    /// How binding it is (RFC 2119).
    pub level: Level,
    /// Where it comes from.
    pub origin: Origin,
    /// The version of the specification that stated it first.
    pub since: &'static str,
    /// The page of the book that explains it, without `.md`.
    pub page: &'static str,
    /// The obligation in one sentence.
    pub text: &'static str,
    /// How it can be judged.
    pub judge: Judge,
    /// Why no black box can judge it, where none can.
    pub reason: Option<&'static str>,
    /// The conformance cases that judge it.
    pub cases: &'static [&'static str],
}

/// Who must meet an obligation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Hosts the agent.
    Runtime,
    /// Offers tools.
    Server,
    /// Both of them.
    Both,
}

/// How binding an obligation is, as in RFC 2119.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Binding.
    Must,
    /// Binding unless there is a good reason.
    Should,
    /// A choice.
    May,
}

/// Where an obligation comes from. Only published ones count in a stranger's score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The protocol as others speak it.
    Published,
    /// Follows from it.
    Derived,
    /// An extension of this specification.
    Ext,
}

/// How an obligation can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judge {
    /// A judge provokes it over the wire.
    Active,
    /// Seen in ordinary traffic.
    Passive,
    /// Only from the inside.
    WhiteBox,
    /// By reading what the implementer promises.
    Document,
}

/// A JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schema {
    /// The kind of message; `rap` is the bundle, `callback` any of the five callbacks.
    pub name: &'static str,
    /// Its text.
    pub json: &'static str,
}

/// A document that is a message, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vector {
    /// The kind of message: the name of its schema.
    pub kind: &'static str,
    /// What it shows; unique among the valid, and among the invalid, of its kind.
    pub name: &'static str,
    /// The body, which need not be JSON.
    pub json: &'static str,
    /// What is wrong with it; nothing for a valid one.
    pub expected: Option<Expected>,
}

impl Vector {
    /// Whether it is a message.
    pub fn is_valid(&self) -> bool {
        self.expected.is_none()
    }
}

/// What is wrong with an invalid vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expected {
    /// The obligation that it breaks.
    pub obligation: &'static str,
    /// Where: a JSON pointer.
    pub pointer: &'static str,
    /// The rule, in words.
    pub why: &'static str,
    /// Why a schema cannot tell, where it cannot: it accepts the document, and only a reader that knows more
    /// refuses it.
    pub schema_accepts: Option<&'static str>,
}

/// The obligation of an ID.
pub fn requirement(id: &str) -> Option<&'static Requirement> {
    REQUIREMENTS.iter().find(|r| r.id == id)
}

/// The schema of a kind of message.
pub fn schema(name: &str) -> Option<&'static str> {
    SCHEMAS.iter().find(|s| s.name == name).map(|s| s.json)
}
