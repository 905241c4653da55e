//! `rap serve`: a runtime for long, on a database that remembers where it was served.

use crate::{
    cli::{ServeArgs, Server, SliceArgs},
    failure::Failure,
    host, models,
    output::Out,
    servers, shutdown,
};
use rap_runtime::{
    Approval, Choices, LocalFiles, Runtime, SliceErrand, SliceProcesses,
    core::{DestructivePolicy, Rules},
    sqlite::SqliteStore,
};
use rap_types::HttpUrl;
use serde_json::json;
use std::{ffi::OsString, path::Path, process::Command, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Runs until it is told to stop.
pub(crate) async fn serve(args: ServeArgs, out: &Out) -> Result<(), Failure> {
    let stop = shutdown::asked_to_stop(args.stop_with_stdin)?;
    host::check_servers(args.servers.iter().map(|server| &server.url).chain(&args.public_url))?;
    let model = models::choose(args.model.as_deref(), args.script.as_deref())?;
    let store = host::open(&args.db).await?;
    let (owner, exec_slices) = (store.clone(), args.exec_slices);
    let listener = host::listen(&store, args.listen).await?;
    let url = match args.public_url {
        Some(url) => url,
        None => host::url_of(&listener)?,
    };
    let address = listener.local_addr();
    let builder = host::builder(store, &args.db, url.clone(), out).await?;
    let mut builder = model.into_builder(builder).rules(rules(args.allow_destructive));
    if args.ask {
        builder = builder.choices(Choices::Ask);
        if !args.allow_destructive {
            builder = builder.approval(Approval::AskIfDestructive);
        }
    }
    let credentials = args.credentials.as_deref();
    if exec_slices {
        let (model, script) = (args.model.as_deref(), args.script.as_deref());
        let slice = slice_command(&args.db, model, script, &url, &args.servers, credentials)?;
        builder = builder.slice_processes(SliceProcesses::new(owner, slice));
    }
    let runtime = servers::add(builder, &args.servers, credentials)?;
    let runtime = runtime.build().await.map_err(Failure::of)?;
    let files = LocalFiles::beside(&args.db);
    let token = files.token().map_err(Failure::of)?;
    let router = runtime.gateway().merge(runtime.api(token));

    out.line(format_args!("listening on http://{address}"));
    out.note(format_args!("the API's token is in {}", files.token_path().display()));
    out.record(
        &json!({"listen": address.to_string(), "url": url.as_str(), "token_file": files.token_path()}),
    );

    let stopping = CancellationToken::new();
    let serving = async {
        let served = host::serve(listener, router, stopping.clone()).await;
        stopping.cancel();
        served
    };
    let asked = async {
        tokio::select! {
            () = stop => stopping.cancel(),
            () = stopping.cancelled() => {}
        }
    };
    let driving = async {
        let driven = runtime.run_until(stopping.clone().cancelled_owned()).await;
        stopping.cancel();
        driven
    };
    let (served, driven, ()) = tokio::join!(serving, driving, asked);
    driven?;
    served
}

/// How `rap slice` is started for this runtime: whatever bears on a slice is passed on.
fn slice_command(
    db: &Path,
    model: Option<&str>,
    script: Option<&Path>,
    url: &HttpUrl,
    servers: &[Server],
    credentials: Option<&Path>,
) -> Result<impl Fn() -> Command + Send + Sync + 'static, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot find this program, to start it for each slice: {e}")))?;
    let mut args: Vec<OsString> = vec!["slice".into(), "--db".into(), db.into()];
    args.extend(["--public-url".into(), url.as_str().into()]);
    if let Some(model) = model {
        args.extend(["--model".into(), model.into()]);
    }
    if let Some(script) = script {
        args.extend(["--script".into(), script.into()]);
    }
    for server in servers {
        args.extend(["--server".into(), server.to_string().into()]);
    }
    if let Some(credentials) = credentials {
        args.extend(["--credentials".into(), credentials.into()]);
    }
    Ok(move || {
        let mut command = Command::new(&program);
        command.args(&args);
        command
    })
}

/// `rap slice`: runs the slices of one thread, sends what they committed, and ends.
pub(crate) async fn slice(args: SliceArgs) -> Result<(), Failure> {
    let broken = |e: std::io::Error| {
        Failure::new(format!("this is for rap serve --exec-slices, which says what to do on stdin: {e}"))
    };
    let input = tokio::io::BufReader::new(tokio::io::stdin());
    let errand = SliceErrand::read(input).await.map_err(broken)?;
    let store = Arc::new(SqliteStore::join(&args.db, errand.lease().clone()).await?);
    let builder = Runtime::builder()
        .shared_store(store.clone())
        .keys(LocalFiles::beside(&args.db).keys().map_err(Failure::of)?)
        .public_url(args.public_url);
    let model = models::choose(args.model.as_deref(), args.script.as_deref())?;
    let builder = servers::add(model.into_builder(builder), &args.servers, args.credentials.as_deref())?;
    let runtime = builder.build().await.map_err(Failure::of)?;
    runtime.run_slice(errand, &store, tokio::io::stdout()).await.map_err(broken)?;
    drop((runtime, store));
    // The thread that reads stdin cannot be called off.
    std::process::exit(0)
}

/// The defaults, with a person's word on destructive tools (CON-02).
pub(crate) fn rules(allow_destructive: bool) -> Rules {
    let mut rules = Rules::default();
    if allow_destructive {
        rules.destructive = DestructivePolicy::Allow;
    }
    rules
}
