//! What the macro says, and what it writes; the compiler's own words are tested in `rap-server`.

use super::*;

fn messages(attribute: &str, item: &str) -> Vec<String> {
    match tool(attribute.parse().unwrap(), item.parse().unwrap()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|e| e.to_string()).collect(),
    }
}

/// TLS-07, TLS-11, SUB-04: what the macro can see to be wrong it says, all of it, in words.
#[test]
fn wrong() {
    let many = "x".repeat(129);
    let long_name = format!("/// D\nasync fn {many}() {{}}");
    let extractors = |this: &str, n: usize| {
        let taken: String = (0..n).map(|i| format!("#[cx] e{i}: State<S{i}>, ")).collect();
        format!("/// D\nasync fn f({this} {taken} a: u8, b: u8, c: u8) {{}}")
    };
    let (five, six) = (extractors("", 5), extractors("", 6));
    let (method_of_four, method_of_five) = (extractors("&self,", 4), extractors("self: Arc<Self>,", 5));
    let table: &[(&str, &str, &[&str])] = &[
        ("", "/// D\nfn f() {}", &["a tool is an `async fn`"]),
        (
            "",
            "/// D\nasync fn f(text: &str, bytes: &[u8], call: &Call) {}",
            &["write `String`", "write `Vec<u8>`", "write `Call`"],
        ),
        ("", "/// D\nasync fn f<T>(x: T) {}", &["no generics"]),
        ("", "async fn f() {}", &["write a doc comment"]),
        ("", "/// \nasync fn f() {}", &["write a doc comment"]),
        ("", "/// D\nasync fn f(call: Call) {}", &["write `#[cx]` before it"]),
        ("", "/// D\nasync fn f(call: ::rap_server::Call) {}", &["write `#[cx]` before it"]),
        ("", "/// D\nasync fn f(n: State<u8>) {}", &["write `#[cx]` before it"]),
        (
            "",
            "/// D\nasync fn f(a: UserId, b: Option<UserId>, c: std::option::Option<::rap_server::rap_types::UserId>) {}",
            &["`UserId` comes from the call", "`Option<UserId>` comes from the call", "`self::UserId`"],
        ),
        (
            "",
            "/// D\nasync fn f(a: rap_server::rap_types::UserId, b: rap_types::UserId) {}",
            &["and `Option<UserId>`, since a call may have no user", "write `#[cx]` before it"],
        ),
        (
            "",
            "/// D\nasync fn f(call: self::Call, a: my::State<u8>, b: State, c: Args, d: my::Args<u8>) {}",
            &[],
        ),
        (
            "",
            "/// D\nasync fn f(a: self::UserId, b: Option<self::UserId>, c: UserId<u8>, #[cx] d: Option<UserId>) {}",
            &[],
        ),
        ("", &five, &[]),
        ("", &six, &["at most five parameters come from the call (four on a method)"]),
        ("", &method_of_four, &[]),
        ("", &method_of_five, &["at most five parameters come from the call (four on a method)"]),
        ("", "/// D\nasync unsafe fn f() {}", &["no `unsafe fn`"]),
        ("", "/// D\nconst async unsafe extern \"C\" fn f() {}", &["`const`", "`unsafe fn`", "`extern`"]),
        ("deny_unknown_arguments", "/// D\nasync fn f(a: u8) {}", &[]),
        ("deny_unknown_arguments", "/// D\nasync fn f() {}", &[]),
        ("deny_unknown_arguments", "/// D\nasync fn f(a: Args<A>) {}", &["deny_unknown_fields"]),
        ("", "/// D\nasync fn f((a, b): (u8, u8)) {}", &["needs a name"]),
        ("", "/// D\nasync fn f(a: u8, rest: Args<u8>) {}", &["not both"]),
        ("", "/// D\nasync fn f(a: Args<u8>, b: Args<u8>) {}", &["not both"]),
        ("", "/// D\nasync fn f(#[cx(1)] a: u8) {}", &["takes no options"]),
        ("", "/// D\nasync fn f(#[cx] #[serde(default)] a: u8) {}", &["no argument of the model"]),
        ("", "/// D\nasync fn f(self) {}", &["takes `&self`"]),
        ("", "/// D\nasync fn f(&mut self) {}", &["takes `&self`"]),
        ("", "/// D\nasync fn f(self: Box<Self>) {}", &["takes `&self`"]),
        ("", "/// D\nstruct S;", &["goes on an `async fn`"]),
        ("", "/// D\nasync fn receive_event() {}", &["reserved for runtimes"]),
        ("", &long_name, &["129 characters"]),
        ("readonly", "/// D\nasync fn f() {}", &["`readonly` is no option of #[tool]; there are: read_only"]),
        ("read_only = true", "/// D\nasync fn f() {}", &["takes no value"]),
        ("display", "/// D\nasync fn f() {}", &["takes a text"]),
        ("display = 7", "/// D\nasync fn f() {}", &["takes a text"]),
        ("read_only, read_only", "/// D\nasync fn f() {}", &["given twice"]),
        ("name = \"get weather\"", "/// D\nasync fn f() {}", &["contains ' '"]),
        ("name = \"\"", "/// D\nasync fn f() {}", &["0 characters"]),
        ("", "fn f(self, a: &str) {}", &["async", "doc comment", "`&self`", "`String`"]),
    ];
    for (attribute, item, expected) in table {
        let got = messages(attribute, item);
        assert_eq!(got.len(), expected.len(), "{item}: {got:?}");
        for word in *expected {
            assert!(got.iter().any(|m| m.contains(word)), "{word:?} for {item}: {got:?}");
        }
    }
    assert!(messages("read_only, name = \"a.b/c:d-e_f\"", "/// D\nasync fn f(a: u8) -> u8 { a }").is_empty());
}

/// What a method expands to: a function that makes the tool, and the method under its own name.
#[test]
fn expansion_of_a_method() {
    for (item, this) in [
        ("/// Adds.\npub async fn add(&self, #[cx] call: Call, a: i64) -> i64 { a }", "& * __rap_self"),
        ("/// Adds.\npub async fn add(self: Arc<Self>, #[cx] call: Call, a: i64) -> i64 { a }", "__rap_self"),
    ] {
        let tokens = tool("read_only".parse().unwrap(), item.parse().unwrap()).unwrap();
        let whole: syn::ItemImpl = syn::parse_quote! { impl T { #tokens } };
        assert_eq!(whole.items.len(), 2, "the tool and the method");
        let text = tokens.to_string();
        for part in [
            "pub fn add () -> :: rap_server :: Tool".to_owned(),
            "pub async fn call_add (".to_owned(),
            format!("travels (Self :: call_add ({this} , __rap_cx_0 , __rap_args . a)) . await)"),
        ] {
            assert!(text.contains(&part), "{part} in {text}");
        }
    }
}

/// What a tool expands to: the macro only fills `Tool::new`.
#[test]
fn expansion() {
    let item = "/// Adds.\n/// Twice.\n#[allow(x)] pub async fn r#add(#[cx] call: Call, /// A\n a: i64) -> i64 { a }";
    let tokens = tool("read_only".parse().unwrap(), item.parse().unwrap()).unwrap();
    let file: syn::File = syn::parse2(tokens.clone()).expect("the expansion parses");
    assert_eq!(file.items.len(), 2, "the tool and its function");
    let text = tokens.to_string();
    for part in [
        "pub fn r#add () -> :: rap_server :: Tool",
        "pub async fn call_add (call : Call , a : i64) -> i64",
        ":: rap_server :: Tool :: new (\"add\" , \"Adds.\\nTwice.\" ,",
        "__private :: end (:: rap_server :: __private :: travels (call_add (__rap_cx_0 , __rap_args . a)) . await)",
        "if :: rap_server :: __private :: Origin :: < i64 > :: FROM_CALL",
        ") . read_only ()",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
