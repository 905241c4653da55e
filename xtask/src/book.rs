//! `book`: the specification as pages, without a warning of mdBook's, its diagrams drawn by mermaid from npm.

use crate::{
    consumers::npm,
    r#gen::{read, root},
    say, tools,
};
use std::{fs, path::Path, process::Command};

const MERMAID: &str = "mermaid@12.3.0";

/// Builds it into `target/book`.
pub(crate) fn run() -> Result<(), String> {
    let mdbook = tools::mdbook()?;
    let mut command = Command::new(mdbook);
    command.args(["build", "spec"]).current_dir(root()).env("RUST_LOG", "mdbook=info");
    let output = command.output().map_err(|e| format!("mdbook cannot be started: {e}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() || said.contains("WARN") || said.contains("ERROR") {
        return Err(format!("mdbook ended with {} and said\n{said}", output.status));
    }
    diagrams(&root().join("target/book"))?;
    say("the book: target/book/index.html");
    Ok(())
}

/// Puts what draws the diagrams beside the pages, and looks whether a page with diagrams asks for it.
fn diagrams(book: &Path) -> Result<(), String> {
    let page = read(&book.join("overview.html"))?;
    if !page.contains("language-mermaid") || !page.contains("diagrams") {
        return Err(
            "the overview has no diagrams, or nothing that draws them; see spec/diagrams.js".to_owned()
        );
    }
    let work = root().join("target/mermaid");
    let drawing = work.join("node_modules/mermaid/dist/mermaid.min.js");
    if !drawing.exists()
        && let Err(why) = npm(&work, &[MERMAID])
    {
        if std::env::var("CI").as_deref() == Ok("true") {
            return Err(why);
        }
        say(&format!("SKIPPED: the diagrams stay text, for mermaid could not be installed: {why}"));
        return Ok(());
    }
    let beside = book.join("mermaid.min.js");
    fs::copy(&drawing, &beside).map_err(|e| format!("{}: {e}", beside.display()))?;
    Ok(())
}
