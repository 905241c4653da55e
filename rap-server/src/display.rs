//! Display scripts are looked at before the server starts: a runtime that fails at one falls back silently, so
//! nobody would ever tell its author. They are parsed and never run here.

/// The longest script, in bytes: it makes one line.
const BYTES: usize = 4096;

/// Says what is wrong with a script.
///
/// # Errors
/// A sentence for the author.
pub(crate) fn check(script: &str) -> Result<(), String> {
    if script.trim().is_empty() {
        return Err("its display script is empty; leave it out, or write e.g. \"`Weather in ${args.city}`\""
            .to_owned());
    }
    if script.len() > BYTES {
        return Err(format!("its display script has {} bytes; at most {BYTES} are taken", script.len()));
    }
    parse(script)
}

#[cfg(feature = "display-check")]
fn parse(script: &str) -> Result<(), String> {
    use rhai::{Engine, Map, OptimizationLevel, Scope};
    let mut engine = Engine::new_raw();
    engine
        .set_max_expr_depths(64, 32)
        .set_max_string_size(BYTES)
        .set_max_array_size(256)
        .set_max_map_size(256)
        .set_max_variables(64)
        .set_max_functions(0)
        .set_optimization_level(OptimizationLevel::None)
        // The one variable that there is: `city` where `args.city` was meant is found here.
        .set_strict_variables(true);
    for symbol in ["eval", "import", "export"] {
        engine.disable_symbol(symbol);
    }
    let mut scope = Scope::new();
    scope.push("args", Map::new());
    match engine.compile_expression_with_scope(&scope, script) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!(
            "its display script is no Rhai expression over the map `args`: {e}; write e.g. \"`Weather in ${{args.city}}`\""
        )),
    }
}

#[cfg(not(feature = "display-check"))]
fn parse(_: &str) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, feature = "display-check"))]
mod tests {
    use super::check;

    /// TLS-09: what is shown is an expression over `args`, bounded; everything else is said.
    #[test]
    fn scripts() {
        for good in [
            "`Weather in ${args.city}`",
            "\"Deploy \" + args.service",
            "args.city",
            "if args.units == () { `in ${args.city}` } else { `in ${args.city}, ${args.units}` }",
            "`${args[\"from\"]} to ${args.to.len()}`",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let deep = format!("{}1{}", "(".repeat(500), ")".repeat(500));
        let long = format!("`{}`", "x".repeat(5000));
        for (bad, word) in [
            ("", "empty"),
            ("  ", "empty"),
            ("`Weather in ${city}`", "city"),
            ("`Weather in ${args.city`", "no Rhai expression"),
            ("Weather in Oslo", "no Rhai expression"),
            ("let x = 1; x", "no Rhai expression"),
            ("loop {}", "no Rhai expression"),
            ("while true {}", "no Rhai expression"),
            ("eval(\"1\")", "eval"),
            ("import \"x\" as y", "import"),
            ("fn f() { 1 }", "no Rhai expression"),
            (deep.as_str(), "no Rhai expression"),
            (long.as_str(), "5002 bytes"),
        ] {
            let fault = check(bad).expect_err(bad);
            assert!(fault.contains(word), "{word:?} in {fault}");
        }
    }
}
