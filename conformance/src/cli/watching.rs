//! `rap-conformance watch`: stands between a runtime and a server until it is interrupted, and tells violations
//! as they are seen.

use super::{Output, base_url, finish, ready, stop, unnamed};
use crate::{
    discreet::discreet,
    verdict::Verdict,
    watch::{Proxy, Watch},
    writers,
};
use clap::Args;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

#[derive(Debug, Args)]
pub(super) struct Watching {
    /// Base URL of the server
    #[arg(long, value_name = "URL", value_parser = base_url)]
    to: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3999")]
    listen: String,
    /// URL under which runtime and server reach that address
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// PEM file with further authorities that are believed about an https server
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Keep everything that passes in this file, for `rap-conformance trace`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How much of what passes is kept, in MiB; when there is more, what is over is forgotten
    #[arg(long, value_name = "MIB", default_value_t = crate::watch::KEPT / 1024 / 1024)]
    keep: usize,
    #[command(flatten)]
    output: Output,
}

/// How long the rules wait for more traffic before they run: they look at all of it.
const BREATH: Duration = Duration::from_millis(200);

/// How often notes are told where nothing else is.
const QUIET: Duration = Duration::from_secs(2);

pub(super) async fn watch(options: Watching) -> ExitCode {
    if let Err(why) = ready(&options.output, options.trace.as_ref()) {
        return stop(2, &why);
    }
    if let Err(why) = unnamed(&[("--to", Some(&options.to)), ("--public-url", options.public_url.as_ref())]) {
        return stop(2, &why);
    }
    let changed = Arc::new(Notify::new());
    let bell = changed.clone();
    let trust = match super::trust(options.ca.as_deref()) {
        Ok(trust) => trust,
        Err(why) => return stop(2, &why),
    };
    let watch = Watch {
        trust,
        keep: Some(options.keep.saturating_mul(1024 * 1024)),
        to: options.to.clone(),
        listen: options.listen.clone(),
        public_url: options.public_url.clone(),
    };
    // From here on an interruption is waited for, and nothing that comes later can miss it.
    let end = super::interrupted();
    tokio::pin!(end);
    let proxy = match Proxy::start(watch, move |_| bell.notify_one()).await {
        Ok(proxy) => proxy,
        Err(why) => return stop(2, &why),
    };
    anstream::eprintln!(
        "watching {}; give the runtime {} in its place, Ctrl-C ends\n\
         only `endpoint`, `callback_url` and `response_url` are changed, so that they lead through here; \
         signatures over bodies with these will not match",
        options.to,
        proxy.base
    );
    let mut told = BTreeSet::new();
    let mut noted = 0;
    let mut took = Duration::ZERO;
    loop {
        let more = tokio::select! {
            () = changed.notified() => true,
            // Of what is not kept nobody rings.
            () = tokio::time::sleep(QUIET) => false,
            () = &mut end => break,
        };
        for note in proxy.notes().iter().skip(noted) {
            anstream::eprintln!("note          {}", writers::plain(note));
            noted += 1;
        }
        if !more {
            continue;
        }
        // The longer a trace is, the longer it takes to judge: that never takes more than a tenth of the time.
        tokio::select! {
            () = tokio::time::sleep(BREATH.max(took * 10)) => {}
            () = &mut end => break,
        }
        let began = Instant::now();
        tell(&proxy, &mut told);
        took = began.elapsed();
    }
    let code = finish(proxy.report(), &options.output);
    super::keep(options.trace.as_deref(), &discreet(&proxy.trace()), code)
}

/// Tells the violations that have not been told yet.
fn tell(proxy: &Proxy, told: &mut BTreeSet<(String, String, Vec<u64>)>) {
    for case in proxy.report().cases {
        for finding in case.findings {
            let verdict = Verdict::of_id(&finding.obligation);
            let key = (case.id.clone(), finding.obligation.clone(), finding.exchanges.clone());
            if told.insert(key) {
                let colour = writers::style(verdict);
                let sentence = writers::plain(&finding.sentence);
                anstream::eprintln!(
                    "{colour}{:13}{colour:#} {} {sentence} (exchanges {:?})",
                    verdict.word(),
                    finding.obligation,
                    finding.exchanges
                );
            }
        }
    }
}
