//! Runs cases: many beside each other, those that want the server for themselves afterwards; each failure
//! once more, since two tries that differ are a finding of their own.

use crate::{
    bench::{Bench, World},
    case::{Case, Outcome},
    report::CaseReport,
    trace::Exchange,
    verdict::{Finding, Stop, Verdict},
};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout_at};

/// The longest that a case may take, where an owed message may be missing for [`WAIT`].
const LONGEST: Duration = Duration::from_secs(20);

/// The wait that [`LONGEST`] is made for; where it is longer, cases may take longer in proportion.
const WAIT: Duration = Duration::from_secs(5);

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
    /// The longest that a case may take.
    pub longest: Duration,
}

impl Pace {
    /// For a run that began then and may take so long, in which an owed message may be missing for `wait`. Cases
    /// are begun as long as the longest of them could still be done, and in a run shorter than that for half of it.
    pub fn within(jobs: usize, began: Instant, budget: Duration, wait: Duration) -> Self {
        let longest = LONGEST.mul_f64((wait.as_secs_f64() / WAIT.as_secs_f64()).max(1.0));
        let last = budget.saturating_sub(longest).max(budget / 2);
        Self { jobs, last: began + last, end: began + budget, longest }
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
        let took = again.took_ms;
        if Instant::now() < pace.end {
            compare(&mut done, again);
        }
        done.took_ms += took;
    }
    show(Progress::Done(Box::new(done.clone())));
    done
}

/// What two tries say together. What both found stands, though one of them found more; where the gravest was found in
/// one of them only, the case is flaky, and holds what either found.
fn compare(done: &mut CaseReport, again: CaseReport) {
    let broken =
        |r: &CaseReport| -> BTreeSet<String> { r.findings.iter().map(|f| f.obligation.clone()).collect() };
    let (first, second) = (broken(done), broken(&again));
    if first == second {
        return;
    }
    let gravest = |all: &mut dyn Iterator<Item = &String>| all.map(|id| Verdict::of_id(id)).max();
    let both = gravest(&mut first.intersection(&second));
    let either = gravest(&mut first.union(&second));
    let more = again.findings.iter().find(|f| !first.contains(&f.obligation)).map(|f| f.sentence.clone());
    let less = done.findings.iter().find(|f| !second.contains(&f.obligation));
    let said =
        match more.or(less.filter(|_| !second.is_empty()).map(|f| format!("not again: {}", f.sentence))) {
            Some(said) => said,
            None => again.reason.unwrap_or_else(|| "nothing was wrong".to_owned()),
        };
    done.reason = Some(format!("a second try differed: {said}"));
    if both < either {
        done.verdict = Verdict::Flaky;
        done.findings.extend(again.findings.into_iter().filter(|f| !first.contains(&f.obligation)));
    }
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
    let until = pace.end.min(began + pace.longest);
    let before = world.recorder.len() as u64;
    let outcome = match timeout_at(until.into(), (case.run)(bench.clone())).await {
        Ok(outcome) => outcome,
        Err(_) if until == pace.end => {
            Err(Stop::Inconclusive("not done when the run had to end; hint: --budget SECONDS".to_owned()))
        }
        Err(_) => Err(Stop::Inconclusive(format!("not done within {} s", pace.longest.as_secs()))),
    };
    let mut findings = bench.findings();
    for finding in findings.iter_mut().filter(|f| f.exchanges.is_empty()) {
        // What the case began with is better than nothing to see it by.
        let own = |e: &&Exchange| e.n > before && e.case.as_deref() == Some(case.id);
        finding.exchanges = world.recorder.all().iter().find(own).map(|e| e.n).into_iter().collect();
    }
    report(case, outcome, findings, began.elapsed())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[&str]) -> CaseReport {
        let findings: Vec<Finding> =
            ids.iter().map(|id| Finding::new(id, format!("{id} broken"), &[])).collect();
        let verdict = findings.iter().map(|f| Verdict::of_id(&f.obligation)).max().unwrap_or(Verdict::Pass);
        CaseReport {
            id: "a/case".to_owned(),
            title: String::new(),
            obligations: ["TRN-02", "TRN-05", "STA-01"].map(str::to_owned).to_vec(),
            verdict,
            reason: None,
            findings,
            known: false,
            took_ms: 0,
        }
    }

    /// TRN-02 is a MUST, TRN-05 a SHOULD, STA-01 an extension.
    #[test]
    fn two_tries_that_differ_weigh_no_more_than_what_they_differ_in() {
        use Verdict::{Fail, Flaky, Informational, NonStrict, Pass};
        for (first, second, verdict, of, codes) in [
            (&["TRN-02"][..], &["TRN-02"][..], Fail, [Fail, Pass, Pass], [1, 1]),
            (&["TRN-02"], &[], Flaky, [Flaky, Pass, Pass], [1, 1]),
            (&["TRN-05"], &[], Flaky, [Pass, Flaky, Pass], [1, 0]),
            (&["STA-01"], &[], Flaky, [Pass, Pass, Flaky], [0, 0]),
            (&["STA-01"], &["STA-01"], Informational, [Pass, Pass, Informational], [0, 0]),
            // The same fault and one more is a plain fault, whichever try found it.
            (&["TRN-02"], &["TRN-02", "TRN-05"], Fail, [Fail, Pass, Pass], [1, 1]),
            (&["TRN-02", "STA-01"], &["TRN-02"], Fail, [Fail, Pass, Informational], [1, 1]),
            (&["TRN-05", "STA-01"], &["TRN-05"], NonStrict, [Pass, NonStrict, Informational], [1, 0]),
            // But one more that is graver was found once of twice.
            (&["TRN-05"], &["TRN-05", "TRN-02"], Flaky, [Flaky, Flaky, Pass], [1, 1]),
            (&["STA-01"], &["TRN-05"], Flaky, [Pass, Flaky, Flaky], [1, 0]),
        ] {
            let mut done = found(first);
            compare(&mut done, found(second));
            assert_eq!(done.verdict, verdict, "{first:?} {second:?}");
            assert_eq!(
                ["TRN-02", "TRN-05", "STA-01"].map(|id| done.verdict_of(id)),
                of,
                "{first:?} {second:?}"
            );
            assert_eq!(done.reason.is_some(), first != second, "{first:?} {second:?}");
            let report = crate::report::fold(Default::default(), vec![done], &[], |_| false);
            assert_eq!([false, true].map(|must| report.exit_code(must)), codes, "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_case_may_take_longer_where_silence_is_waited_for_longer() {
        let seconds = Duration::from_secs;
        let longest = |wait| Pace::within(1, Instant::now(), seconds(3600), wait).longest;
        assert_eq!(longest(Duration::from_millis(100)), LONGEST);
        assert_eq!(longest(WAIT), LONGEST);
        assert_eq!(longest(seconds(30)), seconds(120));
    }
}
