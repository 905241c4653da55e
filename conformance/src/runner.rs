//! Runs cases: many beside each other, those that want the server for themselves afterwards; each failure
//! once more, since two tries that differ are a finding of their own.

use crate::{
    bench::{Bench, World},
    case::{Case, Outcome},
    report::CaseReport,
    verdict::{Finding, Stop, Verdict},
};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout_at};

/// The longest that a case may take.
const LONGEST: Duration = Duration::from_secs(20);

/// Why a case was not tried.
const USED_UP: &str =
    "the time of the run was used up by what came before; hint: --budget SECONDS, or --only";

/// How cases are run.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many at a time.
    pub jobs: usize,
    /// When no further case is begun or repeated, so that one that was begun can be done in time.
    pub last: Instant,
    /// When everything ends: a case that is not done by then is cut off, and inconclusive.
    pub end: Instant,
}

impl Pace {
    /// For a run that began then and may take so long. Cases are begun as long as the longest of them could
    /// still be done, and in a run shorter than that for half of it.
    pub fn within(jobs: usize, began: Instant, budget: Duration) -> Self {
        let last = budget.saturating_sub(LONGEST).max(budget / 2);
        Self { jobs, last: began + last, end: began + budget }
    }
}

/// What happens in a run, for whoever shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Progress {
    /// Something to know before the first case.
    Note(String),
    /// So many cases will be run.
    Planned(usize),
    /// A case failed and is tried once more.
    Repeating(&'static str),
    /// A case, or a rule over the trace, is done.
    Done(Box<CaseReport>),
}

/// Where progress is shown.
pub type Show = Arc<dyn Fn(Progress) + Send + Sync>;

/// Runs the cases and returns what is said of them, in their order.
pub async fn run(world: &Arc<World>, cases: &[&'static Case], pace: Pace, show: &Show) -> Vec<CaseReport> {
    show(Progress::Planned(cases.len()));
    let slots = Arc::new(Semaphore::new(pace.jobs.max(1)));
    let mut tasks = JoinSet::new();
    for (at, case) in cases.iter().copied().enumerate().filter(|(_, case)| !case.alone && !case.apart) {
        let (world, slots, show) = (world.clone(), slots.clone(), show.clone());
        tasks.spawn(async move {
            let _slot = slots.acquire().await;
            (at, judge(&world, case, pace, &show).await)
        });
    }
    let mut reports: Vec<Option<CaseReport>> = vec![None; cases.len()];
    while let Some(done) = tasks.join_next().await {
        if let Ok((at, report)) = done {
            reports[at] = Some(report);
        }
    }
    for (at, case) in cases.iter().copied().enumerate().filter(|(_, case)| case.apart) {
        let world = world.clone();
        let show = show.clone();
        // In a task of its own, so that a panic is that of the case.
        let done = tokio::spawn(async move { judge(&world, case, pace, &show).await });
        reports[at] = done.await.ok();
    }
    let mut tasks = JoinSet::new();
    // All of them are waited for before the first of them is killed under the others.
    let alone: Vec<_> = cases.iter().copied().enumerate().filter(|(_, case)| case.alone).collect();
    let members = Arc::new(tokio::sync::Barrier::new(alone.len().max(1)));
    for (at, case) in alone {
        let (world, members) = (world.clone(), members.clone());
        tasks.spawn(async move {
            let member = world.meeting.join();
            members.wait().await;
            let done = attempt(&world, case, pace).await;
            drop(member);
            (at, done)
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((at, report)) = done {
            reports[at] = Some(report);
        }
    }
    for (at, case) in cases.iter().enumerate().filter(|(_, case)| case.alone) {
        if let Some(done) = reports[at].take() {
            reports[at] = Some(confirmed(world, case, done, pace, show).await);
        }
    }
    let missing = |at: usize| {
        let stop = Err(Stop::Harness("the judge panicked in this case".to_owned()));
        report(cases[at], stop, Vec::new(), Duration::ZERO)
    };
    reports.into_iter().enumerate().map(|(at, report)| report.unwrap_or_else(|| missing(at))).collect()
}

async fn judge(world: &Arc<World>, case: &'static Case, pace: Pace, show: &Show) -> CaseReport {
    let done = attempt(world, case, pace).await;
    confirmed(world, case, done, pace, show).await
}

/// A case that failed is tried once more.
async fn confirmed(
    world: &Arc<World>,
    case: &'static Case,
    mut done: CaseReport,
    pace: Pace,
    show: &Show,
) -> CaseReport {
    let decided = matches!(done.verdict, Verdict::Fail | Verdict::NonStrict | Verdict::Informational);
    if decided && Instant::now() < pace.last {
        show(Progress::Repeating(case.id));
        let again = attempt(world, case, pace).await;
        let broken = |r: &CaseReport| -> BTreeSet<String> {
            r.findings.iter().map(|f| f.obligation.clone()).collect()
        };
        let cut_off = Instant::now() >= pace.end;
        if !cut_off && broken(&again) != broken(&done) {
            let said =
                again.findings.first().map_or(again.reason.unwrap_or_default(), |f| f.sentence.clone());
            let said = if said.is_empty() { "nothing was wrong".to_owned() } else { said };
            done.verdict = Verdict::Flaky;
            done.reason = Some(format!("a second try differed: {said}"));
        }
        done.took_ms += again.took_ms;
    }
    show(Progress::Done(Box::new(done.clone())));
    done
}

async fn attempt(world: &Arc<World>, case: &'static Case, pace: Pace) -> CaseReport {
    let bench = Bench::new(world.clone(), case.id);
    if let Some(missing) = case.needs.iter().find(|need| !bench.has(**need)) {
        return report(case, Err(Stop::Unimplemented(missing.words())), Vec::new(), Duration::ZERO);
    }
    let began = Instant::now();
    if began >= pace.last {
        return report(case, Err(Stop::Inconclusive(USED_UP.to_owned())), Vec::new(), Duration::ZERO);
    }
    let until = pace.end.min(began + LONGEST);
    let outcome = match timeout_at(until.into(), (case.run)(bench.clone())).await {
        Ok(outcome) => outcome,
        Err(_) if until == pace.end => {
            Err(Stop::Inconclusive("not done when the run had to end; hint: --budget SECONDS".to_owned()))
        }
        Err(_) => Err(Stop::Inconclusive(format!("not done within {} s", LONGEST.as_secs()))),
    };
    report(case, outcome, bench.findings(), began.elapsed())
}

fn report(case: &Case, outcome: Outcome, findings: Vec<Finding>, took: Duration) -> CaseReport {
    let stray = findings.iter().find(|f| !case.obligations.contains(&f.obligation.as_str()));
    let worst = findings.iter().map(|f| Verdict::of_id(&f.obligation)).max();
    let (verdict, reason) = match (stray, worst, outcome) {
        (Some(stray), ..) => {
            let words = format!("bug: the case does not judge {}: {}", stray.obligation, stray.sentence);
            (Verdict::HarnessError, Some(words))
        }
        (_, Some(worst), _) => (worst, None),
        (_, None, Ok(())) => (Verdict::Pass, None),
        (_, None, Err(Stop::Broken)) => {
            (Verdict::HarnessError, Some("bug: stopped as broken, with nothing found".to_owned()))
        }
        (_, None, Err(Stop::Unimplemented(what))) => (Verdict::Unimplemented, Some(what)),
        (_, None, Err(Stop::Inconclusive(why))) => (Verdict::Inconclusive, Some(why)),
        (_, None, Err(Stop::Harness(why))) => (Verdict::HarnessError, Some(why)),
    };
    CaseReport {
        id: case.id.to_owned(),
        title: case.title.to_owned(),
        obligations: case.obligations.iter().map(|o| (*o).to_owned()).collect(),
        verdict,
        reason,
        findings,
        known: false,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
