//! Any document: no panic and no endless work, neither in compiling its schemas nor in judging arguments. What
//! follows a NUL byte is a second document: the arguments.
#![no_main]

mod split;

use libfuzzer_sys::fuzz_target;
use rap_types::{Toolset, parse, validate::CompiledToolset};
use serde_json::{Map, Value};

fuzz_target!(|input: &[u8]| {
    let (body, arguments) = split::split(input);
    let arguments: Option<Map<String, Value>> = serde_json::from_slice(arguments).ok();
    let Ok(toolset) = parse::<Toolset>(body) else { return };
    let Ok(compiled) = CompiledToolset::new(toolset) else { return };
    for tool in compiled.toolset().tools() {
        let compiled = compiled.tool(tool.name.as_str()).expect("a tool of the toolset");
        // A schema's own text is as good an argument as any.
        let _ = compiled.check_arguments(arguments.as_ref().unwrap_or(&tool.input_schema));
    }
});
