//! A database that outlives its process: what was owed is done by the next one (P6).

use crate::world::{World, a_call_of, files, impatient, tools, within};
use rap_runtime::{
    AgentHost, NewSession, Runtime,
    core::{Store, StoreError, Surface},
    sqlite::SqliteStore,
};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

/// Opens a database as soon as the last owner has let go of it.
async fn open(path: &Path) -> Arc<dyn Store> {
    within("the database is free", async {
        loop {
            match SqliteStore::open(path).await {
                Ok(store) => return Arc::new(store) as Arc<dyn Store>,
                Err(StoreError::Owned { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

/// Trap: commit, crash, never sent. A call that was committed and not sent is sent by the next process (P5, P6).
#[tokio::test]
async fn committed_and_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let (base, bench) = tools().await;
    let keys = files(&folder).keys().unwrap();
    let session = {
        let store = open(&path).await;
        let runtime = Runtime::builder()
            .shared_store(store.clone())
            .toolset(base.clone())
            .public_url("http://127.0.0.1:1".parse().unwrap())
            .build()
            .await
            .unwrap();
        let session = runtime.create(NewSession::new()).await.unwrap().session;
        a_call_of(&*store, &session, "quick").await;
        session
    };
    assert_eq!(bench.quick.load(Ordering::SeqCst), 0);
    let world = World::on(open(&path).await, keys, "127.0.0.1:0", |b| b.toolset(base)).await;
    let mut story = world.story(&session).await;
    story.text("quick: quick").await;
    story.resting(&session).await;
    assert_eq!(bench.quick.load(Ordering::SeqCst), 1);
    world.stop().await;
}

/// A runtime that is gone while a tool works: the result finds it again at the same address, and the story goes on.
/// A subscription goes on as well.
#[tokio::test]
async fn gone_while_a_tool_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let (base, bench) = tools().await;
    let secrets = files(&folder);
    let configure = |b: rap_runtime::RuntimeBuilder| b.toolset(base.clone()).rules(impatient());
    let world = World::on(open(&path).await, secrets.keys().unwrap(), "127.0.0.1:0", configure).await;
    let address = world.base.parsed().authority().to_owned();
    let (session, mut story) = world.told(r#"call ticks {"count":1}"#).await;
    story.text("ticks: ticking").await;
    world.runtime.send(&session, "second", "call slow").await.unwrap();
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    within("slow begins", async {
        while bench.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(story);
    world.stop().await;
    bench.gate.0.add_permits(2);

    let world = World::on(open(&path).await, secrets.keys().unwrap(), &address, configure).await;
    let mut story = world.story(&session).await;
    story.text("slow: slow at last").await;
    story.text("tick 1, the last").await;
    world.at_rest(&session, &mut story).await;
    let results = story.count(|what| matches!(what, Surface::Result { name, .. } if name == "slow"));
    assert_eq!(results, 1);
    assert!(world.runtime.store().dead_letters().await.unwrap().is_empty());
    world.stop().await;
}

/// The secrets beside a database are made once, for their owner alone, and refused when others may read them.
#[cfg(unix)]
#[test]
fn secrets_beside_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secrets = files(&folder);
    let (keys, token) = (secrets.keys().unwrap(), secrets.token().unwrap());
    assert_eq!(secrets.keys().unwrap().ids(), keys.ids());
    assert_eq!(secrets.token().unwrap(), token);
    assert!(token.expose().len() >= 43);
    for path in [secrets.key_path(), secrets.token_path()] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert!(secrets.keys().unwrap_err().to_string().contains("chmod 600"));
    assert!(secrets.token().unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(secrets.key_path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(secrets.token_path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(secrets.token_path(), "sixteen letters ä, and more\n").unwrap();
    let error = secrets.token().unwrap_err().to_string();
    assert!(error.contains("signs of ASCII") && !error.contains("sixteen"), "{error}");
    std::fs::write(secrets.key_path(), "").unwrap();
    assert!(secrets.keys().is_err(), "an empty key file is damage, not a fresh start");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft stays behind");
}

/// A runtime whose slices run in other processes summarises histories itself: without a model it is refused.
#[tokio::test]
async fn slice_processes_need_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("agent.db")).await.unwrap());
    let builder = || {
        let slices = rap_runtime::SliceProcesses::new(store.clone(), || std::process::Command::new("false"));
        let address = "http://127.0.0.1:1".parse().unwrap();
        Runtime::builder().shared_store(store.clone()).public_url(address).slice_processes(slices)
    };
    let error = builder().build().await.unwrap_err();
    assert!(error.to_string().contains("no model"), "{error}");
    builder().model(rap_runtime::ScriptedModel::demo()).build().await.unwrap();
}
