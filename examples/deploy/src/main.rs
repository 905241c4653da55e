//! A tool server that changes something: it shows what it is about to do, asks a person, does it, and shows
//! the difference. What it deploys are lines of a file, `service = version`.

use rap_server::{Call, StartError, State, ToolError, ToolOutput, ToolServer, tool};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The file of services; one deployment writes at a time.
struct Fleet {
    file: PathBuf,
    writing: Mutex<()>,
}

/// The services and their versions.
#[tool(read_only)]
async fn list_services(#[cx] fleet: State<Fleet>) -> Result<String, ToolError> {
    read(&fleet.file)
}

/// Deploys a version of a service. Asks the user first.
#[tool(destructive, display = "`Deploy ${args.service} ${args.version}`")]
async fn deploy(
    #[cx] call: Call,
    #[cx] fleet: State<Fleet>,
    /// The service, as list_services names it
    service: String,
    /// The version, e.g. 1.4.2
    version: String,
) -> Result<ToolOutput, ToolError> {
    let version = version.trim();
    if version.is_empty() || !version.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(ToolError::new("a version is letters, digits and . _ -, e.g. 1.4.2"));
    }
    let old = version_of(&read(&fleet.file)?, &service)?;
    call.view("deployment", json!({"service": service, "from": old, "to": version, "state": "asking"}))?;
    let pick =
        call.choose(format!("Deploy {service} {version} (now {old})?"), ["Deploy", "Leave it"], 1).await?;
    if pick.index != 0 {
        call.view("deployment", json!({}))?;
        return Err(ToolError::declined("the user declined; nothing was changed"));
    }
    let patch = {
        let _one = fleet.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read(&fleet.file)?;
        let (after, patch) = change(&before, &service, version)?;
        write(&fleet.file, &after)?;
        patch
    };
    call.view("deployment", json!({"service": service, "from": old, "to": version, "state": "done"}))?;
    let name = fleet.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ToolOutput::text(format!("deployed {service} {version}, it was {old}")).display_diff(name, patch))
}

fn read(file: &Path) -> Result<String, ToolError> {
    fs::read_to_string(file).map_err(|e| ToolError::new("the list of services cannot be read").caused_by(e))
}

/// Whole or not at all: beside it first, then in its place.
fn write(file: &Path, text: &str) -> Result<(), ToolError> {
    let beside = file.with_extension("new");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, file)).map_err(|e| {
        ToolError::new("the list of services cannot be written; nothing was changed").caused_by(e)
    })
}

fn parse(line: &str) -> Option<(&str, &str)> {
    line.split_once('=').map(|(service, version)| (service.trim(), version.trim()))
}

fn version_of(text: &str, service: &str) -> Result<String, ToolError> {
    let found = text.lines().filter_map(parse).find(|(name, _)| *name == service);
    found
        .map(|(_, version)| version.to_owned())
        .ok_or_else(|| ToolError::new(format!("there is no service {service:?}; ask list_services")))
}

/// The text with the new version, and the unified diff of it.
fn change(text: &str, service: &str, version: &str) -> Result<(String, String), ToolError> {
    version_of(text, service)?;
    let (mut after, mut patch) = (String::new(), String::new());
    for (number, line) in text.lines().enumerate() {
        match parse(line) {
            Some((name, old)) if name == service => {
                let new = format!("{name} = {version}");
                patch.push_str(&format!("@@ -{0} +{0} @@\n-{name} = {old}\n+{new}\n", number + 1));
                after.push_str(&new);
            }
            _ => after.push_str(line),
        }
        after.push('\n');
    }
    Ok((after, patch))
}

fn server(file: PathBuf) -> ToolServer {
    ToolServer::new("deploy")
        .description("Deploys services.")
        .state(Fleet { file, writing: Mutex::new(()) })
        .tool(list_services)
        .tool(deploy)
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let file = std::env::var_os("SERVICES").unwrap_or_else(|| "services.txt".into());
    server(file.into()).serve_from_env("127.0.0.1:3002").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_server::testing::TestServer;

    fn started() -> (tempfile::TempDir, PathBuf, TestServer) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.txt");
        fs::write(&file, "web = 1.0\nmail = 2.0\n").unwrap();
        (folder, file.clone(), TestServer::new(server(file)))
    }

    /// Shown, asked, done, and shown as a diff whose last segment is text.
    #[tokio::test]
    async fn deploys() {
        let (_folder, file, server) = started();
        let mut call = server.start("deploy", json!({"service": "mail", "version": "2.1"})).await;
        assert_eq!(call.view().await.content["state"], "asking");
        let question = call.question().await;
        assert_eq!(question.choice.prompt, "Deploy mail 2.1 (now 2.0)?");
        assert_eq!(fs::read_to_string(&file).unwrap(), "web = 1.0\nmail = 2.0\n");
        question.pick(0).await;
        let result = call.result().await;
        assert_eq!(result.text(), "deployed mail 2.1, it was 2.0");
        let segments = serde_json::to_value(&result.0.display_as).unwrap();
        assert_eq!(segments[0]["content"]["patch"], "@@ -2 +2 @@\n-mail = 2.0\n+mail = 2.1\n");
        assert_eq!(segments[1]["type"], "text");
        assert_eq!(fs::read_to_string(&file).unwrap(), "web = 1.0\nmail = 2.1\n");
        assert_eq!(server.call("list_services", json!({})).await.text(), "web = 1.0\nmail = 2.1\n");
    }

    /// Declined, unknown, unreadable: an error result, nothing changed, no path in it.
    #[tokio::test]
    async fn does_not() {
        let (folder, file, server) = started();
        let mut call = server.start("deploy", json!({"service": "web", "version": "9"})).await;
        call.question().await.pick(1).await;
        assert_eq!(call.result().await.text(), "Error: the user declined; nothing was changed");
        for (service, version) in [("nobody", "1"), ("web", ""), ("web", "1\nmail = 0"), ("../web", "1")] {
            assert!(server.call("deploy", json!({"service": service, "version": version})).await.is_error());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "web = 1.0\nmail = 2.0\n");
        fs::remove_file(&file).unwrap();
        let text = server.call("list_services", json!({})).await.text();
        assert_eq!(text, "Error: the list of services cannot be read");
        assert!(!text.contains(&folder.path().display().to_string()));
    }
}
