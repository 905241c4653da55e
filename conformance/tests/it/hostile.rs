//! Servers that were not made for the judge, or against it: what they do ends in a report or in a sentence, never in a
//! panic, and never late.

use crate::toy::{Manner, Toy};
use rap_conformance::{Options, judge, trace::Party, verdict::Verdict};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a server does with every connection, after it has read something.
#[derive(Debug, Clone)]
enum Rude {
    /// Writes these bytes and closes.
    Writes(Vec<u8>),
    /// Writes the first, then the second for ever.
    Endless(&'static str, &'static str),
    /// Keeps the connection and says nothing.
    Silent,
}

async fn treat(mut stream: TcpStream, rude: Rude) {
    let mut buffer = [0; 4096];
    let _ = stream.read(&mut buffer).await;
    match rude {
        Rude::Writes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // What is still coming is read, so that the answer is not torn by a reset.
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        }
        Rude::Endless(head, more) => {
            let _ = stream.write_all(head.as_bytes()).await;
            let piece = more.repeat(1 + 16_384 / more.len());
            while stream.write_all(piece.as_bytes()).await.is_ok() {}
        }
        Rude::Silent => std::future::pending().await,
    }
}

/// Starts one, judges it, and returns the report's exit code and the cases that failed, or the sentence.
async fn judged(rude: Rude) -> Result<(u8, Vec<String>), String> {
    judged_only(rude, "").await
}

async fn judged_only(rude: Rude, only: &str) -> Result<(u8, Vec<String>), String> {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", socket.local_addr().expect("an address"));
    let rude = match rude {
        Rude::Writes(bytes) => {
            Rude::Writes(String::from_utf8_lossy(&bytes).replace("BASE", &base).into_bytes())
        }
        other => other,
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(treat(stream, rude.clone()));
        }
    });
    let second = Duration::from_secs(1);
    let options = Options {
        patience: second / 2,
        wait: second / 10,
        budget: 4 * second,
        only: vec![only.to_owned()],
        ..Options::at(base)
    };
    let began = Instant::now();
    let judged = judge(options).await;
    // The budget, and as much again for a machine that is busy.
    assert!(began.elapsed() < 8 * second, "{:?}", began.elapsed());
    let report = judged.map_err(|halt| halt.0)?.report;
    let failed: Vec<_> = report.cases.iter().filter(|c| c.verdict == Verdict::HarnessError).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let wrong = report.cases.iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.id.clone()).collect();
    Ok((report.exit_code(false), wrong))
}

#[tokio::test]
async fn what_is_no_toolset_is_refused_in_a_sentence() {
    let cases: Vec<Rude> = vec![
        Rude::Writes(Vec::new()),
        Rude::Writes(b"\x00\xff\xfe garbage".to_vec()),
        Rude::Writes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        Rude::Writes(b"HTTP/1.1 200".to_vec()),
        Rude::Writes(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{".to_vec()),
        Rude::Writes(
            b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        Rude::Writes(b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Rude::Silent,
        Rude::Endless("", "x"),
        Rude::Endless("HTTP/1.1 200 OK\r\n", "x-header: y\r\n"),
        Rude::Endless("HTTP/1.1 200 OK\r\nx-header: ", "y"),
        Rude::Endless("HTTP/1.1 200 OK\r\n\r\n", "x"),
        Rude::Endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        Rude::Endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for rude in cases {
        let why = judged(rude.clone()).await.expect_err("nothing can be judged");
        assert!(why.starts_with("no toolset: GET http://127.0.0.1:"), "{rude:?}: {why}");
        assert!(why.contains("hint: ") && why.lines().count() == 1, "{rude:?}: {why}");
    }
}

/// Toolsets that are none, or that are made to trap whoever reads them. Nothing that is posted is acted on.
#[tokio::test]
async fn a_toolset_that_is_none_is_a_fault_or_a_sentence() {
    let tool = |schema: &str| {
        let tool = format!(
            r#"{{"name":"t","description":"d","inputSchema":{schema},"annotations":{{"readOnly":true}}}}"#
        );
        format!(r#"{{"name":"n","endpoint":"BASE/rap","tools":[{tool}]}}"#)
    };
    let nested = |times: usize| {
        let open = r#"{"type":"array","minItems":16,"items":"#.repeat(times);
        format!("{open}{{\"type\":\"integer\"}}{}", "}".repeat(times))
    };
    let invalid: Vec<String> = vec![
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "\u{feff}{}".to_owned(),
        "[".repeat(100_000),
        r#"{"name":7,"endpoint":{},"tools":7}"#.to_owned(),
        r#"{"name":"n","endpoint":"BASE/rap","tools":[null,1,"x",{},[]]}"#.to_owned(),
        r#"{"name":"n","endpoint":"http://","tools":[]}"#.to_owned(),
        r#"{"name":"n","endpoint":"http://[::1","tools":[]}"#.to_owned(),
        r#"{"name":"\u0000\u001b[2J","endpoint":"BASE/a b\r\nx: y","tools":[]}"#.to_owned(),
        tool("true"),
        tool(r##"{"$ref":"#"}"##),
        tool(r#"{"type":"object","properties":{"a":{"$ref":"http://127.0.0.1:1/s"}},"required":["a"]}"#),
        tool(
            r#"{"type":"object","properties":{"s":{"type":"string","pattern":"(?=x)\\1"}},"required":["s"]}"#,
        ),
        tool(&format!(r#"{{"type":"object","required":[{}]}}"#, vec!["\"x\""; 5000].join(","))),
    ];
    // Whole and valid, and made to trap whoever makes arguments from it.
    let valid: Vec<String> = vec![
        tool(
            r#"{"type":"object","properties":{"s":{"type":"string","pattern":"(a{1000}){1000}"}},"required":["s"]}"#,
        ),
        tool(r##"{"type":"object","allOf":[{"$ref":"#"}]}"##),
        tool(r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##),
        tool(
            r#"{"type":"object","properties":{"n":{"type":"integer","exclusiveMinimum":9223372036854775807}},"required":["n"]}"#,
        ),
        tool(
            r#"{"type":"object","properties":{"n":{"type":"integer","exclusiveMaximum":-9223372036854775808,"multipleOf":7}},"required":["n"]}"#,
        ),
        tool(
            r#"{"type":"object","properties":{"n":{"type":"integer","minimum":9223372036854775807,"multipleOf":1000}},"required":["n"]}"#,
        ),
        tool(
            r#"{"type":"object","properties":{"s":{"type":"string","minLength":18446744073709551615,"maxLength":0}},"required":["s"]}"#,
        ),
        tool(&format!(r#"{{"type":"object","properties":{{"l":{}}},"required":["l"]}}"#, nested(10))),
    ];
    let answer = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        Rude::Writes(format!("{head}{body}").into_bytes())
    };
    for body in invalid {
        let shown: String = body.chars().take(200).collect();
        let (code, wrong) = judged(answer(&body)).await.unwrap_or_else(|why| panic!("{shown}: {why}"));
        assert_eq!(code, 1, "{shown}");
        assert!(
            wrong.iter().all(|id| id.starts_with("discovery/")) && !wrong.is_empty(),
            "{shown}: {wrong:?}"
        );
    }
    for body in valid {
        let shown: String = body.chars().take(200).collect();
        let why = judged(answer(&body)).await.expect_err(&shown);
        assert!(why.starts_with("the server does not call back: "), "{shown}: {why}");
        assert_eq!(why.lines().count(), 1, "{shown}: {why}");
    }
}

/// What is not wanted cannot make a toolset's faults unseen: nothing is judged, and that is said.
#[tokio::test]
async fn an_invalid_toolset_is_no_reason_to_pass_what_could_not_be_called() {
    let body = r#"{"name":"n","endpoint":"nowhere","tools":[]}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let server = Rude::Writes(format!("{head}{body}").into_bytes());
    let (code, wrong) = judged(server.clone()).await.expect("a report");
    assert_eq!((code, wrong), (1, vec!["discovery/whole".to_owned()]));
    let why = judged_only(server, "transport/").await.expect_err("nothing can be judged");
    assert!(why.contains("no endpoint that can be reached"), "{why}");
}

/// What comes without end is neither kept nor looked at, and that is said.
#[tokio::test]
async fn a_flood_of_callbacks_is_kept_in_part_and_told() {
    let toy = Toy::start(Manner { floods: true, ..Manner::default() }).await;
    let only = vec!["results/error-text-of-unknown-operation".to_owned()];
    let patience = Duration::from_secs(60);
    let judged = judge(Options { only, patience, ..Options::at(toy.base.clone()) }).await.expect("a report");
    let callbacks: Vec<_> = judged.trace.iter().filter(|e| e.from == Party::Server).collect();
    let most = callbacks.iter().map(|e| callbacks.iter().filter(|o| o.url == e.url).count()).max();
    assert!(most.is_some_and(|most| most <= 200), "{most:?}");
    assert!(
        judged.report.notes.iter().any(|note| note.contains("not looked at")),
        "{:?}",
        judged.report.notes
    );
}
