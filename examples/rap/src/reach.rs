//! Whom to tell something about a database: the runtime that serves it, or, where none does, one that only takes it down
//! for the next to come.

use crate::{failure::Failure, host, inspect, models};
use rap_runtime::{
    AgentHost, LocalFiles, RemoteHost, Runtime, Secret, core::StoreError, sqlite::SqliteStore,
};
use rap_types::HttpUrl;
use std::{path::Path, sync::Arc};

/// The host of a database. One that serves it elsewhere is found by the address and the token that are kept with it.
pub(crate) async fn host(db: &Path) -> Result<Box<dyn AgentHost>, Failure> {
    let reader = inspect::read(db).await?;
    let store = match SqliteStore::open(db).await {
        Ok(store) => store,
        Err(StoreError::Owned { owner, .. }) => {
            let address = reader.get(host::LISTEN).await?.ok_or_else(|| {
                Failure::new(format!("{} is in use by {owner}, which does not listen", db.display()))
            })?;
            let base = HttpUrl::new(format!("http://{address}")).map_err(Failure::of)?;
            let token = LocalFiles::beside(db).token().map_err(Failure::of)?;
            return Ok(Box::new(RemoteHost::new(base, token)));
        }
        Err(error) => return Err(error.into()),
    };
    // Nothing is driven here: what is told now waits in the database.
    let builder = Runtime::builder().store(store).public_url(nowhere()?);
    let runtime = models::choose(None, None)?.into_builder(builder).build().await.map_err(Failure::of)?;
    Ok(Box::new(runtime))
}

/// Opens a database for a command that talks to an agent. Where another process has it, that is perhaps one to talk to.
pub(crate) async fn open(db: &Path) -> Result<Arc<SqliteStore>, Failure> {
    let (error, owner) = match SqliteStore::open(db).await {
        Ok(store) => return Ok(Arc::new(store)),
        Err(StoreError::Owned { path, owner }) => (StoreError::Owned { path, owner: owner.clone() }, owner),
        Err(error) => return Err(error.into()),
    };
    let token = LocalFiles::beside(db).token_path().to_owned();
    let address = match inspect::read(db).await {
        // Only what serves has made a token.
        Ok(reader) if token.exists() => reader.get(host::LISTEN).await.ok().flatten(),
        _ => None,
    };
    Err(match address {
        Some(address) => Failure::new(format!("the database {} is in use by {owner}", db.display())).hint(format!(
            "if that is rap serve, talk to it with --connect http://{address} --token-file {} in the place of --db; else stop it, or use another file",
            token.display()
        )),
        None => error.into(),
    })
}

/// The token of a runtime elsewhere: of a file, or of the environment.
pub(crate) fn token(file: Option<&Path>) -> Result<Secret, Failure> {
    let token = match file {
        Some(file) => std::fs::read_to_string(file).map_err(|e| {
            Failure::new(format!("the token in {} cannot be read: {e}", file.display()))
                .hint("name the file that rap serve names when it starts")
        })?,
        None => std::env::var("RAP_TOKEN").unwrap_or_default(),
    };
    match token.trim() {
        "" => Err(Failure::new("there is no token for that runtime")
            .hint("put it into the environment as RAP_TOKEN, or name its file with --token-file")),
        token => Ok(Secret::from(token)),
    }
}

/// An address for a runtime that nobody calls back.
fn nowhere() -> Result<HttpUrl, Failure> {
    HttpUrl::new("http://127.0.0.1:9").map_err(Failure::of)
}
