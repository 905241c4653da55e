//! How a plain `async fn` becomes the work of a tool: extractors first, [`Args`] last, anything that can be
//! a result out.

use crate::{
    Call, ToolError,
    extract::{Args, Arguments, FromCall, States},
    output::{IntoToolResult, Reply},
    schema,
};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What the engine can run.
pub(crate) trait Work: Send + Sync {
    fn run(&self, call: Call, arguments: Map<String, Value>) -> BoxFuture<'static, Result<Reply, ToolError>>;
    fn schema(&self) -> Result<Map<String, Value>, String>;
    fn faults(&self, states: &States) -> Vec<String>;
}

/// An `async fn(E1, .., E5, Args<A>) -> R` or `async fn(E1, .., E5) -> R`, where each `E` is [`FromCall`] and
/// `R` is [`IntoToolResult`]. Implemented for all that are; nobody needs to implement it.
///
/// ```
/// use rap_server::{Args, Call, Handler, Tool, schemars::JsonSchema};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Place {
///     city: String,
/// }
///
/// async fn weather(call: Call, Args(place): Args<Place>) -> String {
///     format!("{}: rain in {}", call.id(), place.city)
/// }
///
/// /// Any function of this shape makes a tool.
/// fn tool<M>(handler: impl Handler<M>) -> Tool {
///     Tool::new("get_weather", "Current weather for a city.", handler)
/// }
/// assert_eq!(tool(weather).name(), "get_weather");
/// ```
#[diagnostic::on_unimplemented(
    message = "this function cannot be a tool",
    label = "not of the form `async fn(extractors.., Args<T>) -> result`",
    note = "a tool is an `async fn` whose parameters are owned: first what it takes from the call (`Call`, `State<T>`, .., at most five), last `Args<T>`",
    note = "`T` derives `Deserialize` and `JsonSchema`; the result is a `String`, something `Serialize`, a `ToolOutput`, or a `Result` of these",
    note = "its future must be `Send`: hold no `Rc`, no `RefCell` borrow and no std lock across an `.await`"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// Makes it something that can be run.
    #[doc(hidden)]
    fn into_work(self) -> Arc<dyn Sealed>;
}

/// Keeps what a handler becomes private.
#[doc(hidden)]
#[allow(private_bounds)]
pub trait Sealed: Work {}

struct Function<F, M> {
    function: F,
    marker: std::marker::PhantomData<fn() -> M>,
}

#[doc(hidden)]
#[derive(Debug)]
pub struct WithArgs;
#[doc(hidden)]
#[derive(Debug)]
pub struct WithoutArgs;

macro_rules! handlers {
    ($($e:ident),*) => {
        impl<F, Fut, R, RM, A, $($e,)*> Handler<(WithArgs, ($($e,)*), A, RM)> for F
        where
            F: Fn($($e,)* Args<A>) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            A: Arguments,
            $($e: FromCall + 'static,)*
        {
            fn into_work(self) -> Arc<dyn Sealed> {
                Arc::new(Function::<F, (WithArgs, ($($e,)*), A, RM)> {
                    function: self,
                    marker: std::marker::PhantomData,
                })
            }
        }

        impl<F, Fut, R, RM, A, $($e,)*> Sealed for Function<F, (WithArgs, ($($e,)*), A, RM)>
        where
            F: Fn($($e,)* Args<A>) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            A: Arguments,
            $($e: FromCall + 'static,)*
        {}

        impl<F, Fut, R, RM, A, $($e,)*> Work for Function<F, (WithArgs, ($($e,)*), A, RM)>
        where
            F: Fn($($e,)* Args<A>) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            A: Arguments,
            $($e: FromCall + 'static,)*
        {
            #[allow(non_snake_case, unused_variables)]
            fn run(&self, call: Call, arguments: Map<String, Value>) -> BoxFuture<'static, Result<Reply, ToolError>> {
                let function = self.function.clone();
                Box::pin(async move {
                    let arguments = A::read(arguments)?;
                    $(let $e = $e::from_call(&call).await?;)*
                    drop(call);
                    function($($e,)* Args(arguments)).await.into_tool_result()
                })
            }

            fn schema(&self) -> Result<Map<String, Value>, String> {
                A::schema()
            }

            #[allow(unused_variables)]
            fn faults(&self, states: &States) -> Vec<String> {
                [$($e::check(states)),*].into_iter().filter_map(|check: Result<(), String>| check.err()).collect()
            }
        }

        impl<F, Fut, R, RM, $($e,)*> Handler<(WithoutArgs, ($($e,)*), RM)> for F
        where
            F: Fn($($e,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            $($e: FromCall + 'static,)*
        {
            fn into_work(self) -> Arc<dyn Sealed> {
                Arc::new(Function::<F, (WithoutArgs, ($($e,)*), RM)> {
                    function: self,
                    marker: std::marker::PhantomData,
                })
            }
        }

        impl<F, Fut, R, RM, $($e,)*> Sealed for Function<F, (WithoutArgs, ($($e,)*), RM)>
        where
            F: Fn($($e,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            $($e: FromCall + 'static,)*
        {}

        impl<F, Fut, R, RM, $($e,)*> Work for Function<F, (WithoutArgs, ($($e,)*), RM)>
        where
            F: Fn($($e,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoToolResult<RM> + 'static,
            RM: 'static,
            $($e: FromCall + 'static,)*
        {
            #[allow(non_snake_case, unused_variables)]
            fn run(&self, call: Call, _: Map<String, Value>) -> BoxFuture<'static, Result<Reply, ToolError>> {
                let function = self.function.clone();
                Box::pin(async move {
                    $(let $e = $e::from_call(&call).await?;)*
                    drop(call);
                    function($($e,)*).await.into_tool_result()
                })
            }

            fn schema(&self) -> Result<Map<String, Value>, String> {
                Ok(schema::nothing())
            }

            #[allow(unused_variables)]
            fn faults(&self, states: &States) -> Vec<String> {
                [$($e::check(states)),*].into_iter().filter_map(|check: Result<(), String>| check.err()).collect()
            }
        }
    };
}

handlers!();
handlers!(E1);
handlers!(E1, E2);
handlers!(E1, E2, E3);
handlers!(E1, E2, E3, E4);
handlers!(E1, E2, E3, E4, E5);
