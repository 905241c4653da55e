//! Tool servers of the command line, with the secrets by which they know us: from the environment, or from a file. They
//! are never arguments, which every user of the machine can read.

use crate::{cli::Server, failure::Failure};
use rap_runtime::{RuntimeBuilder, Secret, ServerConfig};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// The file: a table for each server that has a name.
type File = BTreeMap<String, Credentials>;

/// How a server is to know us.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// A bearer token.
    token: Option<Secret>,
    /// Signing keys, `whsec_…`; all of them sign.
    #[serde(default)]
    signing_keys: Vec<Secret>,
}

/// Adds the servers to a runtime.
pub(crate) fn add(
    mut builder: RuntimeBuilder,
    servers: &[Server],
    credentials: Option<&Path>,
) -> Result<RuntimeBuilder, Failure> {
    for server in configured(servers, credentials)? {
        builder = builder.server(server);
    }
    Ok(builder)
}

fn configured(servers: &[Server], credentials: Option<&Path>) -> Result<Vec<ServerConfig>, Failure> {
    let mut file = match credentials {
        Some(path) => read(path)?,
        None => File::new(),
    };
    let mut configured = Vec::new();
    for server in servers {
        let mut config = ServerConfig::new(server.url.clone());
        if let Some(name) = &server.name {
            config = config.named(name);
            let of_file = file.remove(name);
            config = with(config, name, of_file.unwrap_or_else(|| of_environment(name)))?;
        }
        configured.push(config);
    }
    match file.into_keys().next() {
        Some(name) => Err(Failure::new(format!("there are credentials for {name:?}, and no such server"))
            .hint(format!("name it: --server {name}=URL"))),
        None => Ok(configured),
    }
}

fn with(config: ServerConfig, name: &str, credentials: Credentials) -> Result<ServerConfig, Failure> {
    match credentials {
        Credentials { token: Some(_), signing_keys } if !signing_keys.is_empty() => {
            Err(Failure::new(format!("the server {name:?} has both a token and signing keys"))
                .hint("give it what it asks for, one of the two"))
        }
        Credentials { token: Some(token), .. } => Ok(config.bearer(token)),
        Credentials { signing_keys, .. } if !signing_keys.is_empty() => config
            .signed(&signing_keys)
            .map_err(|error| Failure::new(format!("the server {name:?}: {error}"))),
        _ => Ok(config),
    }
}

/// `RAP_SERVER_TOKEN_MY_TOOLS` and `RAP_SERVER_KEY_MY_TOOLS` for a server `my-tools`.
fn of_environment(name: &str) -> Credentials {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let value = |kind: &str| {
        std::env::var(format!("RAP_SERVER_{kind}_{name}")).ok().filter(|value| !value.is_empty())
    };
    let keys = value("KEY").unwrap_or_default();
    Credentials {
        token: value("TOKEN").map(Secret::from),
        signing_keys: keys.split_whitespace().map(Secret::from).collect(),
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("others can read the credentials in {shown}"))
                .hint(format!("chmod 600 {shown}")));
        }
    }
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("cannot read the credentials {shown}: {e}")))?;
    // What stands there is a secret: no line of it is shown.
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::new(format!("the credentials {shown} are wrong in line {line}")).hint(
            "for each server a table with its name, in it token = \"…\" or signing_keys = [\"whsec_…\"]",
        )
    })
}
