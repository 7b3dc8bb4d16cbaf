//! From paths to the [`Daemon`].

use super::{
    daemon::Daemon,
    protocol::{
        AdoptAgent, AdoptedAgent, AgentBudgets, AgentLeaks, AgentStatus, AllowRequest, ApprovalRequest,
        ApproveLeaks, BudgetsRequest, Decide, Decided, ExplainRequest, Explanation, GrantsRequest,
        HumanGrant, LeaksRequest, MAX_REQUEST, Metric, PastRevision, RecordsRequest, Refusal, RefusalKind,
        ReloadSummary, RevokeRequest, Rollback, StartAgent, StartedAgent, Status,
    },
    stream::stream,
};
use crate::policy::Operator;
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Every path there is. Each request has the [`Operator`] who asks among its extensions.
pub fn router(daemon: Arc<dyn Daemon>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/agents", get(agents).post(start_agent))
        .route("/v1/agents/{id}", delete(stop_agent))
        .route("/v1/adopted", post(adopt_agent))
        .route("/v1/adopted/{id}", delete(release_agent))
        .route("/v1/reload", post(reload))
        .route("/v1/source/history", get(history))
        .route("/v1/source/rollback", post(roll_back))
        .route("/v1/source/follow", post(follow))
        .route("/v1/explain", get(explain))
        .route("/v1/budgets", get(budgets))
        .route("/v1/leaks", get(leaks))
        .route("/v1/leaks/approve", post(approve_leaks))
        .route("/v1/approvals", get(approvals).post(decide))
        .route("/v1/grants", get(grants).post(allow))
        .route("/v1/grants/revoke", post(revoke))
        .route("/v1/metrics", get(metrics))
        .route("/v1/records", get(records))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(daemon)
}

type App = State<Arc<dyn Daemon>>;

async fn status(State(daemon): App) -> Json<Status> {
    Json(daemon.status())
}

async fn agents(State(daemon): App) -> Json<Vec<AgentStatus>> {
    Json(daemon.agents())
}

async fn start_agent(
    State(daemon): App,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<StartedAgent>, Refusal> {
    let request: StartAgent = told(body)?;
    Ok(Json(daemon.start_agent(request).await?))
}

async fn stop_agent(State(daemon): App, id: Result<Path<u32>, PathRejection>) -> Result<StatusCode, Refusal> {
    let Path(id) = id.map_err(|rejection| invalid(&rejection.body_text()))?;
    daemon.stop_agent(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn adopt_agent(
    State(daemon): App,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AdoptedAgent>, Refusal> {
    let request: AdoptAgent = told(body)?;
    Ok(Json(daemon.adopt_agent(request).await?))
}

async fn release_agent(
    State(daemon): App,
    id: Result<Path<u32>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(id) = id.map_err(|rejection| invalid(&rejection.body_text()))?;
    daemon.release_agent(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reload(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
) -> Result<Json<ReloadSummary>, Refusal> {
    Ok(Json(daemon.reload(operator).await?))
}

async fn history(State(daemon): App) -> Result<Json<Vec<PastRevision>>, Refusal> {
    Ok(Json(daemon.history()?))
}

async fn roll_back(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReloadSummary>, Refusal> {
    let request: Rollback = told(body)?;
    Ok(Json(daemon.roll_back(operator, request).await?))
}

async fn follow(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
) -> Result<Json<ReloadSummary>, Refusal> {
    Ok(Json(daemon.follow(operator).await?))
}

async fn explain(
    State(daemon): App,
    query: Result<Query<ExplainRequest>, QueryRejection>,
) -> Result<Json<Explanation>, Refusal> {
    let request = asked(query)?;
    Ok(Json(daemon.explain(request)?))
}

async fn budgets(
    State(daemon): App,
    query: Result<Query<BudgetsRequest>, QueryRejection>,
) -> Result<Json<Vec<AgentBudgets>>, Refusal> {
    let request = asked(query)?;
    Ok(Json(daemon.budgets(request)?))
}

async fn leaks(
    State(daemon): App,
    query: Result<Query<LeaksRequest>, QueryRejection>,
) -> Result<Json<Vec<AgentLeaks>>, Refusal> {
    let request = asked(query)?;
    Ok(Json(daemon.leaks(request)?))
}

async fn approve_leaks(
    State(daemon): App,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refusal> {
    let request: ApproveLeaks = told(body)?;
    daemon.approve_leaks(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn allow(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<HumanGrant>, Refusal> {
    let request: AllowRequest = told(body)?;
    Ok(Json(daemon.allow(operator, request).await?))
}

async fn grants(
    State(daemon): App,
    query: Result<Query<GrantsRequest>, QueryRejection>,
) -> Result<Json<Vec<HumanGrant>>, Refusal> {
    let request = asked(query)?;
    Ok(Json(daemon.grants(request)?))
}

async fn revoke(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Vec<HumanGrant>>, Refusal> {
    let request: RevokeRequest = told(body)?;
    Ok(Json(daemon.revoke(operator, request).await?))
}

async fn approvals(State(daemon): App) -> Json<Vec<ApprovalRequest>> {
    Json(daemon.approvals())
}

async fn decide(
    State(daemon): App,
    Extension(operator): Extension<Operator>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Decided>, Refusal> {
    let request: Decide = told(body)?;
    Ok(Json(daemon.decide(operator, request).await?))
}

async fn metrics(State(daemon): App) -> Json<Vec<Metric>> {
    Json(daemon.metrics())
}

async fn records(
    State(daemon): App,
    query: Result<Query<RecordsRequest>, QueryRejection>,
) -> Result<Response, Refusal> {
    let request = asked(query)?;
    let frames = Body::from_stream(stream(&daemon.feed(), request));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], frames).into_response())
}

async fn unknown() -> Refusal {
    Refusal::new(RefusalKind::Unknown, "no such path or method: egressctl and egressd differ in version?")
}

/// What the body of a request says.
fn told<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| invalid(&rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| invalid(&error))
}

/// What its query says.
fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    let Query(request) = query.map_err(|rejection| invalid(&rejection.body_text()))?;
    Ok(request)
}

fn invalid(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Invalid, format!("failed to read request: {error}"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Unknown => StatusCode::NOT_FOUND,
            RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}
