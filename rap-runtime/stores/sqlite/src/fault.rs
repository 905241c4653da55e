//! What goes wrong inside, and how it becomes a [`StoreError`] that says what to do.

use rap_core::StoreError;
use rusqlite::ErrorCode;
use serde::{Serialize, de::DeserializeOwned};

/// The result of everything that touches the database.
pub(crate) type Done<T> = Result<T, Fault>;

/// SQLite's error, or one that is already the store's.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// Whether the fault is in what one row holds, so that others may be sound.
    pub(crate) fn is_of_one_row(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Damaged { .. }),
            Self::Sql(error) => matches!(
                error,
                rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::Utf8Error(..)
            ),
        }
    }

    pub(crate) fn into_error(self, path: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sql(error) => {
                let damaged = || StoreError::Damaged {
                    what: format!("the database {path}"),
                    detail: error.to_string(),
                };
                match error.sqlite_error_code() {
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(),
                    Some(ErrorCode::DiskFull) => StoreError::Failed(format!(
                        "the disk with {path} is full; nothing was written, make room and try again"
                    )),
                    Some(ErrorCode::ReadOnly) => {
                        StoreError::Failed(format!("{path} cannot be written; check its permissions"))
                    }
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Failed(format!(
                        "{path} is locked by another program; end what reads or writes it and try again"
                    )),
                    _ => StoreError::Failed(format!("{path}: {error}")),
                }
            }
        }
    }
}

pub(crate) fn damaged(what: impl Into<String>, detail: impl ToString) -> Fault {
    StoreError::Damaged { what: what.into(), detail: detail.to_string() }.into()
}

/// A value as JSON text.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("bug: what is stored has string keys and no failing serializer")
}

/// A value from stored JSON text; `what` names it in the error.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: impl FnOnce() -> String) -> Done<T> {
    serde_json::from_str(text).map_err(|e| damaged(what(), e))
}

/// The word by which serde names a unit variant.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("bug: only unit variants have a word"),
    }
}

/// The unit variant of a stored word.
pub(crate) fn from_word<T: DeserializeOwned>(word: String, what: &str) -> Done<T> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|e| damaged(what, e))
}
