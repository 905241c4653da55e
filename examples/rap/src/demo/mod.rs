//! `rap demo`: the whole promise with real parts. Three processes, real HTTP, a real database file; one of them
//! is killed in the middle, and in the end everything is held against everything.

pub(crate) mod ledger;
mod processes;
pub(crate) mod proof;
mod scene;
mod story;
pub(crate) mod tools;

use crate::{
    cli::DemoArgs,
    failure::Failure,
    host, inspect,
    output::{BAD, DIM, GOOD, Out, paint},
    shutdown,
};
use proof::{Evidence, Proof};
use scene::Scene;
use std::path::{Path, PathBuf};
use story::Story;
use tempfile::TempDir;

/// The database's name in the folder of the demo.
const DB: &str = "agent.db";

/// Tells the story and proves it.
pub(crate) async fn demo(args: DemoArgs, out: &Out) -> Result<(), Failure> {
    let stop = shutdown::signals()?;
    let folder = host::temporary_folder("rap-demo-")?;
    let told = tokio::select! {
        told = tell(folder.path(), out) => told,
        () = stop => Err(Failure::interrupted()),
    };
    // The processes ended with the story, so that nobody writes into the folder any more.
    leave(folder, args.keep, out)?;
    told.map_err(|failure| match (args.keep, failure.as_hint()) {
        (false, None) if failure.code() == 1 => {
            failure.hint("run it again with --keep and look at the logs in its folder")
        }
        _ => failure,
    })
}

fn leave(folder: TempDir, keep: bool, out: &Out) -> Result<(), Failure> {
    if keep {
        let path: PathBuf = folder.keep();
        out.line(format_args!("kept: {}", path.display()));
        out.record(&serde_json::json!({"step": "kept", "folder": path}));
        return Ok(());
    }
    let path = folder.path().to_owned();
    folder.close().map_err(|e| Failure::new(format!("cannot remove {}: {e}", path.display())))
}

async fn tell(folder: &Path, out: &Out) -> Result<(), Failure> {
    let story = Story::new(out);
    let mut scene = Scene::set(folder, &story).await?;
    scene.ask().await?;
    scene.sleep_and_die().await?;
    scene.wake().await?;
    scene.end().await;
    story.chapter("The proof: the tool server's ledger against the history in the database");
    let proof = proof_in(folder).await?;
    say(&proof, out);
    verdict(&proof)
}

/// `rap proof`: the same proof, over a folder that was kept.
pub(crate) async fn proof_of(folder: &Path, out: &Out) -> Result<(), Failure> {
    let proof = proof_in(folder).await?;
    say(&proof, out);
    verdict(&proof)
}

async fn proof_in(folder: &Path) -> Result<Proof, Failure> {
    let ledger = ledger::read(&folder.join(ledger::FILE))?;
    let reader = inspect::read(&folder.join(DB)).await?;
    let mut evidence = Evidence {
        threads: Vec::new(),
        calls: reader.calls(false).await?,
        dead_letters: reader.dead_letters().await?,
    };
    for session in reader.sessions().await? {
        for thread in reader.threads(&session.id).await? {
            evidence.threads.extend(reader.history(&thread.row.id).await?);
        }
    }
    Ok(proof::prove(&ledger, &evidence))
}

fn say(proof: &Proof, out: &Out) {
    out.record(&serde_json::json!({"step": "proof", "holds": proof.holds(), "proof": proof}));
    let row = |ledger: String, history: String| out.line(format_args!("  {ledger:<28}{history}"));
    out.line(paint(DIM, format!("  {:<28}{}", "by the ledger", "by the history")));
    row(
        format!("{} calls worked on", proof.works),
        format!("{} answered once, with the same text ({} of them late)", proof.calls, proof.late),
    );
    row(
        format!("{} events sent", proof.sent),
        format!("{} handled once, each by a thread of its own", proof.events),
    );
    row("".to_owned(), format!("{} reports, each shown once to the parent", proof.reports));
    row("".to_owned(), format!("{} calls open, {} dead letters", proof.open, proof.dead_letters));
    for fault in &proof.faults {
        out.line(format_args!("  {} {fault}", paint(BAD, "fault:")));
    }
    if proof.holds() {
        out.line(paint(GOOD, "  nothing lost, nothing twice"));
    }
}

fn verdict(proof: &Proof) -> Result<(), Failure> {
    match proof.faults.as_slice() {
        [] if proof.holds() => Ok(()),
        [] => Err(Failure::new("the proof is empty: the tools did nothing")),
        [fault] => Err(Failure::new(format!("the proof does not hold: {fault}"))),
        [fault, more @ ..] => {
            Err(Failure::new(format!("the proof does not hold: {fault} (and {} more)", more.len())))
        }
    }
}
