//! Where requests may go: a corpus of hostile URLs, and what each permission adds.

use crate::client::Peer;
use bytes::Bytes;
use http::HeaderMap;
use rap_http::{
    AddressPolicy, Attempt, GuardedClient,
    client::{Resolve, Resolving},
    policy::Host,
};
use rap_types::HttpUrl;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

const CORPUS: &str = include_str!("../data/ssrf.txt");

struct Case {
    line: usize,
    allowed: bool,
    url: &'static str,
    addresses: Vec<IpAddr>,
}

fn corpus() -> Vec<Case> {
    let lines = CORPUS.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let cases: Vec<Case> = lines
        .map(|(n, line)| {
            let (verdict, rest) = line.split_once(' ').unwrap();
            let (url, addresses) = rest.split_once(" -> ").unwrap_or((rest, ""));
            let addresses =
                addresses.split(", ").filter(|a| !a.is_empty()).map(|a| a.parse().unwrap()).collect();
            assert!(["ok", "no"].contains(&verdict), "line {}", n + 1);
            Case { line: n + 1, allowed: verdict == "ok", url, addresses }
        })
        .collect();
    assert!(cases.len() > 200, "the corpus has shrunk to {}", cases.len());
    cases
}

/// The pure decision: of the URL, and of every address that its name leads to.
fn decide(policy: &AddressPolicy, url: &str, addresses: &[IpAddr]) -> Result<(), String> {
    let url = HttpUrl::new(url).map_err(|e| e.to_string())?;
    let target = policy.check_url(&url).map_err(|e| e.to_string())?;
    if let Host::Address(_) = target.host {
        return Ok(());
    }
    let mut outcome = Err("the name leads nowhere".to_owned());
    for ip in addresses {
        match policy.check_address(*ip, target.port, target.secure) {
            Ok(()) => return Ok(()),
            Err(e) => outcome = Err(e.to_string()),
        }
    }
    outcome
}

#[test]
fn every_url_of_the_corpus_is_judged_as_it_says() {
    let policy = AddressPolicy::public();
    let mut wrong = vec![];
    for case in corpus() {
        let decision = decide(&policy, case.url, &case.addresses);
        if decision.is_ok() != case.allowed {
            wrong.push(format!("line {}: {}: {decision:?}", case.line, case.url));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Answers from the corpus, and notes who was asked for.
struct Answers(HashMap<String, Vec<IpAddr>>, Mutex<Vec<String>>);

impl Resolve for Answers {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        self.1.lock().unwrap().push(name.to_owned());
        let answer = self.0.get(name).cloned().unwrap_or_default();
        Box::pin(async { Ok(answer) })
    }
}

/// The same through the whole client: a refused URL ends as "blocked" before any connection. (That allowed
/// ones connect is for the tests of the client; here it would mean to call the world.)
#[tokio::test]
async fn no_connection_is_made_to_a_refused_target() {
    // With plain http allowed and the scheme changed, so that the build without TLS is no excuse.
    let policy = AddressPolicy::public().allow_plain_http();
    let mut tried = 0;
    for case in corpus().into_iter().filter(|case| !case.allowed) {
        let plain = case.url.replacen("https:", "http:", 1);
        if decide(&policy, &plain, &case.addresses).is_ok() {
            continue; // refused only for want of TLS
        }
        let Ok(url) = HttpUrl::new(plain.as_str()) else { continue }; // no URL to call
        let name = url.parsed().host_str().unwrap().to_owned();
        let answers = Answers(HashMap::from([(name, case.addresses.clone())]), Mutex::default());
        let client = GuardedClient::builder(policy.clone())
            .resolver(Arc::new(answers))
            .connect_timeout(Duration::from_secs(1))
            .build();
        let attempt = client.post_json(&url, Bytes::new(), HeaderMap::new()).await;
        let nowhere = attempt == Attempt::Refused && case.addresses.is_empty();
        assert!(
            matches!(attempt, Attempt::Blocked(_)) || nowhere,
            "line {}: {plain}: {attempt:?}",
            case.line
        );
        tried += 1;
    }
    assert!(tried >= 240, "only {tried} URLs of the corpus went through the client");
}

/// The two places that read a URL agree on its host: what is checked is what is connected to. Loopback
/// written in odd ways, with loopback allowed, reaches the peer on loopback and nobody else.
#[tokio::test]
async fn odd_spellings_of_an_allowed_host_lead_to_that_host() {
    let mut peer = Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    for host in ["127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "127。0。0。1", "127.0.0.1."]
    {
        let url = HttpUrl::new(format!("http://{host}:{}/x", peer.port)).unwrap();
        assert!(client.post_json(&url, Bytes::new(), HeaderMap::new()).await.is_delivered(), "{host}");
        let request = peer.requests.recv().await.unwrap();
        assert!(request.contains(&format!("host: 127.0.0.1:{}\r\n", peer.port)), "{host}: {request}");
    }
}

#[test]
fn each_permission_adds_what_it_says_and_no_more() {
    let public = AddressPolicy::public;
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    let table = [
        (public().allow_loopback(), "http://127.0.0.1:3001/", true),
        (public().allow_loopback(), "https://[::1]:3001/", true),
        (public().allow_loopback(), "http://127.0.0.1:6000/", true), // no port is foreign at home
        (public().allow_loopback(), "http://0.0.0.0:3001/", false),
        (public().allow_loopback(), "http://[::]:3001/", false),
        (public().allow_loopback(), "http://[::ffff:127.0.0.1]/", false),
        (public().allow_loopback(), "http://10.0.0.1/", false),
        (public().allow_loopback(), "http://1.1.1.1/", false),
        (public().allow_loopback(), "http://user@127.0.0.1/", false),
        (public().allow_loopback(), "http://127.0.0.1:0/", false),
        (public().allow_plain_http(), "http://1.1.1.1/", true),
        (public().allow_plain_http(), "http://1.1.1.1:25/", false),
        (public().allow_plain_http(), "http://127.0.0.1/", false),
        (public().allow_plain_http(), "http://192.168.0.1/", false),
        (public().allow(net("10.1.0.0/16")), "http://10.1.2.3:8080/", true),
        (public().allow(net("10.1.0.0/16")), "https://10.1.2.3/", true),
        (public().allow(net("10.1.0.0/16")), "http://10.2.0.1/", false),
        (public().allow(net("10.1.0.0/16")), "http://[::ffff:10.1.2.3]/", false),
        (public().allow(net("10.1.0.0/16")), "http://127.0.0.1/", false),
        (public().allow(net("10.1.0.0/16")), "http://user:x@10.1.2.3/", false),
        (public().allow(net("fd00::/8")), "http://[fd00::1]/", true),
        (public().allow(net("fd00::/8")), "http://[fe80::1]/", false),
        (public().allow(net("127.0.0.1/32")), "http://127.0.0.1/", true),
        (public().allow(net("127.0.0.1/32")), "http://127.0.0.2/", false),
    ];
    for (policy, url, allowed) in table {
        let decision = decide(&policy, url, &[]);
        assert_eq!(decision.is_ok(), allowed, "{url}: {decision:?}");
    }
}

#[test]
fn a_refusal_says_why_and_what_to_do_and_no_secret() {
    let refusal =
        |url: &str| AddressPolicy::public().check_url(&url.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        refusal("https://10.0.0.5/callback/secret?x=secret"),
        "10.0.0.5 is a private address, not a public address; allow its network if the target is meant"
    );
    assert_eq!(
        refusal("http://127.0.0.1/secret"),
        "127.0.0.1 is this machine itself; loopback targets are not allowed here"
    );
    assert_eq!(refusal("http://1.1.1.1/secret"), "1.1.1.1 is a public address; https is needed");
    assert!(!refusal("https://user:secret@example.com/").contains("secret"));
}
