//! What a model without eyes is sent: never image data (RES-04), but a word where an image was, and all the rest
//! (RES-11).

use rap_core::{Entry, EventEntry, ModelRequest, ResultEntry, UserEntry};
use rap_types::ContentPart;
use std::{borrow::Cow, sync::Arc};

/// The request as a model that takes no images may see it.
pub(super) fn without_images(request: &ModelRequest) -> Cow<'_, ModelRequest> {
    if !request.history.may_show_images() || !request.history.iter().any(|entry| shows_image(entry)) {
        return Cow::Borrowed(request);
    }
    let blind = |entry: &Arc<Entry>| {
        if !shows_image(entry) {
            return entry.clone();
        }
        Arc::new(match (**entry).clone() {
            Entry::User(UserEntry { author, content }) => {
                Entry::User(UserEntry { author, content: told(content) })
            }
            Entry::Event(event) => {
                let content = told(event.content.clone());
                Entry::Event(EventEntry { content, ..event })
            }
            Entry::Results { results } => {
                let told = |result: ResultEntry| {
                    let content = told(result.content.clone());
                    ResultEntry { content, ..result }
                };
                Entry::Results { results: results.into_iter().map(told).collect() }
            }
            other => other,
        })
    };
    Cow::Owned(ModelRequest { history: request.history.iter().map(blind).collect(), ..request.clone() })
}

fn is_image(part: &ContentPart) -> bool {
    matches!(part, ContentPart::Image(_))
}

fn shows_image(entry: &Entry) -> bool {
    match entry {
        Entry::User(user) => user.content.iter().any(is_image),
        Entry::Event(event) => event.content.iter().any(is_image),
        Entry::Results { results } => results.iter().any(|result| result.content.iter().any(is_image)),
        _ => false,
    }
}

fn told(content: Vec<ContentPart>) -> Vec<ContentPart> {
    content
        .into_iter()
        .map(|part| match part {
            ContentPart::Image(image) => {
                ContentPart::text(format!("[an image ({}), which this model cannot see]", image.media_type))
            }
            other => other,
        })
        .collect()
}
