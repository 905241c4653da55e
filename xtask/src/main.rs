//! Tasks of the repository: `cargo xtask <task>`.

mod consumers;
mod r#gen;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["gen"] => r#gen::write(),
        ["gen", "--check"] => r#gen::check(),
        ["consumers"] => consumers::run(),
        _ => Err("usage: cargo xtask gen [--check] | consumers".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

/// Tells the person at the terminal.
#[allow(clippy::print_stderr, reason = "a task talks to a terminal")]
pub(crate) fn say(message: &str) {
    eprintln!("{message}");
}
