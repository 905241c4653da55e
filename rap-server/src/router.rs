//! The tools as routes of an axum app, behind the feature `axum`. Real routes, never a fallback: an app's layers lie
//! around them, its own catch-all does not swallow them, and what is not theirs is the app's to answer.

use crate::{StartError, ToolServer, ToolService, routes::Routes};
use axum::Router;

impl ToolServer {
    /// The service as an axum router, to be merged or nested. As [`into_service(false)`](Self::into_service), for a
    /// program that can be reached from other machines: authentication is needed. It leaves no handle, so that a
    /// shutdown of the program does not end its calls; take `into_service` where it should. For a router with a state
    /// of its own, take `try_into`.
    ///
    /// ```
    /// # use rap_server::{Tool, ToolServer};
    /// # let server = || ToolServer::new("greeter").tool(Tool::new("hello", "Says hello.", async || "hello"));
    /// let tools = server().public_url("https://example.com/tools").bearer_token("a-long-random-token").into_router()?;
    /// let app: axum::Router = axum::Router::new().nest("/tools", tools);
    ///
    /// #[derive(Clone)]
    /// struct App;
    /// let tools = server().public_url("https://example.com/tools").bearer_token("a-long-random-token");
    /// let app = axum::Router::<App>::new().nest("/tools", tools.try_into()?).with_state(App);
    /// # let _: axum::Router = app;
    /// # Ok::<(), rap_server::StartError>(())
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn into_router(self) -> Result<Router, StartError> {
        self.try_into()
    }
}

/// A route for each path that is served: the toolset's, the endpoint's, those of notices and of people's answers. They
/// stand as they are and below the path of the public URL, to be nested there (`nest("/tools", ..)`) or merged. Layers of
/// the app lie around them, route layers as well, and all other paths stay the app's. The state may be any.
///
/// Merging panics, as axum does, where the app has a route of its own at one of these paths, e.g. `/invoke`; nest then.
///
/// ```
/// # use rap_server::{Tool, ToolServer};
/// # use axum::{Router, routing::get};
/// # let server = ToolServer::new("greeter").tool(Tool::new("hello", "Says hello.", async || "hello"));
/// #[derive(Clone)]
/// struct App;
///
/// let tools = server.public_url("http://127.0.0.1:3010/tools").into_service(true)?;
/// let app: Router = Router::<App>::new()
///     .route("/{*page}", get(async || "mine"))
///     .nest("/tools", tools.into())
///     .with_state(App);
/// # Ok::<(), rap_server::StartError>(())
/// ```
impl<S: Clone + Send + Sync + 'static> From<ToolService> for Router<S> {
    fn from(service: ToolService) -> Self {
        let patterns = Routes::of(service.engine()).patterns();
        patterns.iter().fold(Router::new(), |router, path| router.route_service(path, service.clone()))
    }
}

/// As [`ToolServer::into_router`], for a router of any state.
impl<S: Clone + Send + Sync + 'static> TryFrom<ToolServer> for Router<S> {
    type Error = StartError;
    fn try_from(server: ToolServer) -> Result<Self, StartError> {
        server.into_service(false).map(Into::into)
    }
}
