//! What a value that serialises says to the model: a string as it is, nothing as "done", anything else as
//! JSON, and of a `Result` the side that it is on, the bad one as an error.
//!
//! The type of such a value is not known here, and a `Result` of two sides that serialise serialises itself.
//! So the value is asked: it is given a serialiser that listens for a `Result`, a unit or a string and takes nothing
//! else.

use crate::ToolError;
use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};
use std::fmt;

/// The text of a value.
///
/// # Errors
/// What a `Result` on its bad side says, or that the value cannot be written as JSON.
pub(crate) fn said<T: Serialize + ?Sized>(value: &T) -> Result<String, ToolError> {
    match value.serialize(Listener) {
        Ok(said) => said,
        Err(SomethingElse) => json(value),
    }
}

/// A string as it is, everything else as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, ToolError> {
    let json = serde_json::to_string(value).map_err(unserializable)?;
    if json.starts_with('"') { serde_json::from_str(&json).map_err(unserializable) } else { Ok(json) }
}

fn unserializable(error: serde_json::Error) -> ToolError {
    ToolError::new("the tool's result cannot be written as JSON; the reason is in the server's log")
        .caused_by(error)
}

struct Listener;

/// Not what was listened for.
#[derive(Debug)]
struct SomethingElse;

impl fmt::Display for SomethingElse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no Result, no unit and no string")
    }
}

impl std::error::Error for SomethingElse {}

impl ser::Error for SomethingElse {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// What is taken by value, and what is put together of parts: nobody listens for any of it.
macro_rules! something_else {
    ($($method:ident($($ty:ty),*) -> $part:ty;)*) => {
        $(fn $method(self, $(_: $ty),*) -> Result<$part, SomethingElse> {
            Err(SomethingElse)
        })*
    };
}

type Nothing = Impossible<Result<String, ToolError>, SomethingElse>;
type Name = &'static str;

impl Serializer for Listener {
    type Ok = Result<String, ToolError>;
    type Error = SomethingElse;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Nothing;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Nothing;

    fn serialize_unit(self) -> Result<Self::Ok, SomethingElse> {
        Ok(Ok("done".to_owned()))
    }

    /// As it is, and not by way of JSON.
    fn serialize_str(self, text: &str) -> Result<Self::Ok, SomethingElse> {
        Ok(Ok(text.to_owned()))
    }

    /// How serde writes a `Result`.
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: Name,
        _: u32,
        variant: Name,
        value: &T,
    ) -> Result<Self::Ok, SomethingElse> {
        match (name, variant) {
            ("Result", "Ok") => Ok(said(value)),
            ("Result", "Err") => Ok(said(value).and_then(|text| Err(ToolError::new(text)))),
            _ => Err(SomethingElse),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, SomethingElse> {
        Err(SomethingElse)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: Name,
        _: &T,
    ) -> Result<Self::Ok, SomethingElse> {
        Err(SomethingElse)
    }

    something_else! {
        serialize_bool(bool) -> Self::Ok;
        serialize_i8(i8) -> Self::Ok;
        serialize_i16(i16) -> Self::Ok;
        serialize_i32(i32) -> Self::Ok;
        serialize_i64(i64) -> Self::Ok;
        serialize_i128(i128) -> Self::Ok;
        serialize_u8(u8) -> Self::Ok;
        serialize_u16(u16) -> Self::Ok;
        serialize_u32(u32) -> Self::Ok;
        serialize_u64(u64) -> Self::Ok;
        serialize_u128(u128) -> Self::Ok;
        serialize_f32(f32) -> Self::Ok;
        serialize_f64(f64) -> Self::Ok;
        serialize_char(char) -> Self::Ok;
        serialize_bytes(&[u8]) -> Self::Ok;
        serialize_none() -> Self::Ok;
        serialize_unit_struct(Name) -> Self::Ok;
        serialize_unit_variant(Name, u32, Name) -> Self::Ok;
        serialize_seq(Option<usize>) -> Nothing;
        serialize_tuple(usize) -> Nothing;
        serialize_tuple_struct(Name, usize) -> Nothing;
        serialize_tuple_variant(Name, u32, Name, usize) -> Nothing;
        serialize_map(Option<usize>) -> Nothing;
        serialize_struct(Name, usize) -> Nothing;
        serialize_struct_variant(Name, u32, Name, usize) -> Nothing;
    }
}
