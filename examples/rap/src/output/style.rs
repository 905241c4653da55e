//! A few colours, for what is readable without them.

use anstyle::{AnsiColor, Style};
use std::fmt;

/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What may be wrong.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Names of tools, processes and threads.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
/// What matters less: times, ids.
pub(crate) const DIM: Style = Style::new().dimmed();

/// Text in a style; a stream that is no terminal takes it off again.
pub(crate) fn paint<T: fmt::Display>(style: Style, text: T) -> impl fmt::Display {
    struct Painted<T>(Style, T);
    impl<T: fmt::Display> fmt::Display for Painted<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}{}{}", self.0.render(), self.1, self.0.render_reset())
        }
    }
    Painted(style, text)
}
