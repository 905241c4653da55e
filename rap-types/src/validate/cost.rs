//! What judging costs: how many ways through a schema lead to one part of a value.
//!
//! A small schema can have exponentially many: each definition names the next one twice. The validator
//! remembers what a *recursive* reference said of a value, and nothing else; so ways outside of recursion are
//! counted and bounded here. Telling faults remembers nothing at all; how deep it may go is counted here too.

use super::{fault, references::Node};
use crate::Fault;
use std::collections::{BTreeMap, HashMap};

/// The most ways to one part.
const WAYS: u64 = 2_000;
/// The same for telling faults, which stops after a few.
const WAYS_TOLD: u64 = 50_000;
/// No reader of JSON takes deeper arguments.
const ARGUMENTS_DEPTH: usize = 128;

/// How many subschemas may be at work inside of each other: each takes some of the thread's stack, which is as
/// small as 1 MiB on some.
const STACKED: usize = 400;

type Nodes = BTreeMap<String, Node>;

/// Refuses a schema in which too many ways lead to one part of a value, recursion not counted.
pub(super) fn bounded(nodes: &Nodes) -> Result<(), Fault> {
    let index: HashMap<&str, usize> = nodes.keys().enumerate().map(|(i, p)| (p.as_str(), i)).collect();
    let resolve = |pointers: &[String]| -> Vec<usize> {
        pointers.iter().filter_map(|p| index.get(p.as_str()).copied()).collect()
    };
    let sum: Vec<Vec<usize>> =
        nodes.values().map(|n| [resolve(&n.in_place), resolve(&n.into)].concat()).collect();
    let max: Vec<Vec<usize>> = nodes.values().map(|n| resolve(&n.exclusive)).collect();
    let mut ways = vec![None; nodes.len()];
    for node in bottom_up(&sum, &max) {
        // What is not counted yet is recursion.
        let of = |next: &usize| ways[*next].unwrap_or(1);
        let all = sum[node].iter().map(of).fold(0, u64::saturating_add);
        let one = max[node].iter().map(of).max().unwrap_or(0);
        ways[node] = Some(all.saturating_add(one).max(1));
    }
    match nodes.keys().zip(ways).find(|(_, ways)| ways.is_some_and(|w| w > WAYS)) {
        Some((pointer, _)) => {
            let message =
                format!("more than {WAYS} ways through the subschemas lead to one value; use fewer branches");
            Err(fault(pointer, message))
        }
        None => Ok(()),
    }
}

/// The depth of arguments that can be judged without more than [`STACKED`] subschemas at work at once.
pub(super) fn judged(nodes: &Nodes) -> usize {
    let index: HashMap<&str, usize> = nodes.keys().enumerate().map(|(i, p)| (p.as_str(), i)).collect();
    let resolve = |pointers: &[String]| -> Vec<usize> {
        pointers.iter().filter_map(|p| index.get(p.as_str()).copied()).collect()
    };
    let in_place: Vec<Vec<usize>> = nodes.values().map(|n| resolve(&n.in_place)).collect();
    let into: Vec<Vec<usize>> =
        nodes.values().map(|n| [resolve(&n.exclusive), resolve(&n.into)].concat()).collect();
    // In-place edges make no circle: every node comes after those below it.
    let order = bottom_up(&in_place, &vec![Vec::new(); nodes.len()]);
    let mut below = vec![0; nodes.len()];
    for depth in 0..=ARGUMENTS_DEPTH {
        let mut now = vec![1; nodes.len()];
        for node in &order {
            let here = in_place[*node].iter().map(|n| now[*n]).max().unwrap_or(0);
            let deeper = into[*node].iter().map(|n| below[*n]).max().unwrap_or(0);
            now[*node] = 1 + here.max(deeper);
        }
        if index.get("").is_some_and(|root| now[*root] > STACKED) {
            return depth.saturating_sub(1);
        }
        if now == below {
            return usize::MAX;
        }
        below = now;
    }
    ARGUMENTS_DEPTH
}

/// Every node, those below it first where that is possible: outside of circles.
fn bottom_up(sum: &[Vec<usize>], max: &[Vec<usize>]) -> Vec<usize> {
    let below = |node: usize| sum[node].iter().chain(&max[node]).copied();
    let count = sum.len();
    let mut above = vec![Vec::new(); count];
    for node in 0..count {
        for next in below(node) {
            above[next].push(node);
        }
    }
    let mut open_below: Vec<usize> = (0..count).map(|n| below(n).count()).collect();
    let mut order = Vec::with_capacity(count);
    let mut placed = vec![false; count];
    let mut ready: Vec<usize> = (0..count).filter(|n| open_below[*n] == 0).collect();
    place(&mut ready, &mut placed, &mut order, &above, &mut open_below);

    // What stands only above circles comes last; the circles themselves between, in any order.
    let mut open_above: Vec<usize> =
        (0..count).map(|n| above[n].iter().filter(|a| !placed[**a]).count()).collect();
    let edges: Vec<Vec<usize>> = (0..count).map(|n| below(n).collect()).collect();
    let mut last = Vec::new();
    let mut on_top = placed.clone();
    let mut ready: Vec<usize> = (0..count).filter(|n| !placed[*n] && open_above[*n] == 0).collect();
    place(&mut ready, &mut on_top, &mut last, &edges, &mut open_above);
    order.extend((0..count).filter(|n| !on_top[*n]));
    order.extend(last.into_iter().rev());
    order
}

/// Places what is ready, and then what becomes ready by it.
fn place(
    ready: &mut Vec<usize>,
    placed: &mut [bool],
    order: &mut Vec<usize>,
    next: &[Vec<usize>],
    open: &mut [usize],
) {
    while let Some(node) = ready.pop() {
        placed[node] = true;
        order.push(node);
        for other in &next[node] {
            if placed[*other] {
                continue;
            }
            open[*other] -= 1;
            if open[*other] == 0 {
                ready.push(*other);
            }
        }
    }
}

/// The depth of arguments down to which all faults can be told: no part has more than [`WAYS_TOLD`] ways to it.
pub(super) fn explainable(nodes: &Nodes) -> usize {
    let mut below: HashMap<&str, u64> = HashMap::new();
    for depth in 0..=ARGUMENTS_DEPTH {
        let mut now = HashMap::with_capacity(nodes.len());
        for pointer in nodes.keys() {
            ways(nodes, pointer, &below, &mut now);
        }
        if now.get("").is_some_and(|ways| *ways > WAYS_TOLD) {
            return depth.saturating_sub(1);
        }
        if now == below {
            break;
        }
        below = now;
    }
    ARGUMENTS_DEPTH
}

/// The ways to a part so far down, when `below` has the ways of one level less. In-place edges make no circle.
fn ways<'n>(
    nodes: &'n Nodes,
    pointer: &'n str,
    below: &HashMap<&str, u64>,
    now: &mut HashMap<&'n str, u64>,
) -> u64 {
    if let Some(ways) = now.get(pointer) {
        return *ways;
    }
    let Some(node) = nodes.get(pointer) else { return 1 };
    let part = |pointer: &String| below.get(pointer.as_str()).copied().unwrap_or(1);
    let exclusive = node.exclusive.iter().map(part).max().unwrap_or(0);
    let mut all = node.into.iter().map(part).fold(exclusive.max(1), u64::saturating_add);
    for next in &node.in_place {
        all = all.saturating_add(ways(nodes, next, below, now));
    }
    now.insert(pointer, all);
    all
}
