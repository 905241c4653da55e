//! A dry run: every request is told, and none but the fetch of the toolset is sent.

use rap_conformance::{Options, run, trace::Party};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_dry_run_tells_requests_and_sends_none() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", socket.local_addr().expect("an address"));
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, url) = (requests.clone(), base.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.expect("a connection");
            count.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let tool = r#"{"name":"look","description":"d","inputSchema":{"type":"object"},"annotations":{"readOnly":true}}"#;
            let body = format!(r#"{{"name":"n","endpoint":"{url}/rap","tools":[{tool}]}}"#);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let found = run::find(Options::at(base.clone())).await.expect("a toolset");
    let told = found.rehearse().await.expect("a rehearsal");
    assert_eq!(requests.load(Ordering::SeqCst), 1, "only the toolset was fetched");
    assert!(told.iter().all(|e| e.from == Party::Runtime));
    let calls = |operation: &str| {
        told.iter().filter(|e| e.body.json().is_ok_and(|b| b["operation"] == operation)).count()
    };
    assert!(calls("look") > 0, "the tool that may be called is");
    assert!(told.iter().any(|e| e.url == format!("{base}/close_thread")), "notices are told");
}
