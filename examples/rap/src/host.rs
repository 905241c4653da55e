//! What `run` and `serve` share: a database, an address that it remembers, a model, and the door for callbacks.

use crate::{failure::Failure, inspect::count, output::Out};
use futures_util::StreamExt;
use rap_http::{Auth, Listener, Serving};
use rap_runtime::{
    AgentHost, LocalFiles, Runtime, RuntimeBuilder, Watched,
    core::{Store, Surface},
    sqlite::SqliteStore,
};
use rap_types::HttpUrl;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Under this name the database remembers where it was served.
pub(crate) const LISTEN: &str = "listen";

/// How long a command waits for its farewell to be on its way.
const GOODBYE: Duration = Duration::from_secs(5);

/// How often is looked whether it has been said.
const LOOK: Duration = Duration::from_millis(10);

/// How long requests that are being answered may take after a stop.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Opens a database for writing.
pub(crate) async fn open(path: &Path) -> Result<Arc<SqliteStore>, Failure> {
    Ok(Arc::new(SqliteStore::open(path).await?))
}

/// Listens where the database says, so that callbacks which are under way arrive; an address with a port of its
/// own is used as it is, and remembered.
pub(crate) async fn listen(store: &SqliteStore, asked: SocketAddr) -> Result<Listener, Failure> {
    let remembered: Option<SocketAddr> = store.get(LISTEN).await?.and_then(|text| text.parse().ok());
    let address = match remembered {
        Some(remembered) if asked.port() == 0 && remembered.ip() == asked.ip() => remembered,
        _ => asked,
    };
    // Every URL that is served holds a capability or asks for the token.
    let listener = Listener::bind(&address.to_string(), Auth::InUrl).await.map_err(|error| {
        if error.is_in_use() && asked.port() == 0 {
            return Failure::new(format!(
                "cannot listen on {address}, where the calls of this database expect their callbacks: another program has this port"
            ))
            .hint("stop that program; or serve the database elsewhere with --listen and a port, and lose the callbacks that are under way");
        }
        Failure::of(error)
    })?;
    store.put(LISTEN, &listener.local_addr().to_string()).await?;
    Ok(listener)
}

/// A runtime on a database, before its servers and its model are set.
pub(crate) async fn builder(
    store: Arc<SqliteStore>,
    db: &Path,
    url: HttpUrl,
    out: &Out,
) -> Result<RuntimeBuilder, Failure> {
    let files = LocalFiles::beside(db);
    if !files.key_path().exists() {
        warn_of_a_lost_key(&store, files.key_path(), out).await?;
    }
    let keys = files.keys().map_err(Failure::of)?;
    Ok(Runtime::builder().shared_store(store).keys(keys).public_url(url))
}

/// Callbacks that were signed with a key that is gone are turned away: whoever has the key in a copy should know.
async fn warn_of_a_lost_key(store: &SqliteStore, key: &Path, out: &Out) -> Result<(), Failure> {
    let calls = store.calls(true).await?.len();
    let mut subscriptions = 0;
    for session in store.sessions().await? {
        subscriptions +=
            store.threads(&session.id).await?.iter().map(|thread| thread.subscriptions).sum::<usize>();
    }
    if calls + subscriptions > 0 {
        out.warning(format_args!(
            "the key {} is missing, so a new one is made: what tool servers still send for {} and {} will be turned \
             away; if there is a copy of the key, stop, put it back and start again",
            key.display(),
            count(calls, "open call"),
            count(subscriptions, "subscription"),
        ));
    }
    Ok(())
}

/// A folder for one command, which nobody else may look into.
pub(crate) fn temporary_folder(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().map_err(|e| Failure::new(format!("cannot make a folder for temporary files: {e}")))
}

/// Closes what lives in a database that is about to go, and lets the tool servers know (CLS-01).
pub(crate) async fn say_goodbye(runtime: &Runtime, store: &SqliteStore) -> Result<(), Failure> {
    let closing = async {
        let sessions = store.sessions().await?;
        for session in &sessions {
            match runtime.close(&session.id).await {
                Err(error) if !error.is_ended() => return Err(Failure::of(error)),
                _ => {}
            }
        }
        for session in sessions {
            let mut watch = runtime.watch(&session.id, 0).await.map_err(Failure::of)?;
            while let Some(watched) = watch.next().await.transpose().map_err(Failure::of)? {
                if matches!(watched, Watched::Committed(e) if e.event.thread == session.id && e.event.what == Surface::Closed)
                {
                    break;
                }
            }
        }
        // The notices are in the outbox; once they are on their way, the runtime ends only after them.
        // The store's bell has one listener, the driver: whoever listens beside it takes a ring away from it.
        while store.next_due().await?.is_some() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(GOODBYE, closing).await.unwrap_or(Ok(()))
}

/// The URL of a listener.
pub(crate) fn url_of(listener: &Listener) -> Result<HttpUrl, Failure> {
    let address = listener.local_addr();
    if address.ip().is_unspecified() {
        return Err(Failure::new(format!("{address} stands for all addresses of this machine"))
            .hint("say with --public-url under which URL tool servers reach it"));
    }
    HttpUrl::new(format!("http://{address}")).map_err(Failure::of)
}

/// Refuses https where this build cannot speak it.
pub(crate) fn check_servers<'a>(servers: impl IntoIterator<Item = &'a HttpUrl>) -> Result<(), Failure> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    match servers.into_iter().find(|url| url.is_https()) {
        Some(url) => {
            Err(Failure::new(format!("{} needs https, which this build does not speak", url.redacted()))
                .hint("build it with the feature `tls`: cargo install --path examples/rap --features tls"))
        }
        None => Ok(()),
    }
}

/// Serves a router until the token is cancelled; requests that are being answered get a moment more.
pub(crate) async fn serve(
    listener: Listener,
    router: axum::Router,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let served = Serving::new().run(listener.into_tcp(), router, stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = served => Ok(()),
        () = late => Ok(()),
    }
}
