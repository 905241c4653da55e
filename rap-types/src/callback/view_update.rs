//! `view_update`: the latest content of something that people look at.

use crate::ThreadId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The latest content of a view, replaced whole (VIW-01); empty content clears it (VIW-03).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "view_update")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ViewUpdate", transform = schema::view_update))]
#[non_exhaustive]
pub struct ViewUpdate {
    /// The thread that shows the view.
    pub group_id: ThreadId,
    /// Which view.
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["progress"])))]
    pub view_type: String,
    /// Its content, never interpreted by the runtime.
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [{"done": 3, "of": 5}, {}])))]
    pub content: Map<String, Value>,
}

impl ViewUpdate {
    /// New content for a view.
    ///
    /// ```
    /// use rap_types::{ThreadId, ViewUpdate};
    ///
    /// let progress = serde_json::json!({"done": 3, "of": 5}).as_object().cloned().unwrap_or_default();
    /// let update = ViewUpdate::new(ThreadId::new("thread-1")?, "progress", progress);
    /// assert_eq!(serde_json::to_value(&update)?["content"]["done"], 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(group_id: ThreadId, view_type: impl Into<String>, content: Map<String, Value>) -> Self {
        Self { group_id, view_type: view_type.into(), content }
    }
}

#[cfg(feature = "schema")]
mod schema {
    pub(super) fn view_update(schema: &mut schemars::Schema) {
        crate::schema::tag(schema, "view_update");
    }
}
