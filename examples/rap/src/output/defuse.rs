//! Texts of models and tools are untrusted: on a terminal a control character could move the cursor, set a title
//! or hide what was written. Colours pass, for they are ours; everything else of that kind becomes a mark.

use std::borrow::Cow;

/// A text that does nothing to a terminal but fill it.
pub(crate) fn defuse(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\x1b' => colour(rest),
            _ if is_control(c) => None,
            _ => Some(c.len_utf8()),
        };
        match length {
            Some(length) => out.push_str(&rest[..length]),
            None => out.push('\u{FFFD}'),
        }
        rest = &rest[length.unwrap_or(c.len_utf8())..];
    }
    Cow::Owned(out)
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// The length of the colour sequence that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::defuse;

    #[test]
    fn nothing_but_colours_passes() {
        for (text, shown) in [
            ("plain\n\ttext, 7 °C", "plain\n\ttext, 7 °C"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[2Jcleared", "\u{FFFD}[2Jcleared"),
            ("\x1b]0;title\x07", "\u{FFFD}]0;title\u{FFFD}"),
            ("over\rwritten\x08", "over\u{FFFD}written\u{FFFD}"),
            ("\u{9b}31m", "\u{FFFD}31m"),
            ("\x1b", "\u{FFFD}"),
            ("\x1b[31", "\u{FFFD}[31"),
        ] {
            assert_eq!(defuse(text), shown, "{text:?}");
        }
    }
}
