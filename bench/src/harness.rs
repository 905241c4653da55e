//! What every benchmark needs: rounds in turns, medians, and figures that know their gate.

use std::time::{Duration, Instant};

/// How much time may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A few seconds: does it run?
    Quick,
    /// What the gates are judged by.
    Normal,
    /// Everything.
    Full,
}

/// How a benchmark is to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) effort: Effort,
}

impl Plan {
    /// How many rounds each side gets; the sides take turns, so that what else the machine does hits both.
    pub(crate) fn rounds(&self) -> usize {
        match self.effort {
            Effort::Quick => 3,
            Effort::Normal => 9,
            Effort::Full => 15,
        }
    }

    /// How long one round of a measurement lasts.
    pub(crate) fn round(&self) -> Duration {
        Duration::from_millis(if self.effort == Effort::Quick { 200 } else { 1000 })
    }

    /// One of two sizes.
    pub(crate) fn size(&self, quick: usize, otherwise: usize) -> usize {
        if self.effort == Effort::Quick { quick } else { otherwise }
    }
}

/// One benchmark: a file in `benches/`.
pub(crate) trait Bench {
    /// Its name in the table of gates, e.g. `B1`.
    fn id(&self) -> &'static str;
    /// What is measured, in a few words.
    fn title(&self) -> &'static str;
    /// What is measured and what the floor does, in a paragraph.
    fn about(&self) -> &'static str;
    /// Measures.
    fn run(&self, plan: &Plan) -> Result<Report, String>;
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Sentences that help to read the figures.
    pub(crate) reading: Vec<String>,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    /// Ours divided by the floor's is at least this.
    RatioAtLeast(f64),
    /// Ours divided by the floor's is at most this.
    RatioAtMost(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// For reading only.
    None,
}

/// One figure beside its floor.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) floor: Option<f64>,
    pub(crate) gate: Gate,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { what: what.into(), unit, ours, floor: None, gate: Gate::None }
    }

    pub(crate) fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    pub(crate) fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.ours / floor)
    }

    /// Whether the gate is met; none where there is no gate.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.gate {
            Gate::RatioAtLeast(limit) => self.ratio().map(|r| r >= limit),
            Gate::RatioAtMost(limit) => self.ratio().map(|r| r <= limit),
            Gate::AtMost(limit) => Some(self.ours <= limit),
            Gate::AtLeast(limit) => Some(self.ours >= limit),
            Gate::None => None,
        }
    }
}

/// The middle of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => figures[n / 2],
        n => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
    }
}

/// A share of some figures, e.g. 0.99 for the 99th percentile.
pub(crate) fn percentile(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    figures.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Measures two sides in turns and gives the median of each.
pub(crate) fn in_turns<E>(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64, E>,
    mut floor: impl FnMut() -> Result<f64, E>,
) -> Result<(f64, f64), E> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who goes first alternates too.
        if round % 2 == 0 {
            a.push(ours()?);
            b.push(floor()?);
        } else {
            b.push(floor()?);
            a.push(ours()?);
        }
    }
    Ok((median(a), median(b)))
}

/// Microseconds that one call takes, over as many as fit into some milliseconds.
pub(crate) fn micros(at_least: Duration, mut call: impl FnMut()) -> f64 {
    let mut calls = 0_u32;
    let mut batch = 1;
    let began = Instant::now();
    loop {
        for _ in 0..batch {
            call();
        }
        calls += batch;
        let spent = began.elapsed();
        if spent >= at_least {
            return spent.as_secs_f64() * 1e6 / f64::from(calls);
        }
        batch = (batch * 2).min(1 << 12);
    }
}
