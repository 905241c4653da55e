//! A request as a `curl` command that can be pasted into a shell.

use crate::trace::Exchange;

/// The longest body that goes into a command, in bytes; arguments of a program are limited.
const LONGEST: usize = 16 * 1024;

/// The command. Redacted headers stay redacted: the reader fills them in. Callback URLs are those of the judge,
/// which has gone: the reader who waits for the outcome puts in one of their own.
pub fn curl(exchange: &Exchange) -> String {
    let mut command = format!("curl -sS -i -X {} {}", exchange.method, quoted(&exchange.url));
    for (name, value) in &exchange.headers {
        if !["host", "content-length", "connection"].contains(&name.as_str()) {
            command.push_str(&format!(" -H {}", quoted(&format!("{name}: {value}"))));
        }
    }
    let body = &exchange.body.0;
    if body.is_empty() {
        return command;
    }
    let text = std::str::from_utf8(body).ok().filter(|t| body.len() <= LONGEST && !t.contains('\0'));
    match text {
        Some(text) => command.push_str(&format!(" --data-binary {}", quoted(text))),
        None => command.push_str(&format!(" --data-binary @BODY   # {} bytes, see --trace", body.len())),
    }
    command
}

/// A word as a POSIX shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && !word.starts_with('@') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
