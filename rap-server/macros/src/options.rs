//! What stands in the parentheses of `#[tool(..)]`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{
    LitStr, Token,
    parse::{Parse, ParseStream},
};

/// The options, already as calls of the builder.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) setters: Vec<TokenStream>,
    pub(crate) deny_unknown_arguments: bool,
}

const KNOWN: &str = "read_only, destructive, idempotent, long_running, deny_unknown_arguments, requires_auth = \"..\", name = \"..\", description = \"..\", display = \"..\"";

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            let word = key.to_string();
            if seen.contains(&word) {
                return Err(syn::Error::new(key.span(), format!("`{word}` is given twice")));
            }
            match word.as_str() {
                "read_only" | "destructive" | "idempotent" | "long_running" | "deny_unknown_arguments" => {
                    if input.peek(Token![=]) {
                        return Err(syn::Error::new(
                            key.span(),
                            format!("`{word}` takes no value: write `#[tool({word})]`, or leave it out"),
                        ));
                    }
                    if word == "deny_unknown_arguments" {
                        options.deny_unknown_arguments = true;
                    } else {
                        options.setters.push(quote! { .#key() });
                    }
                }
                "requires_auth" | "display" => {
                    let value = text(input, &key)?;
                    options.setters.push(quote! { .#key(#value) });
                }
                "name" => {
                    let value = text(input, &key)?;
                    check_name(&value.value()).map_err(|e| syn::Error::new(value.span(), e))?;
                    options.name = Some(value);
                }
                "description" => options.description = Some(text(input, &key)?),
                _ => {
                    let message = format!("`{word}` is no option of #[tool]; there are: {KNOWN}");
                    return Err(syn::Error::new(key.span(), message));
                }
            }
            seen.push(word);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn text(input: ParseStream<'_>, key: &Ident) -> syn::Result<LitStr> {
    let missing = || syn::Error::new(key.span(), format!("`{key}` takes a text: write `{key} = \"..\"`"));
    if !input.peek(Token![=]) {
        return Err(missing());
    }
    input.parse::<Token![=]>()?;
    input.parse().map_err(|_| missing())
}

/// TLS-07 and the reserved name, in the words of `rap-types`.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 || length > 128 {
        return Err(format!("the tool name has {length} characters; 1 to 128 are allowed"));
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-./:".contains(*c))) {
        return Err(format!(
            "the tool name {name:?} contains {c:?}; letters, digits and _ - . / : are allowed"
        ));
    }
    if name == "receive_event" {
        return Err("the tool name \"receive_event\" is reserved for runtimes; choose another".to_owned());
    }
    Ok(())
}
