//! Strings that are checked where they stand: no owned string in between.

use serde::{
    Deserializer,
    de::{Error, Visitor},
};
use std::{fmt, marker::PhantomData};

/// What is made of a string.
pub(crate) trait FromText: Sized {
    /// Checks the string.
    fn from_text<E: Error>(text: &str) -> Result<Self, E>;
}

/// Reads a string and makes a `T` of it.
pub(crate) fn read<'de, T: FromText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);
    impl<T: FromText> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}
