//! `rap serve`: a runtime for long, on a database that remembers where it was served.

use crate::{cli::ServeArgs, failure::Failure, host, output::Out, shutdown};
use rap_runtime::{
    LocalFiles,
    core::{DestructivePolicy, Rules},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Runs until it is told to stop.
pub(crate) async fn serve(args: ServeArgs, out: &Out) -> Result<(), Failure> {
    let stop = shutdown::asked_to_stop(args.stop_with_stdin)?;
    host::check_servers(args.servers.iter().chain(&args.public_url))?;
    let model = host::model(args.model.as_deref(), args.script.as_deref())?;
    let store = host::open(&args.db).await?;
    let listener = host::listen(&store, args.listen).await?;
    let url = match args.public_url {
        Some(url) => url,
        None => host::url_of(&listener)?,
    };
    let address = listener.local_addr();
    let mut builder = host::builder(store, &args.db, url.clone(), out)
        .await?
        .model(model)
        .rules(rules(args.allow_destructive));
    for server in args.servers {
        builder = builder.toolset(server);
    }
    let runtime = builder.build().await.map_err(Failure::of)?;
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
    let (served, (), ()) =
        tokio::join!(serving, runtime.run_until(stopping.clone().cancelled_owned()), asked);
    served
}

/// The defaults, with a person's word on destructive tools (CON-02).
pub(crate) fn rules(allow_destructive: bool) -> Rules {
    let mut rules = Rules::default();
    if allow_destructive {
        rules.destructive = DestructivePolicy::Allow;
    }
    rules
}
