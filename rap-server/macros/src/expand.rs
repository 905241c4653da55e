//! From a function to a function of the same name that makes the tool, beside the original, which is called
//! `call_name` from then on; a method the same.

use crate::options::{Options, check_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Expr, FnArg, GenericArgument, ItemFn, Lit, Meta, Pat, PatType, PathArguments, ReturnType,
    Type, spanned::Spanned,
};

/// How a parameter is filled.
enum Filled {
    /// From the call: `#[cx]`.
    Extracted,
    /// The one struct of all arguments: `Args<T>`.
    Whole,
    /// One argument of its own.
    Argument { name: Ident, passed: Vec<Attribute> },
}

struct Parameter {
    filled: Filled,
    ty: Type,
}

pub(crate) fn tool(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(attribute)?;
    let mut function: ItemFn = syn::parse2(item)
        .map_err(|e| syn::Error::new(e.span(), "#[tool] goes on an `async fn` with a body"))?;
    let mut faults = Faults::default();
    check_signature(&function, &mut faults);

    let doc = doc_text(&function.attrs);
    let description = options.description.as_ref().map(|d| d.value()).unwrap_or(doc);
    if description.is_empty() {
        faults.push(
            function.sig.ident.span(),
            "a tool has a description: write a doc comment (`/// ..`), the model chooses tools by it",
        );
    }
    let name = function.sig.ident.clone();
    let wire_name = options.name.map_or_else(|| unraw(&name), |n| n.value());
    if let Err(fault) = check_name(&wire_name) {
        faults.push(name.span(), format!("{fault}; write `#[tool(name = \"..\")]`"));
    }
    let receiver = receiver(&function, &mut faults);
    let parameters = parameters(&mut function, &mut faults);
    check_count(&parameters, function.sig.receiver().is_some(), &mut faults);
    let whole = parameters.iter().any(|p| matches!(p.filled, Filled::Whole));
    if options.deny_unknown_arguments && whole {
        faults.push(
            function.sig.inputs.span(),
            "`deny_unknown_arguments` is for plain parameters: write `#[serde(deny_unknown_fields)]` on the struct of `Args<T>`",
        );
    }
    faults.done()?;

    let wiring = wiring(&parameters, options.deny_unknown_arguments);
    let tool = Parts { wire_name: &wire_name, description: &description, setters: &options.setters };
    Ok(generate(function, &tool, wiring, receiver))
}

#[derive(Default)]
struct Faults(Option<syn::Error>);

impl Faults {
    fn push(&mut self, span: Span, message: impl std::fmt::Display) {
        let error = syn::Error::new(span, message);
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn done(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn check_signature(function: &ItemFn, faults: &mut Faults) {
    let sig = &function.sig;
    if sig.asyncness.is_none() {
        faults.push(sig.fn_token.span, "a tool is an `async fn`: write `async` before `fn`");
    }
    if !sig.generics.params.is_empty() {
        faults.push(
            sig.generics.span(),
            "a tool has no generics or lifetimes: its arguments are owned and of one type",
        );
    }
    if let Some(unsafety) = &sig.unsafety {
        faults.push(
            unsafety.span(),
            "a tool is no `unsafe fn`: the model calls it with whatever it likes; check the arguments, and be unsafe inside",
        );
    }
    if let Some(constness) = &sig.constness {
        faults.push(constness.span(), "a tool is no `const fn`: leave `const` out");
    }
    if let Some(abi) = &sig.abi {
        faults.push(abi.span(), "a tool is called by Rust: leave `extern` out");
    }
    if let Some(variadic) = &sig.variadic {
        faults.push(variadic.span(), "a tool takes no variadic arguments");
    }
}

/// How a method takes the state that it is a method of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Borrowed,
    Shared,
}

fn receiver(function: &ItemFn, faults: &mut Faults) -> Option<Receiver> {
    let receiver = function.sig.receiver()?;
    let shared = match &*receiver.ty {
        Type::Path(path) => {
            let last = path.path.segments.last();
            last.is_some_and(|s| s.ident == "Arc") && quote!(#path).to_string().ends_with("< Self >")
        }
        _ => false,
    };
    match (&receiver.reference, receiver.mutability, shared) {
        (Some(_), None, _) => Some(Receiver::Borrowed),
        (None, _, true) => Some(Receiver::Shared),
        _ => {
            faults.push(
                receiver.span(),
                "a tool's method takes `&self` or `self: Arc<Self>`: calls run at the same time, so what changes is behind a lock",
            );
            None
        }
    }
}

fn parameters(function: &mut ItemFn, faults: &mut Faults) -> Vec<Parameter> {
    let mut found = Vec::new();
    for input in &mut function.sig.inputs {
        let typed = match input {
            FnArg::Receiver(_) => continue,
            FnArg::Typed(typed) => typed,
        };
        if let Type::Reference(reference) = &*typed.ty {
            let owned = owned_form(&reference.elem);
            faults.push(reference.span(), format!("a tool owns its parameters: write `{owned}`"));
            continue;
        }
        if let Some(parameter) = parameter(typed, faults) {
            found.push(parameter);
        }
    }
    let whole = found.iter().filter(|p| matches!(p.filled, Filled::Whole)).count();
    let single = found.iter().filter(|p| matches!(p.filled, Filled::Argument { .. })).count();
    if whole > 1 || (whole == 1 && single > 0) {
        faults.push(
            function.sig.inputs.span(),
            "a tool takes either one `Args<T>` or plain parameters, not both; what comes from the call has `#[cx]`",
        );
    }
    found
}

/// No handler takes more from the call than `rap_server` has forms for; a method takes its object from there.
fn check_count(parameters: &[Parameter], method: bool, faults: &mut Faults) {
    let most = if method { 4 } else { 5 };
    let mut extracted = parameters.iter().filter(|p| matches!(p.filled, Filled::Extracted));
    if let Some(one_too_many) = extracted.nth(most) {
        faults.push(
            one_too_many.ty.span(),
            "at most five parameters come from the call (four on a method): \
             take what belongs together as one type that implements `FromCall`, or as one `State<T>`",
        );
    }
}

fn parameter(typed: &mut PatType, faults: &mut Faults) -> Option<Parameter> {
    let ty = (*typed.ty).clone();
    let attributes = std::mem::take(&mut typed.attrs);
    let mut passed = Vec::new();
    let mut extracted = false;
    for attribute in attributes {
        let path = attribute.path();
        if path.is_ident("cx") {
            if !matches!(attribute.meta, Meta::Path(_)) {
                faults.push(attribute.span(), "`#[cx]` takes no options");
            }
            extracted = true;
        } else if path.is_ident("doc") || path.is_ident("serde") || path.is_ident("schemars") {
            passed.push(attribute);
        } else {
            typed.attrs.push(attribute);
        }
    }
    if extracted {
        if passed.iter().any(|a| !a.path().is_ident("doc")) {
            faults.push(
                typed.span(),
                "a parameter with `#[cx]` is no argument of the model and takes no such attribute",
            );
        }
        return Some(Parameter { filled: Filled::Extracted, ty });
    }
    if is_ours(&ty, "Args", true) {
        return Some(Parameter { filled: Filled::Whole, ty });
    }
    if let Some((what, name, how)) = from_call(&ty) {
        faults.push(
            ty.span(),
            format!(
                "`{what}` comes from the call, not from the model: {how} \
                 (and a type of your own that has this name as `self::{name}`)"
            ),
        );
        return None;
    }
    match &*typed.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
            Some(Parameter { filled: Filled::Argument { name: pat.ident.clone(), passed }, ty })
        }
        other => {
            faults.push(
                other.span(),
                "an argument of the model needs a name: write `name: Type` (and `#[cx]` before what comes from the call)",
            );
            None
        }
    }
}

/// What comes from the call, as far as its path says: how it is called, the name in it, and what to write instead.
/// (The compiler is asked as well, see [`wiring`].)
fn from_call(ty: &Type) -> Option<(&'static str, &'static str, &'static str)> {
    const HOW: &str = "write `#[cx]` before it";
    if is_ours(ty, "Call", false) {
        return Some(("Call", "Call", HOW));
    }
    if is_ours(ty, "State", true) {
        return Some(("State", "State", HOW));
    }
    if is_ours(ty, "UserId", false) {
        let how = "write `#[cx]` before it, and `Option<UserId>`, since a call may have no user";
        return Some(("UserId", "UserId", how));
    }
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().filter(|s| s.ident == "Option")?;
    is_ours(only_argument(ty)?, "UserId", false).then_some(("Option<UserId>", "UserId", HOW))
}

/// The `T` of `Option<T>` and `Args<T>`.
fn only_argument(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

/// Whether a type is the one of `rap_server`, as far as its path says: its name alone, or below `rap_server` (or
/// `rap_types`, which it gives out).
fn is_ours(ty: &Type, name: &str, generic: bool) -> bool {
    let Type::Path(path) = ty else { return false };
    let segments = &path.path.segments;
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return false };
    let place = segments.len() == 1 || first.ident == "rap_server" || first.ident == "rap_types";
    place && last.ident == name && last.arguments.is_none() != generic
}

fn owned_form(elem: &Type) -> String {
    match elem {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => {
            let inner = &slice.elem;
            format!("Vec<{}>", quote!(#inner))
        }
        other => quote!(#other).to_string().replace(" < ", "<").replace(" >", ">"),
    }
}

fn unraw(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// The doc comment as text: one leading space off each line.
fn doc_text(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("doc")) {
        if let Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            for line in text.value().split('\n') {
                lines.push(line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned());
            }
        }
    }
    lines.join("\n").trim().to_owned()
}

/// What a tool is made of beside its function.
struct Parts<'a> {
    wire_name: &'a str,
    description: &'a str,
    setters: &'a [TokenStream],
}

/// How the parameters are filled: what the handler takes, what it passes on, the struct of the arguments, and
/// what the compiler is to check.
struct Wiring {
    taken: Vec<TokenStream>,
    passed_on: Vec<TokenStream>,
    arguments: TokenStream,
    checks: Vec<TokenStream>,
    /// What the compiler is to refuse although its path does not say what it is: an alias, or an author's own.
    guards: Vec<TokenStream>,
}

fn wiring(parameters: &[Parameter], deny_unknown: bool) -> Wiring {
    let private = quote! { ::rap_server::__private };
    let mut fields = Vec::new();
    let mut taken = Vec::new();
    let mut passed_on = Vec::new();
    let mut checks = Vec::new();
    let mut guards = Vec::new();
    let mut whole = None;
    for (index, parameter) in parameters.iter().enumerate() {
        let ty = &parameter.ty;
        match &parameter.filled {
            Filled::Extracted => {
                let local = format_ident!("__rap_cx_{index}");
                taken.push(quote! { #local: #ty });
                passed_on.push(quote! { #local });
                checks.push(quote_spanned! { ty.span() => #private::is_extractor::<#ty>(); });
            }
            Filled::Whole => {
                let local = format_ident!("__rap_args");
                whole = Some(quote! { #local: #ty });
                if let Some(inner) = only_argument(ty) {
                    checks.push(quote_spanned! { inner.span() => #private::are_arguments::<#inner>(); });
                }
                passed_on.push(quote! { #local });
            }
            Filled::Argument { name, passed } => {
                fields.push(quote! { #(#passed)* #name: #ty });
                // What is read in a way of its own needs no derives.
                if passed.iter().all(|a| a.path().is_ident("doc")) {
                    checks.push(quote_spanned! { ty.span() => #private::is_argument::<#ty>(); });
                }
                let message = format!(
                    "the parameter `{name}` comes from the call, not from the model: write `#[cx]` before it"
                );
                guards.push(quote_spanned! { ty.span() =>
                    const _: () = if #private::Origin::<#ty>::FROM_CALL { ::core::panic!("{}", #message) };
                });
                passed_on.push(quote! { __rap_args.#name });
            }
        }
    }
    let arguments = if !fields.is_empty() || deny_unknown {
        let local = if fields.is_empty() {
            quote! { _ }
        } else {
            quote! { __rap_args }
        };
        taken.push(quote! { ::rap_server::Args(#local): ::rap_server::Args<__RapArguments> });
        let deny = deny_unknown.then(|| quote! { #[serde(deny_unknown_fields)] });
        quote! {
            #[derive(#private::serde::Deserialize, #private::schemars::JsonSchema)]
            #[serde(crate = "::rap_server::__private::serde")]
            #[schemars(crate = "::rap_server::__private::schemars")]
            #deny
            struct __RapArguments { #(#fields,)* }
        }
    } else {
        taken.extend(whole);
        TokenStream::new()
    };
    Wiring { taken, passed_on, arguments, checks, guards }
}

/// Documentation, conditions, and all other attributes. What is configured out is out whole.
fn sorted(attributes: Vec<Attribute>) -> (Vec<Attribute>, Vec<Attribute>, Vec<Attribute>) {
    let (docs, others): (Vec<_>, Vec<_>) = attributes.into_iter().partition(|a| a.path().is_ident("doc"));
    let (cfgs, others) = others.into_iter().partition(|a| a.path().is_ident("cfg"));
    (docs, cfgs, others)
}

/// `name` makes the tool, `call_name` is the function itself. Of a method the tool takes the state of its type.
fn generate(function: ItemFn, tool: &Parts<'_>, wiring: Wiring, receiver: Option<Receiver>) -> TokenStream {
    let ItemFn { attrs, vis, mut sig, block } = function;
    let Parts { wire_name, description, setters } = tool;
    let Wiring { mut taken, mut passed_on, arguments, checks, guards } = wiring;
    let (docs, cfgs, others) = sorted(attrs);
    let name = sig.ident.clone();
    sig.ident = format_ident!("call_{}", unraw(&name), span = name.span());

    // Where the type of the result stands, so that the compiler points at it; one place, so that it says it once.
    let at = match &sig.output {
        ReturnType::Type(_, ty) if !matches!(**ty, Type::ImplTrait(_)) => ty.span(),
        _ => name.span(),
    };
    let original = Ident::new(&sig.ident.to_string(), at);
    let original = match receiver {
        Some(receiver) => {
            taken.insert(0, quote! { ::rap_server::State(__rap_self): ::rap_server::State<Self> });
            passed_on.insert(
                0,
                match receiver {
                    Receiver::Borrowed => quote! { &*__rap_self },
                    Receiver::Shared => quote! { __rap_self },
                },
            );
            quote_spanned! { at => Self::#original }
        }
        None => quote! { #original },
    };
    let end = quote_spanned! { at =>
        ::rap_server::__private::end(::rap_server::__private::travels(#original(#(#passed_on),*)).await)
    };
    let guards = (!guards.is_empty()).then(|| {
        quote! {
            const _: () = {
                #[allow(unused_imports)] // unused where a guard finds something
                use ::rap_server::__private::FromModel as _;
                #(#guards)*
            };
        }
    });
    let itself = format!("The function behind the tool `{wire_name}`, for tests and for other tools.");
    quote! {
        #(#cfgs)*
        #(#docs)*
        #vis fn #name() -> ::rap_server::Tool {
            #arguments
            #guards

            if false {
                #(#checks)*
            }
            ::rap_server::Tool::new(
                #wire_name,
                #description,
                |#(#taken),*| async move { #end },
            ) #(#setters)*
        }

        #(#cfgs)*
        #[doc = #itself]
        #(#others)*
        #[allow(clippy::too_many_arguments, dead_code)]
        #vis #sig #block
    }
}

#[cfg(test)]
mod tests;
