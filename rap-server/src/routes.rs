//! What is served where: five fixed paths, people's answers and the endpoint, each with the path of the base URL and
//! without, because what is in front of a server (a proxy, `nest`) may pass that on or take it off.

use crate::{engine::Engine, service::INVOKE};
use rap_types::HttpUrl;

/// What is served where.
pub(crate) struct Routes {
    /// The path of the base URL, without a slash at its end.
    prefix: String,
    /// The path of the endpoint, served beside `/invoke`.
    endpoint: String,
    /// The same without the prefix, where it begins with it.
    endpoint_below: Option<String>,
}

/// What a path leads to.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Toolset,
    Invoke,
    Close,
    Cancel,
    Status,
    Choice(&'a str),
}

/// The paths that every server has, below its base.
const FIXED: [(&str, Path<'static>); 5] = [
    (INVOKE, Path::Invoke),
    (rap_types::WELL_KNOWN_TOOLSET, Path::Toolset),
    ("close_thread", Path::Close),
    ("cancel_tool_call", Path::Cancel),
    ("tool_call_status", Path::Status),
];

/// Before the token of a question.
const CHOICES: &str = "choices/";

impl Routes {
    pub(crate) fn new(prefix: String, endpoint: &HttpUrl) -> Self {
        let endpoint = endpoint.parsed().path().to_owned();
        let endpoint_below = match endpoint.strip_prefix(prefix.as_str()) {
            Some("") => Some("/".to_owned()),
            below => below.filter(|below| below.starts_with('/')).map(str::to_owned),
        };
        Self { prefix, endpoint, endpoint_below }
    }

    pub(crate) fn of(engine: &Engine) -> Self {
        Self::new(engine.base_path(), &engine.toolset.toolset().endpoint)
    }

    /// What a path leads to: the endpoint's, one below the base's path, else as it came.
    pub(crate) fn route<'a>(&self, path: &'a str) -> Option<Path<'a>> {
        if self.endpoints().any(|endpoint| path == endpoint) { Some(Path::Invoke) } else { self.beside(path) }
    }

    fn beside<'a>(&self, path: &'a str) -> Option<Path<'a>> {
        let below = path.strip_prefix(self.prefix.as_str()).filter(|below| below.starts_with('/'));
        below.and_then(of_a_server).or_else(|| of_a_server(path))
    }

    fn endpoints(&self) -> impl Iterator<Item = &str> {
        [Some(self.endpoint.as_str()), self.endpoint_below.as_deref()].into_iter().flatten()
    }

    /// Whether the endpoint takes the place of something else that runtimes call.
    pub(crate) fn clash(&self) -> bool {
        self.endpoints().any(|path| !matches!(self.beside(path), None | Some(Path::Invoke | Path::Choice(_))))
    }

    /// Every path that leads to something, as an axum route, each once.
    #[cfg(feature = "axum")]
    pub(crate) fn patterns(&self) -> std::collections::BTreeSet<String> {
        let below = |prefix: &str| {
            let fixed = FIXED.map(|(path, _)| pattern(&format!("{prefix}/{path}")));
            let choices = pattern(&format!("{prefix}/{CHOICES}*"));
            fixed.into_iter().chain([choices])
        };
        let fixed = below("").chain(below(&self.prefix));
        fixed.chain(self.endpoints().map(pattern)).collect()
    }
}

fn of_a_server(path: &str) -> Option<Path<'_>> {
    let path = path.trim_start_matches('/');
    let fixed = FIXED.iter().find_map(|(name, known)| (*name == path).then_some(*known));
    fixed.or_else(|| path.strip_prefix(CHOICES).map(Path::Choice))
}

/// A path as an axum route that matches it. Braces are doubled. A segment that begins with `:` or `*` cannot be said in
/// a route: any segment is let through in its place, and the service looks at what came. Captures are named by where
/// they stand, since two routes that differ in nothing but their names are refused.
#[cfg(feature = "axum")]
fn pattern(path: &str) -> String {
    let segment = |(at, segment): (usize, &str)| match segment.as_bytes().first() {
        Some(b':' | b'*') => format!("{{rap{at}}}"),
        _ => segment.replace('{', "{{").replace('}', "}}"),
    };
    path.split('/').enumerate().map(segment).collect::<Vec<_>>().join("/")
}
