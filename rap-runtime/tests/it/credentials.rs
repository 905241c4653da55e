//! Servers that want to know who calls, and secrets that stay where they belong.

use crate::{
    peer::{Peer, answer, toolset},
    world::{World, within},
};
use rap_http::{Auth, webhooks::Keys};
use rap_runtime::{AgentHost, MemoryStore, Runtime, Secret, ServerConfig, ToolsetProblemKind};
use rap_server::{ToolServer, tool};
use rap_types::HttpUrl;

const TOKEN: &str = "a-token-that-nobody-may-see";
const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Answers at once.
#[tool(read_only)]
async fn secret() -> &'static str {
    "opened"
}

async fn serve(server: ToolServer) -> HttpUrl {
    let bound = server.tool(secret).bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", bound.local_addr()).parse().unwrap();
    tokio::spawn(bound.run_until(std::future::pending()));
    base
}

/// AUT-01: a server that wants a bearer token, or signed requests, gets them with each request; without, it turns us away,
/// and the person is told what to do.
#[tokio::test]
async fn servers_that_demand_them() {
    let key = Secret::from(KEY);
    let keys = Keys::new([&key]).unwrap();
    let bearer = serve(ToolServer::new("bearer").bearer_token(TOKEN)).await;
    let signed = serve(ToolServer::new("signed").auth(Auth::Signed(keys))).await;
    let known: [(ServerConfig, &HttpUrl); 2] = [
        (ServerConfig::new(bearer.clone()).bearer(TOKEN), &bearer),
        (ServerConfig::new(signed.clone()).signed([&key]).unwrap(), &signed),
    ];
    for (config, base) in known {
        let world = World::new(|b| b.server(config)).await;
        let (session, mut story) = world.told("call secret").await;
        story.text("secret: opened").await;
        story.resting(&session).await;
        assert!(!format!("{:?}", world.runtime).contains(TOKEN));
        let stranger = World::new(|b| b.toolset(base.clone())).await;
        match stranger.runtime.create(rap_runtime::NewSession::new()).await {
            Err(error) => assert_eq!(error.problems()[0].kind, ToolsetProblemKind::Unauthorized, "{error}"),
            Ok(opened) => {
                // Discovery is open where requests are signed; calls are not.
                let mut story = stranger.story(&opened.session).await;
                stranger.runtime.send(&opened.session, "1", "call secret").await.unwrap();
                let told = story.text("turned us away (it answered 401)").await;
                assert!(told.contains("credentials are missing or wrong"), "{told}");
            }
        }
    }
}

/// Each server's credentials go to its own origin and to no other: not to an endpoint elsewhere, not to another server.
/// Notices and questions carry them too (AUT-01).
#[tokio::test]
async fn to_their_own_origin_alone() {
    let mut peer = Peer::start("mine", &["mine"]).await;
    let mut other = Peer::start("other", &["other"]).await;
    let mut away = Peer::start("away", &[]).await;
    peer.offers(toolset("mine", &format!("http://{}/invoke", peer.address), &["mine"]));
    other.offers(toolset("other", &format!("http://{}/invoke", away.address), &["other"]));
    let (mine, elsewhere) = (
        ServerConfig::new(peer.base.clone()).bearer(TOKEN),
        ServerConfig::new(other.base.clone()).bearer("another"),
    );
    let world = World::new(|b| b.server(mine).server(elsewhere)).await;
    let (session, mut story) = world.told("call mine and other").await;
    let came = peer.next_at("/invoke").await;
    assert_eq!(came.headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(answer(&came.body, "yes").await, 200);
    let came = away.next_at("/invoke").await;
    assert!(!came.headers.contains_key("authorization"), "an endpoint elsewhere learns nothing");
    assert_eq!(answer(&came.body, "yes").await, 200);
    story.text("mine: yes").await;
    story.resting(&session).await;
    world.runtime.close(&session).await.unwrap();
    assert_eq!(peer.next_at("/close_thread").await.headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(other.next_at("/close_thread").await.headers["authorization"], "Bearer another");
    // Nothing of it is in the store.
    let store = world.runtime.store();
    let kept = within("the session", store.session(&session)).await.unwrap().unwrap();
    let kept = serde_json::to_string(&kept.toolbox).unwrap();
    assert!(!kept.contains(TOKEN) && !kept.contains("another"), "{kept}");
    world.stop().await;
}

/// What cannot be told apart, or sent, is refused when the runtime is built, without a word of the secrets.
#[tokio::test]
async fn told_apart() {
    let base: HttpUrl = "http://127.0.0.1:1/one".parse().unwrap();
    let same: HttpUrl = "http://127.0.0.1:1/two".parse().unwrap();
    for (second, says) in [
        (ServerConfig::new(same.clone()).bearer("b"), "can have credentials only once"),
        (ServerConfig::new(same).named("x"), "two servers have the name \"x\""),
    ] {
        let built = Runtime::builder()
            .store(MemoryStore::new())
            .public_url("http://127.0.0.1:2".parse().unwrap())
            .server(ServerConfig::new(base.clone()).named("x").bearer(TOKEN))
            .server(second)
            .build()
            .await;
        let error = built.err().unwrap().to_string();
        assert!(error.contains(says) && !error.contains(TOKEN), "{error}");
    }
    for token in ["hunter2\n", " hunter2", "hunter2ä"] {
        let built = Runtime::builder()
            .store(MemoryStore::new())
            .public_url("http://127.0.0.1:2".parse().unwrap())
            .server(ServerConfig::new(base.clone()).bearer(token))
            .build()
            .await;
        let error = built.err().unwrap().to_string();
        assert!(error.contains("the server http://127.0.0.1:1/one: the bearer token"), "{error}");
        assert!(!error.contains("hunter"), "{error}");
    }
    let short = ServerConfig::new(base).signed([&Secret::from("whsec_c2hvcnQ=")]);
    assert!(short.unwrap_err().to_string().contains("take 32 random ones"));
}
