//! A whole run against a server: find it, see that it can call back, run the cases, run the rules over what was
//! recorded, fold it all into a report.

mod preflight;

use crate::{
    bench::{Bench, Place, UNKNOWN, World, beside},
    case::{Case, Tier},
    cases,
    connect::{Trust, authority, base_url},
    credentials::{Credentials, Headers, Key, Secret},
    http::{Http, Request},
    listen::Listener,
    plan::{self, Plan},
    rendezvous::Rendezvous,
    report::{CaseReport, Report, Target, binds_server, fold},
    rules,
    runner::{self, Pace, Progress, Show},
    spawn::Spawned,
    toolset::Toolset,
    trace::{Exchange, Recorder},
    verdict::Verdict,
};
use bytes::Bytes;
use preflight::{preflight, toolset_is_invalid, without_tries};
use rap_spec::Role;
use serde_json::{Map, Value, json};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What to judge, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base URL of a running server; with `spawn`, only its path counts.
    pub url: Option<String>,
    /// A command that starts the server; `{port}`, `{data}` and `{token}` in it are filled in.
    pub spawn: Option<String>,
    /// Where to listen for callbacks.
    pub listen: String,
    /// The URL under which the server reaches that, where it is not the address.
    pub public_url: Option<String>,
    /// Tools that may be called whatever they are annotated with.
    pub allow: Vec<String>,
    /// Arguments for tools by name; such a tool may be called.
    pub arguments: Map<String, Value>,
    /// A bearer token for every request to the server. Never in reports.
    pub bearer: Option<Secret>,
    /// A secret, `whsec_…`, by which every request to the server is signed in the Standard Webhooks form. Never in
    /// reports.
    pub webhook_secret: Option<Secret>,
    /// Further headers for every request to the server, names in lower case.
    pub headers: Headers,
    /// How long an owed message may be missing after a fence.
    pub wait: Duration,
    /// How long an answer may take.
    pub patience: Duration,
    /// How many cases at a time.
    pub jobs: usize,
    /// How long the whole run may take, the start of the server included. What was not judged by then is
    /// inconclusive, and says so.
    pub budget: Duration,
    /// Who is believed about an https server.
    pub trust: Trust,
    /// Only cases whose id begins so, or that hold such an obligation; all where it is empty.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
    /// The tiers that are run.
    pub deepest: Tier,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            spawn: None,
            listen: "127.0.0.1:0".to_owned(),
            public_url: None,
            allow: Vec::new(),
            arguments: Map::new(),
            bearer: None,
            webhook_secret: None,
            headers: Vec::new(),
            wait: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            jobs: 24,
            budget: Duration::from_secs(55),
            trust: Trust::default(),
            only: Vec::new(),
            skip: Vec::new(),
            deepest: Tier::Fixture,
        }
    }
}

impl Options {
    /// For a server that runs at a URL.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// For a server that a command starts.
    pub fn spawn(command: impl Into<String>) -> Self {
        Self { spawn: Some(command.into()), ..Self::default() }
    }

    /// Whether a case is wanted.
    pub fn wants(&self, id: &str, obligations: &[&str]) -> bool {
        let named = |words: &[String]| {
            words
                .iter()
                .any(|w| id.starts_with(w.as_str()) || obligations.iter().any(|o| o.starts_with(w.as_str())))
        };
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The report.
    pub report: Report,
    /// Everything that went over the wire.
    pub trace: Vec<Exchange>,
}

/// Why nothing could be judged, in a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Halt(pub String);

/// A server that was found, before anything but its toolset was asked for.
#[derive(Debug)]
pub struct Found {
    options: Options,
    began: Instant,
    place: Place,
    /// The toolset.
    pub toolset: Toolset,
    recorder: Recorder,
    http: Http,
    credentials: Credentials,
    spawned: Option<Spawned>,
    /// What would be sent.
    pub plan: Plan,
}

/// What to do about a server that takes nothing from strangers.
const WANTS_AUTHENTICATION: &str = "the server wants authentication: --bearer or RAP_CONFORMANCE_BEARER, or --webhook-secret-env where requests are signed";

/// How long a server that was started may take from its port to its toolset.
const EARLY: Duration = Duration::from_secs(3);

/// Starts or finds the server and fetches its toolset.
///
/// # Errors
/// There is no server, or it serves no toolset.
pub async fn find(options: Options) -> Result<Found, Halt> {
    let began = Instant::now();
    let recorder = Recorder::default();
    let http = Http::new(recorder.clone(), options.patience).trusting(options.trust.clone());
    let spawned = match &options.spawn {
        Some(command) => Some(Spawned::start(command).await.map_err(Halt)?),
        None => None,
    };
    let base = match (&spawned, &options.url) {
        (Some(spawned), url) => {
            let path = url.as_deref().map(crate::http::path_and_query).unwrap_or_default();
            format!("http://127.0.0.1:{}{path}", spawned.port)
        }
        (None, Some(url)) => url.clone(),
        (None, None) => return Err(Halt("there is nothing to judge; hint: --url or --spawn".to_owned())),
    };
    let base = base.trim_end_matches('/').to_owned();
    base_url(&base).map_err(Halt)?;
    let made = |of: fn(&Spawned) -> Option<Secret>| spawned.as_ref().and_then(of);
    let key = made(|s| s.secret.clone()).or_else(|| options.webhook_secret.clone());
    let credentials = Credentials {
        headers: options.headers.clone(),
        bearer: made(|s| s.token.clone()).or_else(|| options.bearer.clone()),
        key: key.as_ref().map(Key::parse).transpose().map_err(Halt)?,
    };

    let url = format!("{base}/.well-known/rap-toolset");
    let request = Request {
        case: "preflight".to_owned(),
        method: "GET".to_owned(),
        url: url.clone(),
        headers: credentials.headers(b""),
        body: Bytes::new(),
    };
    let mut sent = http.send(request.clone()).await;
    // A server that was started may say its port too early; a case of its own finds that out.
    let patient = Instant::now() + EARLY;
    while spawned.is_some() && sent.status().is_none_or(|status| status >= 500) && Instant::now() < patient {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sent = http.send(request.clone()).await;
    }
    let words = sent.words();
    let answer = match sent.answer {
        Ok(answer) if answer.status == 200 => answer,
        _ => {
            let hint = match sent.answer {
                Ok(answer) if matches!(answer.status, 401 | 403) => WANTS_AUTHENTICATION,
                _ => "is this the base URL, and is the server running?",
            };
            return Err(Halt(format!("no toolset: GET {url} {words}; hint: {hint}")));
        }
    };
    let toolset = Toolset { raw: answer.body.json().unwrap_or_default() };
    let endpoint = toolset.endpoint().unwrap_or_default().to_owned();
    let plan = plan::plan(&toolset, &options);
    Ok(Found {
        options,
        began,
        place: Place { base, endpoint },
        toolset,
        recorder,
        http,
        credentials,
        spawned,
        plan,
    })
}

impl Found {
    /// Whether server and endpoint are on this machine.
    pub fn is_local(&self) -> bool {
        let local = |url: &str| {
            authority(url).is_ok_and(|at| {
                at.host == "localhost" || at.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            })
        };
        local(&self.place.base) && (self.place.endpoint.is_empty() || local(&self.place.endpoint))
    }

    /// The base URL.
    pub fn base(&self) -> &str {
        &self.place.base
    }

    /// The cases that would be tried.
    pub fn cases(&self) -> Vec<&'static Case> {
        let deepest = match (self.plan.fixture, self.plan.callable.is_empty()) {
            (true, _) => Tier::Fixture,
            (false, false) => Tier::Tools,
            (false, true) => Tier::Unknown,
        };
        let deepest = deepest.min(self.options.deepest);
        cases::all()
            .into_iter()
            .filter(|c| c.tier <= deepest && self.options.wants(c.id, c.obligations))
            .collect()
    }

    /// What [`Found::judge`] would send, with nothing sent: each case as far as it goes without an outcome. What
    /// it would send after that follows from what the server says, and cannot be told before. Cases that kill
    /// the server are left out.
    ///
    /// # Errors
    /// The listener cannot be bound.
    pub async fn rehearse(mut self) -> Result<Vec<Exchange>, Halt> {
        let cases = self.cases();
        let pace = Pace::within(cases.len(), Instant::now(), self.options.budget, self.options.wait);
        self.recorder = Recorder::default();
        self.http = Http::new(self.recorder.clone(), self.options.patience).dry();
        self.options.wait = Duration::from_millis(1);
        // The server, where it was started, lives until the end, out of the cases' reach.
        let _spawned = self.spawned.take();
        let recorder = self.recorder.clone();
        let world = Arc::new(self.world().await?);
        let show: Show = Arc::new(|_| {});
        runner::run(&world, &cases, pace, &show).await;
        let mut requests = recorder.all();
        world.credentials.clean_trace(&mut requests);
        Ok(requests)
    }

    /// What the cases work with.
    async fn world(self) -> Result<World, Halt> {
        let listener =
            Listener::bind(&self.options.listen, self.options.public_url.as_deref(), self.recorder.clone())
                .await
                .map_err(|e| {
                    Halt(format!("{} cannot be listened on: {e}; hint: --listen", self.options.listen))
                })?;
        Ok(World {
            place: Mutex::new(self.place),
            fence: (UNKNOWN.to_owned(), json!({})),
            fixture: self.plan.fixture,
            callable: self.plan.callable,
            fixed: self.plan.fixed,
            http: self.http,
            listener,
            recorder: self.recorder,
            credentials: self.credentials,
            wait: self.options.wait,
            meeting: Rendezvous::default(),
            restartable: self.spawned.as_ref().is_some_and(Spawned::keeps_data),
            spawned: self.spawned.map(tokio::sync::Mutex::new),
            toolset: self.toolset,
        })
    }

    /// Judges it.
    ///
    /// # Errors
    /// The listener cannot be bound, or the server cannot call back.
    pub async fn judge(self, show: Show) -> Result<Judged, Halt> {
        let credentials = self.credentials.clone();
        let show = discreet(show, credentials.clone());
        let (began, fixture, wait) = (self.began, self.plan.fixture, self.options.wait);
        let pace = Pace::within(self.options.jobs, began, self.options.budget, self.options.wait);
        let (options, place, recorder) = (self.options.clone(), self.place.clone(), self.recorder.clone());
        let mut notes = self.plan.notes.clone();
        let world = self.world().await?;
        let mut deepest = options.deepest;
        let (world, silent) = match authority(&place.endpoint) {
            _ if deepest == Tier::Look => (Arc::new(world), None),
            Ok(_) => preflight(world, fixture, pace).await?,
            Err(why) => {
                (Arc::new(world), Some(format!("the toolset has no endpoint that can be reached: {why}")))
            }
        };
        let told = |note: &String| show(Progress::Note(note.clone()));
        let was_silent = silent.is_some();
        if let Some(why) = silent {
            // A toolset that is invalid is a fault of its own; one that is valid leaves nothing to be judged.
            if !toolset_is_invalid(&world, &options, pace).await {
                if world.callable.is_empty() {
                    notes.iter().for_each(told);
                }
                return Err(Halt(why));
            }
            deepest = Tier::Look;
            notes.push(format!("only the toolset was judged: {why}"));
        }
        notes.iter().for_each(told);
        let name = world.toolset.name().to_owned();
        let chosen: Vec<&'static Case> = cases::all()
            .into_iter()
            .filter(|c| c.tier <= deepest && options.wants(c.id, c.obligations))
            .collect();
        let mut reports = runner::run(&world, &chosen, pace, &show).await;
        if !was_silent {
            settled(&world, pace.end).await;
        }
        let turned_away = world.listener.turned_away();
        if turned_away > 0 {
            notes.push(format!(
                "the server sent more than can be kept: {turned_away} messages were answered 410 and not looked at"
            ));
        }
        let ended_us = recorder.now_us();
        let mut trace = recorder.all();
        if !fixture {
            farewell(&world, &trace).await;
        }
        let all_rules = rules::all();
        let chosen: Vec<&rules::Rule> =
            all_rules.into_iter().filter(|r| options.wants(r.id, r.obligations)).collect();
        // That nothing came of these calls is why there were no others; whose fault it is, is not known.
        let judged = if was_silent { without_tries(&trace) } else { trace.clone() };
        for mut report in rules::judge(&judged, &chosen, Some(Role::Server)) {
            spare_young(&mut report, &trace, ended_us, wait);
            show(Progress::Done(Box::new(report.clone())));
            reports.push(report);
        }
        let target = Target { role: "server".to_owned(), url: place.base, name };
        credentials.clean_trace(&mut trace);
        let mut report = fold(target, reports, &trace, binds_server);
        report.notes = notes;
        credentials.clean_report(&mut report);
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Judged { report, trace })
    }
}

/// How long a server may take for all farewells.
const FAREWELL: Duration = Duration::from_secs(2);

/// Cancels what is still open at a server that goes on working after this: questions that nobody will answer,
/// subscriptions whose events would go to a listener that is no more.
async fn farewell(world: &Arc<World>, trace: &[Exchange]) {
    let open: Vec<Value> = rules::View::of(trace).open_calls().collect();
    let bench = Bench::new(world.clone(), "farewell");
    let cancel = |body: Value| {
        let bench = bench.clone();
        async move { bench.notice("cancel_tool_call", &body).await }
    };
    let _ = tokio::time::timeout(FAREWELL, beside(open.into_iter().map(cancel).collect())).await;
}

/// The same show, of which secrets are kept.
fn discreet(show: Show, credentials: Credentials) -> Show {
    Arc::new(move |progress| match progress {
        Progress::Done(mut case) => {
            credentials.clean_case(&mut case);
            show(Progress::Done(case));
        }
        other => show(other),
    })
}

/// Where a run was cut off, what was called a moment before that is not owed yet.
fn spare_young(report: &mut CaseReport, trace: &[Exchange], ended_us: u64, wait: Duration) {
    if report.id != rules::EVERY_CALL_ENDS || report.findings.is_empty() {
        return;
    }
    let young = |n: &u64| {
        let called = trace.iter().find(|e| e.n == *n).map_or(0, |e| e.at_us);
        u128::from(ended_us.saturating_sub(called)) < wait.as_micros()
    };
    report.findings.retain(|finding| !finding.exchanges.iter().any(young));
    if report.findings.is_empty() {
        report.verdict = Verdict::Inconclusive;
        report.reason =
            Some("the run ended while calls were on their way; hint: --budget SECONDS".to_owned());
    }
}

/// Waits until nothing is owed any more: a fence, then for as long as an owed message may be missing.
async fn settled(world: &Arc<World>, end: Instant) {
    let owing = || {
        let rules: Vec<&rules::Rule> =
            rules::all().into_iter().filter(|r| r.id == rules::EVERY_CALL_ENDS).collect();
        let reports = rules::judge(&world.recorder.all(), &rules, Some(Role::Server));
        reports.iter().any(|report| !report.findings.is_empty())
    };
    if !owing() || Instant::now() >= end {
        return;
    }
    Bench::new(world.clone(), "settled").fence().await;
    let until = end.min(Instant::now() + world.wait);
    let mut looked_at = 0;
    while Instant::now() < until {
        // Nothing has come, so nothing has changed.
        if looked_at != world.recorder.len() {
            looked_at = world.recorder.len();
            if !owing() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Finds and judges a server.
///
/// # Errors
/// Why nothing could be judged.
pub async fn judge(options: Options) -> Result<Judged, Halt> {
    find(options).await?.judge(Arc::new(|_| {})).await
}

/// For a test of one's own: judges the server at a URL and says what is wrong with it.
///
/// # Errors
/// Each fault on a line, or why nothing could be judged.
pub async fn check(url: &str) -> Result<Report, String> {
    let report = judge(Options::at(url)).await.map_err(|halt| halt.0)?.report;
    if report.exit_code(false) == 0 {
        return Ok(report);
    }
    let lines: Vec<String> = report
        .cases
        .iter()
        .filter(|case| case.verdict.is_fault())
        .flat_map(|case| {
            case.findings.iter().map(|f| format!("{} ({}): {}", f.obligation, case.id, f.sentence))
        })
        .collect();
    Err(lines.join("\n"))
}
