//! Which tools may be offered, and which not and why (INV-01, INV-02, INV-11, SUB-04, TLS-04, TLS-14).

use crate::url;
use rap_client::{
    Catalog,
    catalog::{self, CatalogProblem},
};
use rap_types::{Tool, ToolName, Toolset, validate::CompiledToolset};
use serde_json::json;

fn toolset(endpoint: &str, names: &[&str]) -> CompiledToolset {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tools = names
        .iter()
        .map(|name| Tool::new(ToolName::new(*name).unwrap(), *name, schema.as_object().unwrap().clone()))
        .collect();
    CompiledToolset::new(Toolset::new("t", url(endpoint), tools).unwrap()).unwrap()
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.iter().map(|tool| tool.tool().name.as_str()).collect()
}

/// INV-01, INV-02, INV-11: only a name that is loaded leads anywhere, arguments are checked before, and the
/// endpoint is the toolset's own.
#[test]
fn a_tool_leads_to_the_endpoint_of_its_toolset_on_whatever_host() {
    let catalog = catalog::merge(
        [
            (url("http://a/"), toolset("https://calls.example/a", &["one", "two"])),
            (url("http://b/p"), toolset("http://b/p/call", &["three"])),
        ],
        [],
    );
    assert_eq!(names(&catalog), ["one", "three", "two"]);
    assert!(catalog.problems().is_empty());
    let one = catalog.get("one").unwrap();
    assert_eq!((one.base().as_str(), one.endpoint().as_str()), ("http://a/", "https://calls.example/a"));
    assert!(one.compiled().check_arguments(json!({"city": "Oslo"}).as_object().unwrap()).is_ok());
    assert!(one.compiled().check_arguments(json!({}).as_object().unwrap()).is_err());
    assert!(catalog.get("One").is_none(), "names are case-sensitive");
    assert!(catalog.get("four").is_none());
}

/// TLS-04.
#[test]
fn a_name_of_two_toolsets_is_offered_by_neither() {
    let catalog = catalog::merge(
        [
            (url("http://a"), toolset("http://a/x", &["shared", "mine"])),
            (url("http://b"), toolset("http://b/x", &["shared", "yours", "Shared"])),
            (url("http://c"), toolset("http://c/x", &["shared"])),
        ],
        [],
    );
    assert_eq!(names(&catalog), ["Shared", "mine", "yours"]);
    let [problem @ CatalogProblem::Duplicate { bases, .. }] = catalog.problems() else { panic!() };
    assert_eq!(bases.len(), 3);
    assert_eq!(
        problem.to_string(),
        "the tool shared is defined by http://a/ and http://b/ and http://c/; none of them is offered until all but one are renamed or removed"
    );
}

#[test]
fn a_built_in_is_never_shadowed() {
    let catalog =
        catalog::merge([(url("http://a"), toolset("http://a/x", &["sleep", "mine"]))], ["sleep", "spawn"]);
    assert_eq!(names(&catalog), ["mine"]);
    assert_eq!(
        catalog.problems()[0].to_string(),
        "the tool sleep of http://a/ has the name of a built-in tool and is not offered; rename it there"
    );
}

/// SUB-04.
#[test]
fn the_synthetic_name_makes_a_toolset_invalid() {
    let catalog = catalog::merge(
        [
            (url("http://a"), toolset("http://a/x", &["receive_event", "mine"])),
            (url("http://b"), toolset("http://b/x", &["mine"])),
        ],
        [],
    );
    assert_eq!(names(&catalog), ["mine"], "the other server's, which now is the only one");
    assert_eq!(catalog.get("mine").unwrap().base().as_str(), "http://b");
    assert!(matches!(catalog.problems(), [CatalogProblem::Reserved { .. }]));
}

#[test]
fn a_server_that_is_listed_twice_counts_once() {
    let tools = toolset("http://a/x", &["mine"]);
    let catalog = catalog::merge([(url("http://a"), tools.clone()), (url("http://a/"), tools)], []);
    assert_eq!(names(&catalog), ["mine"]);
    assert!(catalog.problems().is_empty());
}

/// TLS-14: what a model takes keeps its name, whatever else there is; the rest gets names that it takes, all
/// different, the same every time, and each leads back to its tool.
#[test]
fn a_model_reads_names_that_it_takes() {
    let long = "l".repeat(128);
    let longer = format!("{}x", "l".repeat(127));
    let names = ["a.b", "a/b", "a:b", "a_b", "a_b_2", "plain", "sleep.now", &long, &longer];
    let catalog = catalog::merge([(url("http://a"), toolset("http://a/x", &names))], []);
    let made = catalog.model_names(64, ["sleep_now", "receive_event"]);
    assert_eq!(made, catalog.model_names(64, ["sleep_now", "receive_event"]));
    for (tool, name) in [
        ("a_b", "a_b"),
        ("a_b_2", "a_b_2"),
        ("plain", "plain"),
        ("a.b", "a_b_3"),
        ("a/b", "a_b_4"),
        ("a:b", "a_b_5"),
        ("sleep.now", "sleep_now_2"),
    ] {
        assert_eq!(made.name_of(tool), Some(name), "{tool}");
    }
    assert_eq!(made.iter().count(), names.len(), "no two have the same");
    for (name, tool) in made.iter() {
        assert!((1..=64).contains(&name.len()), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{name}");
        assert_eq!(made.name_of(tool.as_str()), Some(name));
        assert_eq!(made.tool(name), Some(tool));
        assert!(catalog.get(tool.as_str()).is_some());
    }
    assert_eq!((made.tool("a.b"), made.name_of("a_b_3")), (None, None));
}
