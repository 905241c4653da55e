//! What `run` and `serve` share: a database, an address that it remembers, a model, and the door for callbacks.

use crate::failure::Failure;
use rap_http::{Auth, Listener};
use rap_runtime::{LocalFiles, Runtime, RuntimeBuilder, ScriptedModel, core::Store, sqlite::SqliteStore};
use rap_types::HttpUrl;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Under this name the database remembers where it was served.
const LISTEN: &str = "listen";

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
pub(crate) fn builder(store: Arc<SqliteStore>, db: &Path, url: HttpUrl) -> Result<RuntimeBuilder, Failure> {
    let keys = LocalFiles::beside(db).keys().map_err(Failure::of)?;
    Ok(Runtime::builder().shared_store(store).keys(keys).public_url(url))
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

/// The scripted model: the rules of a file, or the one that understands plain words. No other is in this version.
pub(crate) fn model(id: Option<&str>, script: Option<&Path>) -> Result<ScriptedModel, Failure> {
    if let Some(id) = id
        && id != "scripted"
        && !id.starts_with("scripted/")
    {
        return Err(Failure::new(format!("no model {id:?}: this version has no real models yet"))
            .hint("leave --model out; the scripted model does what its message says"));
    }
    match script {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Failure::new(format!("cannot read the script {}: {e}", path.display()))
                    .hint("give a file with rules for the scripted model")
            })?;
            ScriptedModel::from_toml(&text)
                .map_err(|e| Failure::new(format!("the script {} is wrong: {e}", path.display())))
        }
        None => Ok(ScriptedModel::demo()),
    }
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
    let served =
        axum::serve(listener.into_tcp(), router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = served.into_future() => {
            served.map_err(|e| Failure::new(format!("the listener failed: {e}")))
        }
        () = late => Ok(()),
    }
}
