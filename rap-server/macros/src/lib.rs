//! The `#[tool]` attribute of `rap-server`, which documents it. It reads a function and fills
//! `Tool::new(name, description, handler)`; whatever it can see to be wrong it says at compile time.

mod expand;
mod options;

use proc_macro::TokenStream;

/// Makes a tool of an `async fn`. Documented in `rap-server`.
#[proc_macro_attribute]
pub fn tool(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::tool(attribute.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
