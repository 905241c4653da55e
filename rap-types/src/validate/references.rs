//! Where the `$ref`s of a schema lead: never out of the document, never round in a circle.
//!
//! The schema is read as a graph of subschemas. An edge is *in place* when the subschema judges the same
//! value (`$ref`, `allOf`, `not`, …); a circle of such edges never reaches a smaller value. Edges that step
//! into the value (`properties`, `items`, …) may well be circular: that is how trees are described.

use super::{PATTERNS, SCHEMA_DEPTH, cost, fault, work};
use crate::Fault;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use url::Url;

/// How many subschemas may judge one value, all in-place paths counted: a small document can fan out
/// exponentially.
const IN_PLACE_WORK: u64 = 2_000;
/// How many places of the document `$ref`s may lead to.
const TARGETS: usize = 1_000;

const IN_PLACE: &[&str] = &["not", "if", "then", "else"];
const IN_PLACE_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];
const IN_PLACE_MAPS: &[&str] = &["dependentSchemas", "dependencies"];
const INTO: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "items",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const INTO_LISTS: &[&str] = &["items", "prefixItems"];
const INTO_MAPS: &[&str] = &["patternProperties"];
/// Of these a value's part meets at most one.
const EXCLUSIVE_MAPS: &[&str] = &["properties"];
/// These judge nothing where they stand.
const SHELVES: &[&str] = &["$defs", "definitions"];

/// What of arguments can be judged against a schema, see [`cost`] and [`work`].
pub(super) struct Limits {
    /// Down to which depth they can be judged.
    pub(super) judged: usize,
    /// Down to which depth all that is wrong with them can be told.
    pub(super) explained: usize,
    /// How many states the patterns for names of members have together.
    pub(super) name_states: u64,
}

/// Checks every reference of a schema whose depth is bounded, and takes its patterns from the budget.
pub(super) fn check(schema: &Value, patterns: &mut usize) -> Result<Limits, Fault> {
    let mut graph = Graph::new(schema);
    graph.walk("", schema, &graph.root_base.clone());
    graph.resolve()?;
    *patterns = patterns
        .checked_sub(graph.patterns.len())
        .ok_or_else(|| fault("", format!("more than {PATTERNS} patterns; use fewer")))?;
    for (pointer, pattern) in &graph.patterns {
        work::check_pattern(pattern).map_err(|words| fault(pointer, words))?;
    }
    let mut known = HashMap::new();
    let starts: Vec<String> = graph.nodes.keys().cloned().collect();
    for start in starts {
        graph.work(&start, &mut Vec::new(), &mut known)?;
    }
    cost::bounded(&graph.nodes)?;
    Ok(Limits {
        judged: cost::judged(&graph.nodes),
        explained: cost::explainable(&graph.nodes),
        name_states: graph.name_states,
    })
}

/// A subschema, by the pointers of those below it.
#[derive(Default)]
pub(super) struct Node {
    /// Judge the same value; the targets of its references among them.
    pub(super) in_place: Vec<String>,
    /// Judge parts of the value, no part more than one of these.
    pub(super) exclusive: Vec<String>,
    /// Judge parts of the value.
    pub(super) into: Vec<String>,
    /// Keyword and absolute target, still to be resolved.
    references: Vec<(&'static str, String)>,
}

struct Graph<'a> {
    root: &'a Value,
    root_base: Url,
    id_keyword: &'static str,
    nodes: BTreeMap<String, Node>,
    /// Absolute URI without fragment → pointer of the resource's root.
    resources: HashMap<String, String>,
    /// Absolute URI with the anchor as its fragment → pointer.
    anchors: HashMap<String, String>,
    /// Name → pointers: a `$dynamicRef` may end at any of them.
    dynamic: HashMap<String, Vec<String>>,
    /// Pointer and pattern.
    patterns: Vec<(String, &'a str)>,
    name_states: u64,
}

impl<'a> Graph<'a> {
    fn new(root: &'a Value) -> Self {
        let draft = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let root_base = Url::parse("json-schema:///").expect("bug: a literal URL");
        let resources = HashMap::from([(root_base.to_string(), String::new())]);
        Self {
            root,
            root_base,
            id_keyword: if draft.contains("draft-04") { "id" } else { "$id" },
            nodes: BTreeMap::new(),
            resources,
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
            patterns: Vec::new(),
            name_states: 0,
        }
    }

    fn walk(&mut self, pointer: &str, schema: &'a Value, base: &Url) {
        let Value::Object(members) = schema else { return };
        if self.nodes.contains_key(pointer) {
            return;
        }
        let base = self.identify(pointer, members, base);
        let mut node = Node::default();
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(Value::String(target)) = members.get(keyword) {
                let absolute = base.join(target).map_or_else(|_| target.clone(), String::from);
                node.references.push((keyword, absolute));
            }
        }
        if let Some(Value::String(pattern)) = members.get("pattern") {
            self.patterns.push((format!("{pointer}/pattern"), pattern));
        }
        if let Some(Value::Object(names)) = members.get("patternProperties") {
            for pattern in names.keys() {
                let pointer = format!("{pointer}/patternProperties/{}", escaped(pattern));
                self.name_states = self.name_states.saturating_add(work::states(pattern));
                self.patterns.push((pointer, pattern));
            }
        }
        let in_place = children(pointer, members, IN_PLACE, IN_PLACE_LISTS, IN_PLACE_MAPS);
        let exclusive = children(pointer, members, &[], &[], EXCLUSIVE_MAPS);
        let into = children(pointer, members, INTO, INTO_LISTS, INTO_MAPS);
        let shelved = children(pointer, members, &[], &[], SHELVES);
        let pointers = |children: &Children<'_>| children.iter().map(|(p, _)| p.clone()).collect();
        (node.in_place, node.exclusive, node.into) =
            (pointers(&in_place), pointers(&exclusive), pointers(&into));
        self.nodes.insert(pointer.to_owned(), node);
        for (pointer, child) in in_place.into_iter().chain(exclusive).chain(into).chain(shelved) {
            self.walk(&pointer, child, &base);
        }
    }

    /// Notes the names under which this subschema can be referred to; gives its base URI.
    fn identify(&mut self, pointer: &str, members: &Map<String, Value>, base: &Url) -> Url {
        let mut base = base.clone();
        if let Some(Value::String(id)) = members.get(self.id_keyword)
            && let Ok(mut absolute) = base.join(id)
        {
            if absolute.fragment().is_some_and(|f| !f.is_empty()) {
                self.anchors.insert(absolute.to_string(), pointer.to_owned());
            } else {
                absolute.set_fragment(None);
                self.resources.insert(absolute.to_string(), pointer.to_owned());
                base = absolute;
            }
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(name)) = members.get(keyword) {
                let mut absolute = base.clone();
                absolute.set_fragment(Some(name));
                self.anchors.insert(absolute.to_string(), pointer.to_owned());
                if keyword == "$dynamicAnchor" {
                    self.dynamic.entry(name.clone()).or_default().push(pointer.to_owned());
                }
            }
        }
        base
    }

    /// Turns every reference into in-place edges, reading the places that only references lead to.
    fn resolve(&mut self) -> Result<(), Fault> {
        let mut targets = std::collections::HashSet::new();
        loop {
            let open: Vec<(String, Vec<(&'static str, String)>)> = self
                .nodes
                .iter_mut()
                .filter(|(_, node)| !node.references.is_empty())
                .map(|(pointer, node)| (pointer.clone(), std::mem::take(&mut node.references)))
                .collect();
            if open.is_empty() {
                return Ok(());
            }
            for (pointer, references) in open {
                for (keyword, absolute) in references {
                    let mut ends = vec![self.target(&pointer, keyword, &absolute)?];
                    if keyword == "$dynamicRef"
                        && let Some((_, name)) = absolute.rsplit_once('#')
                    {
                        ends.extend(self.dynamic.get(name).into_iter().flatten().cloned());
                    }
                    targets.extend(ends.iter().cloned());
                    if targets.len() > TARGETS {
                        return Err(fault(&pointer, format!("more than {TARGETS} targets of `$ref`")));
                    }
                    for end in &ends {
                        let (root, base) = (self.root, self.root_base.clone());
                        if let Some(value) = root.pointer(end) {
                            self.walk(end, value, &base);
                        }
                    }
                    if let Some(node) = self.nodes.get_mut(&pointer) {
                        node.in_place.extend(ends);
                    }
                }
            }
        }
    }

    fn target(&self, pointer: &str, keyword: &str, absolute: &str) -> Result<String, Fault> {
        let place = format!("{pointer}/{keyword}");
        if let Some(found) = self.anchors.get(absolute) {
            return Ok(found.clone());
        }
        let (resource, fragment) = absolute.split_once('#').unwrap_or((absolute, ""));
        let Some(root) = self.resources.get(resource) else {
            let message = format!(
                "the `{keyword}` leaves the document; only references within it are followed, e.g. \"#/$defs/Name\""
            );
            return Err(fault(&place, message));
        };
        let fragment = percent_decoded(fragment);
        let target = format!("{root}{fragment}");
        if (!fragment.is_empty() && !fragment.starts_with('/')) || self.root.pointer(&target).is_none() {
            return Err(fault(&place, format!("the `{keyword}` leads to nothing in the schema")));
        }
        Ok(target)
    }

    /// How many subschemas judge one value, this one included.
    fn work(
        &self,
        pointer: &str,
        path: &mut Vec<String>,
        known: &mut HashMap<String, u64>,
    ) -> Result<u64, Fault> {
        if let Some(work) = known.get(pointer) {
            return Ok(*work);
        }
        if path.iter().any(|p| p == pointer) {
            return Err(fault(pointer, "a `$ref` loop that never steps into a smaller value"));
        }
        if path.len() > SCHEMA_DEPTH {
            return Err(fault(pointer, format!("a chain of more than {SCHEMA_DEPTH} `$ref`s")));
        }
        let Some(node) = self.nodes.get(pointer) else { return Ok(1) };
        path.push(pointer.to_owned());
        let mut work: u64 = 1;
        for next in &node.in_place {
            work = work.saturating_add(self.work(next, path, known)?);
        }
        path.pop();
        if work > IN_PLACE_WORK {
            let message = format!("more than {IN_PLACE_WORK} subschemas judge one value; use fewer branches");
            return Err(fault(pointer, message));
        }
        known.insert(pointer.to_owned(), work);
        Ok(work)
    }
}

type Children<'v> = Vec<(String, &'v Value)>;

/// The subschemas of a schema under keywords that hold one, a list, or a map of them.
fn children<'v>(
    pointer: &str,
    members: &'v Map<String, Value>,
    single: &[&str],
    lists: &[&str],
    maps: &[&str],
) -> Children<'v> {
    let mut out = Vec::new();
    for (key, value) in members {
        match value {
            Value::Array(items) if lists.contains(&key.as_str()) => {
                out.extend(items.iter().enumerate().map(|(i, v)| (format!("{pointer}/{key}/{i}"), v)));
            }
            Value::Object(map) if maps.contains(&key.as_str()) => {
                out.extend(map.iter().map(|(k, v)| (format!("{pointer}/{key}/{}", escaped(k)), v)));
            }
            Value::Object(_) if single.contains(&key.as_str()) => {
                out.push((format!("{pointer}/{key}"), value));
            }
            _ => {}
        }
    }
    out
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// `%41` → `A`. A URI's fragment is written so; what is no UTF-8 then leads nowhere.
fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |i: usize| tail.get(i).and_then(|b| char::from(*b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, hex(0), hex(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
