//! Tasks of the repository: `cargo xtask <task>`.

mod bench;
mod book;
mod ci;
mod conformance;
mod consumers;
mod examples;
mod fuzz;
mod r#gen;
mod sim;
mod tools;
mod torture;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>
  bench [NAME...] [--quick | --full] [--wait SECONDS] [--list]
                                  measure, each figure beside its floor, into bench/results.md
  ci                              everything that must hold
  gen [--check]                   write the generated files, or fail where they are not up to date
  book                            build the specification as a book, without warnings
  conformance [--check] [--matrix [--sample N] [--write]]
                                  judge our servers, or show that every known fault is caught
  examples                        show that every public thing of the libraries has an example
  consumers                       show that TypeScript and Python can use the schemas
  fuzz [--seconds N] [--target T] [--input FILE]
                                  run the parsers on inputs that grow from the vectors
  sim [--seeds N] [--from SEED] [--within SECONDS]
                                  run simulated worlds until a promise breaks
  torture [--rounds N] [--seed S] [--program RAP]
                                  kill a real runtime and its tool server at random instants and prove that nothing is lost";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["gen"] => r#gen::write(),
        ["gen", "--check"] => r#gen::check(),
        ["ci"] => ci::run(),
        ["bench", options @ ..] => bench::run(options),
        ["book"] => book::run(),
        ["conformance", options @ ..] => conformance::run(options),
        ["examples"] => examples::run(),
        ["consumers"] => consumers::run(),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["sim", options @ ..] => sim::run(options),
        ["torture", options @ ..] => torture::run(options),
        ["torture-tools", options @ ..] => torture::serve_tools(options),
        _ => Err(USAGE.to_owned()),
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
#[allow(clippy::print_stdout, reason = "a task talks to a terminal")]
pub(crate) fn say(message: &str) {
    println!("{message}");
}
