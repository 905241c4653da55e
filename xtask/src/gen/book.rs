//! The book: its generated parts, and what must hold between its pages and the registry.

use super::{Files, schemas::Schemas};
use std::path::Path;

pub(crate) fn make(_root: &Path, _schemas: &Schemas, _files: &mut Files) -> Result<(), String> {
    Ok(())
}

pub(crate) fn check(_root: &Path) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}
