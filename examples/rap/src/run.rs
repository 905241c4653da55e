//! `rap run`: one conversation with an agent of this process, until it rests.
//!
//! It talks to the runtime through `AgentHost` alone, so that one in another process can take its place.

mod ask;
mod show;

use crate::{
    cli::RunArgs,
    failure::Failure,
    host,
    inspect::{count, unknown_thread},
    models,
    output::Out,
    reach, serve, servers, shutdown,
};
use ask::Questions;
use futures_util::StreamExt;
use rap_runtime::{
    AgentHost, Approval, Choices, HostError, NewSession, RemoteHost, ToolsetProblem, Watched, core::Surface,
};
use rap_types::ThreadId;
use serde_json::json;
use show::Show;
pub(crate) use show::short;
use std::{future, net::SocketAddr, path::Path, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long the runtime has for ending what it is doing.
const END: Duration = Duration::from_secs(5);

/// How soon, and how late at most, a session that may rest is looked at.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LATEST: Duration = Duration::from_secs(1);

/// How a conversation ended.
enum Ended {
    AtRest,
    TimeOut,
    Interrupted,
}

/// Runs until the agent rests, the time is over, or a person interrupts.
pub(crate) async fn run(args: RunArgs, out: &Out) -> Result<(), Failure> {
    let stop = shutdown::signals()?;
    host::check_servers(args.servers.iter().map(|server| &server.url).chain(&args.connect))?;
    if let Some(url) = &args.connect {
        let token = reach::token(args.token_file.as_deref())?;
        return converse(&RemoteHost::new(url.clone(), token), &args, stop, out).await;
    }
    let model = models::choose(args.model.as_deref(), args.script.as_deref())?;
    let scripted = model.is_plain();
    if args.session.is_some() && args.db.as_deref().is_some_and(|db| !db.exists()) {
        let db = args.db.as_deref().unwrap_or(Path::new(""));
        return Err(Failure::new(format!(
            "there is no database {}, so no session to go on with",
            db.display()
        ))
        .hint("name the file that was given when the session began"));
    }
    // Dropped last: the database in it must be closed before.
    let temporary = match args.db {
        Some(_) => None,
        None => Some(host::temporary_folder("rap-run-")?),
    };
    let db = match (&args.db, &temporary) {
        (Some(db), _) => db.clone(),
        (None, Some(folder)) => folder.path().join("agent.db"),
        (None, None) => unreachable!("bug: without a database a folder is made"),
    };
    let store = reach::open(&db).await?;
    let listener = host::listen(&store, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url = host::url_of(&listener)?;
    let builder = model.into_builder(host::builder(store.clone(), &db, url, out).await?);
    let runtime = servers::add(builder, &args.servers, args.credentials.as_deref())?
        .rules(serve::rules(args.allow_destructive))
        .approval(if args.allow_destructive { Approval::Allow } else { Approval::AskIfDestructive })
        .choices(if ask::somebody_is_there(out) { Choices::Ask } else { Choices::Dismiss })
        .build()
        .await
        .map_err(Failure::of)?;
    if scripted {
        out.note(
            "no model is configured, so the scripted one answers; tell it what to call, e.g. call get_weather {\"city\":\"Oslo\"} and get_time {}",
        );
    }

    let stopping = CancellationToken::new();
    let served = tokio::spawn(host::serve(listener, runtime.gateway(), stopping.clone()));
    let driven = tokio::spawn({
        let (runtime, stopping) = (runtime.clone(), stopping.clone());
        async move { runtime.run_until(stopping.cancelled_owned()).await }
    });
    let ended = converse(&runtime, &args, stop, out).await;
    if temporary.is_some() {
        host::say_goodbye(&runtime, &store).await?;
    }
    drop(store);
    stopping.cancel();
    drop(runtime);
    let _ = tokio::time::timeout(END, async { tokio::join!(served, driven) }).await;
    ended
}

async fn converse(
    agent: &dyn AgentHost,
    args: &RunArgs,
    stop: impl Future<Output = ()>,
    out: &Out,
) -> Result<(), Failure> {
    let (session, problems) = session(agent, args, out).await?;
    // Whoever goes on with a session wants to see what comes, not what was.
    let mut seen = 0;
    if args.session.is_some() {
        let mut past = agent.watch(&session, 0).await.map_err(Failure::of)?;
        while let Some(Watched::Committed(event)) = past.next().await.transpose().map_err(Failure::of)? {
            seen = event.n;
        }
    }
    let mut watch = agent.watch(&session, seen).await.map_err(Failure::of)?;
    agent.send(&session, &key()?, &args.message).await.map_err(Failure::of)?;

    let mut show = Show::new(out, session.clone(), problems);
    let mut questions = Questions::new(out, ask::somebody_is_there(out));
    let time_over = pause(args.timeout);
    tokio::pin!(time_over, stop);
    // A thread that has told that it rests may still be claimed for a moment: it is looked at again, ever later.
    let mut look_after = None;
    let ended = loop {
        let quiet = show.is_at_line_start() && questions.is_empty();
        let waiting = quiet.then(|| out.waiting("the agent is at work,"));
        let watched = tokio::select! {
            watched = watch.next() => watched,
            (call, index) = questions.answered() => {
                match agent.answer(&call, index).await {
                    // Somebody else was faster, or the host itself where nobody is expected to answer.
                    Err(error) if error.is_already() || error.is_ended() || error.is_unknown() => out.note(error),
                    other => other.map_err(Failure::of)?,
                }
                continue;
            }
            () = show.patience() => {
                show.stream();
                continue;
            }
            () = pause(look_after) => {
                if agent.status(&session).await.map_err(Failure::of)?.is_at_rest() {
                    break Ended::AtRest;
                }
                look_after = look_after.map(|pause| (pause * 2).min(LOOK_LATEST));
                continue;
            }
            () = &mut time_over => break Ended::TimeOut,
            () = &mut stop => break Ended::Interrupted,
        };
        drop(waiting);
        let Some(watched) = watched else {
            return Err(Failure::new("the runtime ended while the agent was at work"));
        };
        let watched = watched.map_err(Failure::of)?;
        show.show(&watched);
        let Watched::Committed(event) = &watched else { continue };
        seen = event.n;
        let what = &event.event.what;
        questions.put(what, agent, &session).await?;
        if may_be_the_end(what) {
            look_after = Some(LOOK_FIRST);
        }
    };
    show.stream();
    if matches!(ended, Ended::AtRest) {
        // Events of other threads may have been committed before that, and not yet told.
        let mut rest = agent.watch(&session, seen).await.map_err(Failure::of)?;
        while let Some(watched) = rest.next().await.transpose().map_err(Failure::of)? {
            if watched == Watched::CaughtUp {
                break;
            }
            show.show(&watched);
        }
    }
    say_how_it_ended(agent, args, &session, ended, show.last_error(), out).await
}

/// The session to talk to, a new one or the one that was asked for, and what of its servers cannot be used.
async fn session(
    agent: &dyn AgentHost,
    args: &RunArgs,
    out: &Out,
) -> Result<(ThreadId, Vec<ToolsetProblem>), Failure> {
    if let Some(session) = &args.session {
        // Those with a name say where the session's own servers are now, and how they are to know us.
        if args.servers.iter().any(|server| server.name.is_none()) {
            out.warning("a session keeps the tool servers that it began with; --server is not used");
        }
        return match agent.status(session).await {
            Ok(_) => {
                if let Some(model) = &args.model {
                    agent.choose_model(session, Some(models::id_of(model))).await.map_err(Failure::of)?;
                }
                out.record(&json!({"run": "continued", "session": session}));
                Ok((session.clone(), Vec::new()))
            }
            Err(error) => Err(match &args.db {
                Some(db) if error.is_unknown() => unknown_thread(session, db),
                _ => Failure::of(error),
            }),
        };
    }
    let mut new = NewSession::new();
    // A runtime elsewhere has servers of its own.
    if args.connect.is_none() || !args.servers.is_empty() {
        new = new.toolsets(args.servers.iter().map(|server| server.url.clone()));
    }
    if let Some(model) = args.model.as_ref().filter(|id| !id.starts_with("scripted")) {
        new = new.model(model);
    }
    let opened = agent.create(new).await;
    let opened = opened.map_err(|error| no_session(&error, out))?;
    for problem in &opened.problems {
        out.warning(problem);
    }
    out.record(&json!({
        "run": "began", "session": opened.session, "tools": opened.tools, "problems": opened.problems,
    }));
    Ok((opened.session, opened.problems))
}

fn no_session(error: &HostError, out: &Out) -> Failure {
    if !error.is_no_tools() {
        return Failure::of(error);
    }
    match error.problems() {
        [problem] => Failure::of(problem),
        problems => {
            problems.iter().for_each(|problem| out.warning(problem));
            Failure::new("no tool server can be used").hint("mend one of those above")
        }
    }
}

async fn pause(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => future::pending().await,
    }
}

fn may_be_the_end(what: &Surface) -> bool {
    matches!(what, Surface::Resting | Surface::Paused | Surface::Closed)
}

async fn say_how_it_ended(
    agent: &dyn AgentHost,
    args: &RunArgs,
    session: &ThreadId,
    ended: Ended,
    error: Option<&str>,
    out: &Out,
) -> Result<(), Failure> {
    let status = agent.status(session).await.map_err(Failure::of)?;
    let open: usize = status.threads.iter().map(|thread| thread.open_calls).sum();
    let subscriptions: usize = status.threads.iter().map(|thread| thread.subscriptions).sum();
    let word = match ended {
        Ended::AtRest => "at_rest",
        Ended::TimeOut => "timed_out",
        Ended::Interrupted => "interrupted",
    };
    out.record(&json!({
        "run": word, "session": session, "open_calls": open, "subscriptions": subscriptions,
        "threads": status.threads, "error": error,
    }));
    let kept = match (&args.db, &args.connect) {
        (Some(db), _) => Some(format!("--db {}", db.display())),
        (None, Some(url)) => Some(format!("--connect {url}")),
        (None, None) => None,
    };
    let go_on = kept.map(|kept| format!("rap run \"...\" {kept} --session {session}"));
    match (ended, error) {
        (Ended::AtRest, None) => {
            if let Some(go_on) = go_on {
                out.note(format_args!("to go on: {go_on}"));
            } else if subscriptions > 0 {
                out.note(format_args!(
                    "{} ends with this command; rap serve keeps an agent that hears of events",
                    count(subscriptions, "subscription")
                ));
            }
            Ok(())
        }
        (Ended::AtRest, Some(error)) => Err(Failure::of(error)),
        (Ended::TimeOut, _) => {
            let failure = Failure::new(format!(
                "the time is over and the agent is still at work ({})",
                count(open, "open call")
            ));
            Err(match go_on {
                Some(go_on) => failure.hint(format!("nothing is lost; go on with {go_on}")),
                None => failure.hint("give more --timeout, or a --db so that it can go on later"),
            })
        }
        (Ended::Interrupted, _) => Err(match go_on {
            Some(go_on) => Failure::interrupted().hint(format!("nothing is lost; go on with {go_on}")),
            None => Failure::interrupted(),
        }),
    }
}

/// A name for one message, so that it counts once however often it is sent.
pub(crate) fn key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(format!("the system gives no random bytes: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
