//! What a tool's function can take beside its arguments: the [`Call`], shared state, the user; and what an
//! author can add.

use crate::{Call, ToolError};
use rap_types::UserId;
use serde_json::{Map, Value};
use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
};

/// Something that a tool's function can take from its call.
///
/// ```
/// use rap_server::{Call, FromCall, ToolError};
///
/// /// The depth of the thread that calls.
/// struct Depth(usize);
///
/// impl FromCall for Depth {
///     async fn from_call(call: &Call) -> Result<Self, ToolError> {
///         Ok(Self(call.ancestors().len()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a call",
    label = "not something that a tool can take with `#[cx]`",
    note = "a tool takes `Call`, `State<T>`, `Option<UserId>`, or a type that implements `FromCall`",
    note = "an argument that the model gives has no `#[cx]`"
)]
pub trait FromCall: Sized + Send {
    /// Takes it.
    ///
    /// # Errors
    /// The error that the call ends in, without the function having run.
    fn from_call(call: &Call) -> impl Future<Output = Result<Self, ToolError>> + Send;

    /// Looked at before the server starts: a sentence when this can never be taken, e.g. because a state is
    /// missing.
    ///
    /// # Errors
    /// The sentence.
    fn check(states: &States) -> Result<(), String> {
        let _ = states;
        Ok(())
    }
}

impl FromCall for Call {
    async fn from_call(call: &Call) -> Result<Self, ToolError> {
        Ok(call.clone())
    }
}

/// The user on whose behalf the call is made, if the runtime knows.
impl FromCall for Option<UserId> {
    async fn from_call(call: &Call) -> Result<Self, ToolError> {
        Ok(call.user().cloned())
    }
}

/// What a plain parameter can be: asked by the macro, so that the compiler says once, and in words, what the code that
/// is derived for it would say three times.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a tool",
    label = "the model cannot give this",
    note = "derive `serde::Deserialize` and `schemars::JsonSchema` for it (`use rap_server::schemars::{{self, JsonSchema}}`)",
    note = "what comes from the call has `#[cx]` before it"
)]
pub trait Argument {}

impl<T: serde::de::DeserializeOwned + schemars::JsonSchema> Argument for T {}

/// Whether a type comes from the call, asked by the macro of the parameters that the model fills in.
#[doc(hidden)]
#[derive(Debug)]
pub struct Origin<T: ?Sized>(PhantomData<T>);

/// The answer for all types that do not come from the call: what [`Origin`] says itself goes before.
#[doc(hidden)]
pub trait FromModel {
    /// Whether it comes from the call.
    const FROM_CALL: bool = false;
}

impl<T: ?Sized> FromModel for Origin<T> {}

impl<T: FromCall> Origin<T> {
    /// Whether it comes from the call.
    pub const FROM_CALL: bool = true;
}

// Who the user is never comes from the model, whether or not the tool runs without one.
impl Origin<UserId> {
    /// Whether it comes from the call.
    pub const FROM_CALL: bool = true;
}

/// What all tools of a server share, given to [`ToolServer::state`](crate::ToolServer::state).
///
/// ```
/// use rap_server::{State, ToolServer, tool};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Counts up, and says how far.
/// #[tool]
/// async fn count(#[cx] counter: State<AtomicU64>) -> u64 {
///     counter.fetch_add(1, Ordering::Relaxed) + 1
/// }
///
/// let server = ToolServer::new("counter").state(AtomicU64::new(0)).tool(count);
/// ```
///
/// It stands for what is in it (`Deref`), with one trap: its own field is called `0`, so `state.0` is the `Arc`, also
/// where `T` is a tuple struct with a field of that name. Take it apart where it is taken:
///
/// ```
/// use rap_server::{State, ToolServer, tool};
///
/// struct Greeting(String);
///
/// /// Greets.
/// #[tool]
/// async fn greet(#[cx] State(greeting): State<Greeting>) -> String {
///     greeting.0.clone()
/// }
///
/// let server = ToolServer::new("greeter").state(Greeting("hello".into())).tool(greet);
/// ```
#[derive(Debug)]
pub struct State<T>(pub Arc<T>);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + Sync + 'static> FromCall for State<T> {
    async fn from_call(call: &Call) -> Result<Self, ToolError> {
        call.states()
            .get()
            .map(State)
            .ok_or_else(|| ToolError::new("the server lacks a state that the tool needs"))
    }

    fn check(states: &States) -> Result<(), String> {
        match states.get::<T>() {
            Some(_) => Ok(()),
            None => Err(format!("it takes State<{0}>, but no .state(..) of {0} was given", type_name::<T>())),
        }
    }
}

/// The states of a server, one per type.
///
/// ```
/// use rap_server::{Call, FromCall, State, States, ToolError};
///
/// struct Quota(u32);
///
/// /// What is left of the quota; the server does not start without one.
/// struct Left(u32);
///
/// impl FromCall for Left {
///     async fn from_call(call: &Call) -> Result<Self, ToolError> {
///         let quota = State::<Quota>::from_call(call).await?;
///         Ok(Self(quota.0.0))
///     }
///
///     fn check(states: &States) -> Result<(), String> {
///         states.get::<Quota>().map(|_| ()).ok_or_else(|| "give .state(Quota(..))".to_owned())
///     }
/// }
/// ```
#[derive(Default, Clone)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn put<T: Send + Sync + 'static>(&mut self, state: Arc<T>) -> bool {
        self.0.insert(TypeId::of::<T>(), state).is_none()
    }

    /// The state of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>()).cloned().and_then(|state| state.downcast().ok())
    }
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}

/// The arguments that the model gave, as one struct; the last parameter of a tool's function.
///
/// The struct derives [`serde::Deserialize`] and [`JsonSchema`](schemars::JsonSchema); its schema becomes the tool's `inputSchema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Args<T>(pub T);

/// Arguments that a tool can take: `Deserialize` and `JsonSchema`, owned. Implemented for all that are.
///
/// ```
/// use rap_server::{Arguments, schemars::JsonSchema};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Place {
///     city: String,
/// }
///
/// assert_eq!(Place::schema()?["properties"]["city"]["type"], "string");
/// assert!(Place::read(serde_json::Map::new()).is_err());
/// # Ok::<(), String>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a tool's arguments",
    label = "the model cannot give these",
    note = "derive `serde::Deserialize` and `schemars::JsonSchema` for it (`use rap_server::schemars::{{self, JsonSchema}}`)"
)]
pub trait Arguments: Send + 'static {
    /// The schema: an object, inlined (TLS-08).
    ///
    /// # Errors
    /// A sentence when the type is no object.
    fn schema() -> Result<Map<String, Value>, String>;

    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong, with its place.
    fn read(arguments: Map<String, Value>) -> Result<Self, ToolError>
    where
        Self: Sized;
}

impl<T: serde::de::DeserializeOwned + schemars::JsonSchema + Send + 'static> Arguments for T {
    fn schema() -> Result<Map<String, Value>, String> {
        crate::schema::of::<T>()
    }

    fn read(arguments: Map<String, Value>) -> Result<Self, ToolError> {
        serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|e| {
            let at = e.path().to_string();
            let place = if at == "." { String::new() } else { format!(" at {at}") };
            ToolError::new(format!("the arguments do not fit the tool's schema{place}: {}", e.inner()))
        })
    }
}
