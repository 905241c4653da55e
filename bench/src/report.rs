//! `bench/results.md`: one section per benchmark, replaced by the next run of that benchmark.

use crate::{
    harness::{Bench, Effort, Gate, Plan, Report, Row},
    idle::Load,
};
use std::{cmp::Ordering, fs, path::Path, process::Command};

const HEAD: &str = "\
# Results

Written by `cargo xtask bench`; what is measured and how to run it is in [README.md](README.md). Ratios to the floor are
the gate; absolute figures are for reading. Model time is excluded everywhere.
";

/// A benchmark's section.
pub(crate) fn section(bench: &dyn Bench, report: &Report, load: &Load, plan: &Plan) -> String {
    let mut out = format!("## {}: {}\n\n{}\n\n", bench.id(), bench.title(), bench.about());
    out.push_str("| what | ours | floor | ratio | gate | |\n|---|---|---|---|---|---|\n");
    for row in &report.rows {
        let floor = row.floor.map_or("–".to_owned(), |f| format!("{} {}", figure(f), row.unit));
        let ratio = row.ratio().map_or("–".to_owned(), |r| format!("{r:.2}"));
        let met = match row.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let ours = format!("{} {}", figure(row.ours), row.unit);
        out.push_str(&format!("| {} | {ours} | {floor} | {ratio} | {} | {met} |\n", row.what, gate(row)));
    }
    out.push('\n');
    for sentence in &report.reading {
        out.push_str(&format!("{sentence}\n"));
    }
    if !report.reading.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("Taken {}.\n", taken(load, plan)));
    out
}

fn taken(load: &Load, plan: &Plan) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) {
        "a debug build, which says nothing about speed"
    } else {
        "release build"
    };
    let state = match (load.is_idle(), load.free) {
        (true, Some(_)) => "idle before".to_owned(),
        (false, Some(free)) => {
            format!("**busy** before ({:.0} % of its time was free): take them again", free * 100.0)
        }
        (_, None) => "of unknown load".to_owned(),
    };
    let effort = match plan.effort {
        Effort::Quick => "--quick",
        Effort::Normal => "normal effort",
        Effort::Full => "--full",
    };
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit =
        commit.ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "on {cores} cores, {state}, loopback; a small write reaches the disk in {} ms; {build}, {effort}, at or after \
         commit {commit}",
        figure(load.sync_ms)
    )
}

fn gate(row: &Row) -> String {
    match row.gate {
        Gate::RatioAtLeast(limit) => format!("≥ {limit} × floor"),
        Gate::RatioAtMost(limit) => format!("≤ {limit} × floor"),
        Gate::AtMost(limit) => format!("≤ {} {}", figure(limit), row.unit),
        Gate::AtLeast(limit) => format!("≥ {} {}", figure(limit), row.unit),
        Gate::None => "–".to_owned(),
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 || size == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Puts a section into the file, in the place of the older one of the same benchmark.
pub(crate) fn keep(path: &Path, id: &str, section: &str) -> Result<(), String> {
    let old = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, merged(&old, id, section)).map_err(|e| format!("{}: {e}", path.display()))
}

fn merged(old: &str, id: &str, section: &str) -> String {
    let mut sections: Vec<(String, String)> = old
        .split("\n## ")
        .skip(1)
        .map(|text| {
            let id = text.split(':').next().unwrap_or_default().to_owned();
            (id, format!("## {}\n", text.trim_end()))
        })
        .filter(|(other, _)| other != id)
        .collect();
    sections.push((id.to_owned(), format!("{}\n", section.trim_end())));
    sections.sort_by(|(a, _), (b, _)| number(a).cmp(&number(b)).then(Ordering::Equal));
    let texts: Vec<String> = sections.into_iter().map(|(_, text)| text).collect();
    format!("{HEAD}\n{}", texts.join("\n"))
}

fn number(id: &str) -> u32 {
    id.trim_start_matches('B').parse().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::merged;

    /// A run of one benchmark leaves the others' figures alone, in the order of their numbers.
    #[test]
    fn sections_are_replaced_one_by_one() {
        let first = merged("", "B11", "## B11: small things\n\nold\n");
        let second = merged(&first, "B3", "## B3: slices\n\nthree\n");
        let third = merged(&second, "B11", "## B11: small things\n\nnew\n");
        let titles: Vec<&str> = third.lines().filter(|l| l.starts_with("## ")).collect();
        assert_eq!(titles, ["## B3: slices", "## B11: small things"]);
        assert!(third.contains("three") && third.contains("new") && !third.contains("old"), "{third}");
        assert_eq!(merged(&third, "B11", "## B11: small things\n\nnew\n"), third);
    }
}
