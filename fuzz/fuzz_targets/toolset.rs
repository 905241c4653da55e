//! Any document: no panic and no endless work, neither in compiling its schemas nor in judging arguments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_types::{Toolset, parse, validate::CompiledToolset};

fuzz_target!(|body: &[u8]| {
    let Ok(toolset) = parse::<Toolset>(body) else { return };
    let Ok(compiled) = CompiledToolset::new(toolset) else { return };
    for tool in compiled.toolset().tools() {
        let compiled = compiled.tool(tool.name.as_str()).expect("a tool of the toolset");
        // A schema's own text is as good an argument as any.
        let _ = compiled.check_arguments(&tool.input_schema);
    }
});
