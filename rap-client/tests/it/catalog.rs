//! Which tools may be offered, and which not and why (TLS-04, SUB-04, INV-11).

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
