//! The cases, by topic. Each file holds a table `CASES` and the functions that it names.

mod discovery;
mod invocation;

use crate::case::Case;

/// Every case, in the order of reports.
pub fn all() -> Vec<&'static Case> {
    [discovery::CASES, invocation::CASES].into_iter().flatten().collect()
}
