//! The delivery contract under a simulated clock (TRN-03 to TRN-06, CLS-01, CAN-01).

use proptest::prelude::*;
use rap_http::{
    Attempt, Origins, Traffic, Verdict,
    delivery::{CALLBACK_DELAYS, INVOCATION_WINDOW, Permit, Start},
    judge,
};
use std::{collections::HashMap, time::Duration};

const SEC: Duration = Duration::from_secs(1);

/// Delivers to a peer that always answers `attempt`; returns the times of the attempts since the first.
fn walk(traffic: Traffic, attempt: &Attempt, seed: u64, took: Duration) -> Vec<Duration> {
    let mut now = Duration::ZERO;
    let mut starts = vec![];
    loop {
        starts.push(now);
        assert!(starts.len() < 100, "endless");
        now += took;
        match judge(traffic, starts.len() as u32, now, attempt, seed) {
            Verdict::Retry { after, .. } => now += after,
            Verdict::GiveUp(_) => return starts,
            Verdict::Delivered => panic!("{attempt:?} is no delivery"),
        }
    }
}

#[test]
fn callbacks_and_answers_follow_the_schedule_for_over_75_hours() {
    for traffic in [Traffic::Callback, Traffic::Answer] {
        for seed in 0..200 {
            let starts = walk(traffic, &Attempt::Refused, seed, Duration::ZERO);
            assert_eq!(starts.len(), CALLBACK_DELAYS.len());
            for (pair, delay) in starts.windows(2).zip(&CALLBACK_DELAYS[1..]) {
                let real = pair[1] - pair[0];
                assert!(real >= *delay && real <= delay.mul_f64(1.2), "{real:?} for {delay:?}");
            }
            assert!(*starts.last().unwrap() > 75 * 3600 * SEC);
        }
    }
}

#[test]
fn the_schedule_is_the_contract_written_out() {
    let s = |x: f64| Duration::from_secs_f64(x);
    let h = 3600.0;
    let contract = [
        0.0,
        0.25,
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
        15.0,
        30.0,
        60.0,
        300.0,
        1800.0,
        2.0 * h,
        5.0 * h,
        10.0 * h,
        14.0 * h,
        20.0 * h,
        24.0 * h,
    ];
    assert_eq!(CALLBACK_DELAYS.to_vec(), contract.map(s).to_vec());
}

#[test]
fn a_72_hour_outage_loses_no_callback() {
    for seed in 0..500 {
        let starts = walk(Traffic::Callback, &Attempt::Refused, seed, Duration::ZERO);
        assert!(starts.iter().any(|t| *t >= 72 * 3600 * SEC), "seed {seed}: no attempt after the outage");
    }
}

#[test]
fn jitter_spreads() {
    let mut afters: Vec<_> = (0..1000)
        .map(|seed| match judge(Traffic::Callback, 9, SEC, &Attempt::Refused, seed) {
            Verdict::Retry { after, .. } => after.as_millis(),
            other => panic!("{other:?}"),
        })
        .collect();
    afters.sort_unstable();
    assert!(afters[0] < 60_600 && afters[999] > 71_400, "{} to {}", afters[0], afters[999]);
    afters.dedup();
    assert!(afters.len() > 900);
}

/// TRN-03: from half a second on, twice as long each time, the last attempt at two minutes.
#[test]
fn invocations_are_tried_for_two_minutes() {
    for seed in 0..200 {
        for took in [Duration::ZERO, SEC, 30 * SEC] {
            let starts = walk(Traffic::Invocation, &Attempt::TimedOut, seed, took);
            let first = starts[1] - took;
            assert!(first >= SEC / 2 && first <= SEC * 6 / 10, "{first:?}");
            assert!(starts.iter().all(|t| *t <= INVOCATION_WINDOW));
            if took.is_zero() {
                assert_eq!(*starts.last().unwrap(), INVOCATION_WINDOW);
                for w in starts.windows(3).take(starts.len().saturating_sub(3)) {
                    assert!(w[2] - w[1] > w[1] - w[0], "grows");
                }
            }
        }
    }
}

/// What every status means for every traffic: D delivered, R again, X never again.
#[test]
fn every_status_has_its_meaning() {
    use Traffic::*;
    let table = [
        (Callback, "D", 200..=299),
        (Answer, "D", 200..=299),
        (Invocation, "D", 200..=299),
        (Notice, "D", 200..=299),
        (Callback, "R", 300..=399),
        (Answer, "R", 300..=399),
        (Invocation, "R", 300..=399),
        (Notice, "X", 300..=399),
        (Callback, "R", 500..=599),
        (Answer, "R", 500..=599),
        (Invocation, "R", 500..=599),
        (Notice, "X", 500..=599),
        (Answer, "X", 400..=499),
        (Notice, "X", 400..=499),
        // TRN-04: any 4xx at all.
        (Invocation, "X", 400..=499),
    ];
    let meaning = |traffic, code| match judge(traffic, 1, Duration::ZERO, &Attempt::status(code), 1) {
        Verdict::Delivered => "D",
        Verdict::Retry { .. } => "R",
        Verdict::GiveUp(end) => {
            assert_eq!(end.gone, code == 410);
            assert_eq!(end.may_have_arrived, code >= 500);
            "X"
        }
    };
    for (traffic, expected, codes) in table {
        for code in codes {
            assert_eq!(meaning(traffic, code), expected, "{traffic:?} {code}");
        }
    }
    // TRN-06, with the three exceptions.
    for code in 400..=499 {
        let expected = if [408, 425, 429].contains(&code) { "R" } else { "X" };
        assert_eq!(meaning(Callback, code), expected, "{code}");
    }
}

#[test]
fn what_never_reached_the_peer_is_told_from_what_may_have() {
    let cases = [
        (Attempt::Refused, false),
        (Attempt::Blocked("x".into()), false),
        (Attempt::status(404), false),
        (Attempt::status(302), false),
        (Attempt::TimedOut, true),
        (Attempt::Failed("x".into()), true),
        (Attempt::status(503), true),
    ];
    for (attempt, expected) in cases {
        let Verdict::GiveUp(end) = judge(Traffic::Notice, 1, SEC, &attempt, 0) else {
            panic!("notices go once")
        };
        assert_eq!(end.may_have_arrived, expected, "{attempt:?}");
    }
}

#[test]
fn a_target_that_our_policy_refuses_is_final() {
    for traffic in [Traffic::Callback, Traffic::Answer, Traffic::Invocation, Traffic::Notice] {
        let verdict = judge(traffic, 1, SEC, &Attempt::Blocked("10.0.0.1 is a private address".into()), 0);
        let Verdict::GiveUp(end) = verdict else { panic!("{traffic:?}") };
        assert!(end.reason.contains("10.0.0.1 is a private address"));
    }
}

#[test]
fn retry_after_is_honoured_within_bounds() {
    let busy = |seconds| Attempt::Status { code: 503, retry_after: Some(Duration::from_secs(seconds)) };
    let after = |traffic, since, seconds| match judge(traffic, 1, since, &busy(seconds), 0) {
        Verdict::Retry { after, slow_origin } => {
            assert!(slow_origin);
            after
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(after(Traffic::Callback, SEC, 7), 7 * SEC);
    assert!(after(Traffic::Callback, SEC, 0) >= SEC / 4, "no sooner than the schedule");
    assert_eq!(after(Traffic::Callback, SEC, u64::MAX), 24 * 3600 * SEC);
    assert_eq!(after(Traffic::Invocation, SEC, 7), 7 * SEC);
    assert_eq!(after(Traffic::Invocation, 100 * SEC, 3600), 20 * SEC, "the window's end, not beyond");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// No input, however odd, panics or makes a delay that is not in the contract.
    #[test]
    fn judge_is_total(
        kind in 0..4usize, made: u32, since: u64, code: u16, asked: Option<u64>, seed: u64,
    ) {
        let traffic = [Traffic::Callback, Traffic::Answer, Traffic::Invocation, Traffic::Notice][kind];
        let attempt = Attempt::Status { code, retry_after: asked.map(Duration::from_secs) };
        let since = Duration::from_millis(since);
        if let Verdict::Retry { after, .. } = judge(traffic, made, since, &attempt, seed) {
            prop_assert!(after <= Duration::from_secs(24 * 3600).mul_f64(1.2));
            prop_assert!(traffic != Traffic::Notice);
            if traffic == Traffic::Invocation {
                prop_assert!(since + after <= INVOCATION_WINDOW);
            }
        }
    }
}

fn now(start: Start) -> Permit {
    match start {
        Start::Now(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_origin_that_is_down_is_probed_by_one_delivery_at_a_time() {
    let mut origins = Origins::new();
    let first = now(origins.may_start("a", 0));
    let beside = now(origins.may_start("a", 0));
    assert!(!first.is_probe());
    origins.finished("a", 10, first, &Attempt::Refused);
    assert_eq!(origins.may_start("a", 11), Start::WaitUntil(260));
    // What was on its way when the trouble began does not lengthen it.
    assert!(!origins.finished("a", 20, beside, &Attempt::Refused));
    assert_eq!(origins.may_start("a", 259), Start::WaitUntil(260));

    let probe = now(origins.may_start("a", 260));
    assert!(probe.is_probe());
    for t in [260, 300, 10_000] {
        assert!(matches!(origins.may_start("a", t), Start::WaitForProbe { .. }));
    }
    assert!(!now(origins.may_start("b", 300)).is_probe(), "another origin is not concerned");
    assert!(origins.finished("a", 10_000, probe, &Attempt::TimedOut), "who waits asks again");
    assert_eq!(origins.may_start("a", 10_001), Start::WaitUntil(10_500), "twice as long");

    let probe = now(origins.may_start("a", 10_500));
    assert!(origins.finished("a", 10_600, probe, &Attempt::status(200)), "success releases the rest");
    for _ in 0..100 {
        assert!(!now(origins.may_start("a", 10_600)).is_probe());
    }
}

#[test]
fn the_pause_between_probes_grows_to_a_minute() {
    let mut origins = Origins::new();
    let mut clock = 0;
    let mut pauses = vec![];
    for _ in 0..40 {
        match origins.may_start("a", clock) {
            Start::Now(permit) => {
                origins.finished("a", clock, permit, &Attempt::Refused);
            }
            Start::WaitUntil(until) => {
                pauses.push(until - clock);
                clock = until;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pauses[..5], [250, 500, 1000, 2000, 4000]);
    assert!(pauses[8..].iter().all(|pause| *pause == 60_000), "{pauses:?}");
}

#[test]
fn overload_answers_slow_the_whole_origin() {
    for (code, slows) in
        [(429, true), (502, true), (503, true), (504, true), (500, false), (404, false), (301, false)]
    {
        let mut origins = Origins::new();
        let permit = now(origins.may_start("a", 0));
        origins.finished("a", 0, permit, &Attempt::status(code));
        assert_eq!(origins.is_troubled("a"), slows, "{code}");
    }
    let mut origins = Origins::new();
    let permit = now(origins.may_start("a", 0));
    let asked = Attempt::Status { code: 500, retry_after: Some(30 * SEC) };
    origins.finished("a", 0, permit, &asked);
    assert_eq!(origins.may_start("a", 1), Start::WaitUntil(30_000));
    // A success beside `Retry-After` is a success.
    let permit = now(origins.may_start("a", 30_000));
    origins.finished("a", 30_001, permit, &Attempt::Status { code: 200, retry_after: Some(SEC) });
    assert!(!origins.is_troubled("a"));
    // Nobody silences an origin for more than an hour at a time.
    let permit = now(origins.may_start("a", 0));
    origins.finished("a", 0, permit, &Attempt::Status { code: 503, retry_after: Some(Duration::MAX) });
    assert_eq!(origins.may_start("a", 1), Start::WaitUntil(3_600_000));
}

/// A last attempt before an end waits for no pause, and is still one probe; afterwards pauses are short again.
#[test]
fn a_probe_before_the_end() {
    let mut origins = Origins::new();
    let mut clock = 0;
    for _ in 0..12 {
        if let Start::WaitUntil(at) = origins.may_start("http://a", clock) {
            clock = at;
        }
        let permit = now(origins.may_start("http://a", clock));
        origins.finished("http://a", clock, permit, &Attempt::Refused);
    }
    assert!(matches!(origins.may_start("http://a", clock), Start::WaitUntil(at) if at >= clock + 60_000));
    origins.probe_now();
    let probe = now(origins.may_start("http://a", clock));
    assert!(probe.is_probe());
    assert!(matches!(origins.may_start("http://a", clock), Start::WaitForProbe { .. }));
    origins.finished("http://a", clock, probe, &Attempt::Refused);
    assert_eq!(origins.may_start("http://a", clock), Start::WaitUntil(clock + 500));
}

#[test]
fn a_lost_probe_does_not_silence_the_origin_for_ever() {
    let mut origins = Origins::new();
    let permit = now(origins.may_start("a", 0));
    origins.finished("a", 0, permit, &Attempt::Refused);
    let lost = now(origins.may_start("a", 1_000));
    let Start::WaitForProbe { at_latest } = origins.may_start("a", 2_000) else { panic!() };
    let second = now(origins.may_start("a", at_latest));
    assert!(second.is_probe());
    // The lost one comes back late: it is not taken for the second.
    assert!(!origins.finished("a", at_latest + 1, lost, &Attempt::Refused));
    assert!(matches!(origins.may_start("a", at_latest + 2), Start::WaitForProbe { .. }));
    assert!(origins.abandoned("a", second), "a probe that was never made makes room for another");
    assert!(now(origins.may_start("a", at_latest + 3)).is_probe());
}

#[test]
fn the_memory_of_origins_is_bounded() {
    let mut origins = Origins::new();
    for n in 0..10_100u64 {
        let name = format!("http://{n}.example");
        let permit = now(origins.may_start(&name, n));
        origins.finished(&name, n, permit, &Attempt::Refused);
    }
    assert_eq!(origins.troubled(), 10_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// Random deliveries against origins that go down and up: never two probes at once, nobody waits for a
    /// time that never comes, and once an origin is up everything gets through.
    #[test]
    fn origins_never_stick_and_never_stampede(
        steps in proptest::collection::vec((0..3usize, 0..4u8, 1..400u64), 1..300),
    ) {
        let mut origins = Origins::new();
        let mut flying: HashMap<usize, Vec<(Permit, u64)>> = HashMap::new();
        // How often each origin came back: a probe of an earlier trouble is no probe of this one.
        let mut back = [0u64; 3];
        let mut clock = 0;
        let outcome = |kind| match kind {
            0 => Attempt::Refused,
            1 => Attempt::TimedOut,
            2 => Attempt::Status { code: 503, retry_after: Some(SEC) },
            _ => Attempt::status(200),
        };
        for (origin, kind, pass) in steps {
            clock += pass;
            let name = origin.to_string();
            let here = flying.entry(origin).or_default();
            if let Start::Now(permit) = origins.may_start(&name, clock) {
                here.push((permit, back[origin]));
            }
            prop_assert!(here.iter().filter(|(p, b)| p.is_probe() && *b == back[origin]).count() <= 1);
            if pass % 3 == 0 && !here.is_empty() {
                let (permit, _) = here.remove(pass as usize % here.len());
                origins.finished(&name, clock, permit, &outcome(kind));
                back[origin] += u64::from(!origins.is_troubled(&name));
            }
        }
        for (origin, here) in flying {
            let name = origin.to_string();
            for (permit, _) in here {
                origins.finished(&name, clock, permit, &Attempt::status(200));
            }
            let mut asked = 0;
            loop {
                match origins.may_start(&name, clock) {
                    Start::Now(permit) => {
                        origins.finished(&name, clock, permit, &Attempt::status(200));
                        break;
                    }
                    Start::WaitUntil(t) => clock = t,
                    Start::WaitForProbe { at_latest } => clock = at_latest,
                }
                asked += 1;
                prop_assert!(asked < 5, "stuck");
            }
            prop_assert!(!origins.is_troubled(&name));
        }
    }
}
