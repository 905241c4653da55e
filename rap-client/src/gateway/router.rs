//! The gateway as a route of an axum app, behind the feature `axum`.

use super::{Gateway, GatewayService};
use axum::Router;

impl Gateway {
    /// `POST /callback/{token}` as an axum router, to be served, nested or merged.
    pub fn into_router(self) -> Router {
        self.into_service().into()
    }
}

/// The one route `/callback/{token}`, for a router of any state: nest it below the path of the public URL, or merge it
/// where that has none. All other paths stay the app's.
impl<S: Clone + Send + Sync + 'static> From<GatewayService> for Router<S> {
    fn from(service: GatewayService) -> Self {
        Router::new().route_service("/callback/{token}", service)
    }
}
