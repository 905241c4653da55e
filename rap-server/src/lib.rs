#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod book;
mod call;
mod display;
mod engine;
mod error;
mod extract;
mod forwarded;
mod gauges;
mod handler;
mod letters;
pub mod life;
mod outbox;
mod output;
mod parcels;
mod past;
mod pump;
mod questions;
mod rates;
#[cfg(feature = "axum")]
mod router;
mod routes;
mod run;
mod said;
mod schema;
mod serve;
mod server;
mod service;
mod shutdown;
mod signal;
mod strays;
mod subscription;
pub mod testing;
mod tool;

pub use call::{Call, Pick};
pub use error::{StartError, ToolError};
pub use extract::{Args, Arguments, FromCall, State, States};
pub use handler::Handler;
pub use letters::{DeadLetter, ResendError};
pub use output::{IntoToolResult, Json, Reply, ToolOutput, by};
pub use serve::{Bound, ServeOptions, Undelivered};
pub use server::{ServerHandle, ToolServer};
pub use service::ToolService;
pub use subscription::{EmitError, Emitter, Subscribed, SubscriptionDraft};
pub use tool::{IntoTool, Tool};

pub use rap_http;
pub use rap_types;
pub use schemars;

/// Makes a tool of an `async fn`.
///
/// The doc comment is the description that the model reads, parameters are the arguments with their doc
/// comments as descriptions, and a parameter with `#[cx]` is taken from the call ([`FromCall`]). The name
/// then stands for the tool, to be given to [`ToolServer::tool`]; the function itself stays callable as
/// `call_name(..)`.
///
/// On a method (`&self` or `self: Arc<Self>`) the object is what the calls share: `Type::name` stands for the
/// tool, `.state(object)` gives it its object, and the method itself stays callable as `object.call_name(..)`.
///
/// Options: `read_only`, `destructive`, `idempotent`, `long_running`, `requires_auth = ".."`, `name = ".."`,
/// `description = ".."`, `display = ".."` (the display script), and `deny_unknown_arguments`: arguments that are no
/// parameter are ignored without it, and with it end the call in an error result that names them. (For `Args<T>` the
/// same is said on `T`, by `#[serde(deny_unknown_fields)]`.)
///
/// The macro knows types by their names: `Call`, `State<T>`, `UserId` and `Args<T>`, alone or below `rap_server`, are
/// those of this crate. One of your own that has such a name is written `self::Call`. What comes from the call (the user,
/// or a type of yours that is [`FromCall`]) is never filled in by the model: without `#[cx]` it does not compile.
///
/// ```
/// use rap_server::{Call, ToolError, tool};
///
/// /// Adds two numbers.
/// #[tool(read_only, idempotent, display = "`${args.a} + ${args.b}`")]
/// async fn add(
///     #[cx] call: Call,
///     /// The first number
///     a: i64,
///     /// The second number; 1 when it is left out
///     #[serde(default = "one")]
///     b: i64,
/// ) -> Result<i64, ToolError> {
///     call.check()?;
///     a.checked_add(b).ok_or_else(|| ToolError::new("the sum is too large"))
/// }
///
/// fn one() -> i64 {
///     1
/// }
///
/// let server = rap_server::ToolServer::new("calculator").tool(add);
/// ```
///
/// ```
/// use rap_server::{ToolServer, tool};
/// use std::sync::Mutex;
///
/// struct Notes(Mutex<Vec<String>>);
///
/// impl Notes {
///     /// Writes a note down, and says how many there are.
///     #[tool]
///     async fn add_note(&self, text: String) -> usize {
///         let mut notes = self.0.lock().unwrap();
///         notes.push(text);
///         notes.len()
///     }
/// }
///
/// let server = ToolServer::new("notes").state(Notes(Mutex::default())).tool(Notes::add_note);
/// ```
#[cfg(feature = "macros")]
pub use rap_server_macros::tool;

/// What the macro's code uses; not for people.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;

    pub use crate::extract::{FromModel, Origin};
    pub use crate::{Reply, ToolError};

    pub fn is_extractor<T: crate::FromCall>() {}
    pub fn is_argument<T: crate::extract::Argument>() {}
    pub fn are_arguments<T: crate::Arguments>() {}

    /// Around the author's function, so that the compiler says where its future holds what it must not.
    pub fn travels<F>(future: F) -> impl Future<Output = F::Output> + Send
    where
        F: Future + Send, // hold no `Rc`, no `RefCell` borrow and no std lock across an `.await`
    {
        future
    }

    /// In the function that the macro makes, so that the compiler says once what cannot be a result. It shows the
    /// line with the bound where it cannot choose.
    pub fn end<T, How>(value: T) -> Result<Reply, ToolError>
    where
        T: crate::IntoToolResult<How>, // for an error that is `Serialize`, return `Result<Json<T>, E>`
    {
        value.into_tool_result()
    }
}
