//! Objects that are told apart by `type`, read in one go where `type` comes first, as it does from almost every
//! peer.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, value::MapAccessDeserializer},
};
use std::borrow::Cow;

/// A member's name, borrowed where it can be.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The members of an object after its `type`. A second `type` is an error, since of two members of one name the
/// last would count, and it is too late for that.
pub(crate) struct Rest<A>(A);

impl<'de, A: MapAccess<'de>> Rest<A> {
    /// After `type` and its value were taken from the members.
    pub(crate) fn new(members: A) -> Self {
        Self(members)
    }

    /// The rest of the object as a `T`.
    pub(crate) fn read<T: Deserialize<'de>>(self) -> Result<T, A::Error> {
        T::deserialize(self.deserializer())
    }

    pub(crate) fn deserializer(self) -> impl Deserializer<'de, Error = A::Error> {
        MapAccessDeserializer::new(self)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.0.next_key::<Key<'de>>()? {
            Some(Key(key)) if key == "type" => Err(A::Error::duplicate_field("type")),
            Some(Key(key)) => seed.deserialize(key.into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}
