//! Is the machine idle? Figures of a busy one say little, so a benchmark waits, for a while, and says what it saw.

use crate::say;
use std::{
    fs,
    io::Write,
    time::{Duration, Instant},
};

/// A machine with more free time than this is idle.
const FREE: f64 = 0.9;
/// So many looks in a row must find it idle.
const CALM: u32 = 3;

/// What the machine did just before a benchmark.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The share of its time that the processor had nothing to do, 0 to 1, where the system tells.
    pub(crate) free: Option<f64>,
    /// The median time of a small write that is on disk, in milliseconds.
    pub(crate) sync_ms: f64,
}

impl Load {
    /// Whether figures taken now can be judged.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.is_none_or(|free| free >= FREE)
    }
}

/// Looks once.
pub(crate) fn look() -> Load {
    Load { free: free(Duration::from_millis(500)), sync_ms: sync_ms() }
}

/// Waits until the machine is idle, but no longer than this.
pub(crate) fn wait(limit: Duration) -> Load {
    let until = Instant::now() + limit;
    let mut calm = 0;
    let mut said = false;
    loop {
        let Some(free) = free(Duration::from_secs(1)) else { return look() };
        calm = if free >= FREE { calm + 1 } else { 0 };
        if calm >= CALM {
            return Load { free: Some(free), sync_ms: sync_ms() };
        }
        if Instant::now() >= until {
            say("the machine does not become idle: the figures will be marked as taken on a busy one");
            return Load { free: Some(free), sync_ms: sync_ms() };
        }
        if !said && calm == 0 {
            said = true;
            say(&format!("waiting up to {} s for an idle machine", limit.as_secs()));
        }
    }
}

/// The share of free processor time over a while.
fn free(over: Duration) -> Option<f64> {
    let before = times()?;
    std::thread::sleep(over);
    let after = times()?;
    let all = after.0.checked_sub(before.0).filter(|all| *all > 0)?;
    Some(after.1.saturating_sub(before.1) as f64 / all as f64)
}

/// All processor time since the start of the machine, and the idle part of it.
fn times() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    Some((times.iter().take(8).sum(), times.get(3)? + times.get(4)?))
}

fn sync_ms() -> f64 {
    let path = std::env::temp_dir().join(format!("rap-bench-{}", std::process::id()));
    let Ok(mut file) = fs::File::create(&path) else { return f64::NAN };
    let times = (0..20).filter_map(|_| {
        let began = Instant::now();
        file.write_all(&[0; 512]).and_then(|()| file.sync_data()).ok()?;
        Some(began.elapsed().as_secs_f64() * 1e3)
    });
    let median = crate::harness::median(times.collect());
    let _ = fs::remove_file(&path);
    median
}
