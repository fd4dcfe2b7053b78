//! The Open Inference Protocol and the V1 protocol over REST: every route, with and without a version.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use inference::{
    Encoded, InferError, InferRequest, ModelMetadata, Tensor, binary, classification,
    json::{self, v1},
    limits::NAME_BYTES_MAX,
};
use tokio::time::Instant;

use crate::{
    openapi,
    registry::{Answer, Model, Registry, Timings},
    statistics::Statistics,
};
use buffers::Buffers;
use coding::Coding;
use route::{Route, Target};

mod answer;
mod body;
mod buffers;
mod coding;
mod embeddings;
mod route;

/// Extensions of the protocol that `GET /v2` and `ServerMetadata` name.
pub const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "classification", "statistics"];

/// Name that `GET /v2` and `ServerMetadata` give.
pub const SERVER_NAME: &str = "berth";

/// Version that `GET /v2` and `ServerMetadata` give.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names the service a request was routed to; the gateway sends it with every request.
pub(crate) const SERVICE_HEADER: &str = "x-berth-service";

/// Milliseconds that the client still waits.
const TIMEOUT_HEADER: &str = "x-berth-timeout-ms";

/// Names the request in logs.
pub(crate) const REQUEST_ID_HEADER: &str = "x-request-id";
/// On a copy of a request, whose answer no client gets.
pub(crate) const SHADOW_HEADER: &str = "x-berth-shadow";

/// Longest deadline; beyond it there is none in practice, and sums of times stay far from overflow.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bodies up to this size are parsed where they arrive; larger ones would keep other connections of the thread waiting for
/// more than about a millisecond and go to a thread of their own.
const INLINE_BYTES_MAX: usize = 256 * 1024;

/// Bounds on one request and one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request, after decompression, and of a gRPC message in either direction.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    /// 64 MiB, as the gateway: a batch of 100 images of 224 x 224 in FP32.
    fn default() -> Self {
        Self { body_bytes_max: 64 * 1024 * 1024 }
    }
}

#[derive(Clone)]
struct Shared {
    registry: Registry,
    limits: Limits,
    buffers: Buffers,
}

/// How an inference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    /// The Open Inference Protocol.
    V2,
    /// `instances` and `inputs`.
    V1,
}

/// Why a request gets no answer from a model.
enum Refusal {
    /// The inference went wrong.
    Infer(InferError),
    /// The body is compressed in a way that is not understood; the text says what is.
    Coding(String),
}

impl From<InferError> for Refusal {
    fn from(error: InferError) -> Self {
        Self::Infer(error)
    }
}

/// Every route of the protocol, and JSON answers for all other paths. It has the fallback of the router it is merged into.
pub fn router(registry: Registry, limits: Limits) -> Router {
    Router::new().fallback(handle).with_state(Shared { registry, limits, buffers: Buffers::default() })
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path();
    let Some(route) = Route::parse(path) else {
        return answer::unknown_path(path, request.headers());
    };
    let method = request.method();
    if method == Method::OPTIONS {
        return answer::options(route.allow());
    }
    if *method != route.method() && !(method == Method::HEAD && route.method() == Method::GET) {
        return answer::method_not_allowed(method, route.allow());
    }
    let registry = &shared.registry;
    // axum takes the body out of an answer to HEAD and leaves its length.
    match &route {
        Route::Server => answer::json(StatusCode::OK, server_metadata()),
        Route::Live => answer::health("live", true),
        Route::Ready => answer::health("ready", registry.ready()),
        Route::Metadata(target) => model_metadata(registry, target, request.headers()),
        Route::ModelReady(target) => model_ready(registry, target, request.headers()),
        Route::Statistics(target) => statistics(registry, target, request.headers()),
        Route::Contract(target) => contract(registry, target, request.headers()),
        Route::Models => answer::json(StatusCode::OK, model_names(registry)),
        Route::Infer(target) => {
            let target = target.to_owned();
            infer(&shared, &target, Codec::V2, request).await
        }
        Route::Predict(target) => {
            let target = target.to_owned();
            infer(&shared, &target, Codec::V1, request).await
        }
        Route::Embeddings => Box::pin(embeddings::handle(&shared, request)).await,
    }
}

/// `{"models":["iris"]}`.
fn model_names(registry: &Registry) -> Vec<u8> {
    let mut out = b"{\"models\":[".to_vec();
    for (index, model) in registry.models().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(&mut out, model.name());
    }
    out.extend_from_slice(b"]}");
    out
}

/// `{"name":…,"version":…,"extensions":[…]}`.
fn server_metadata() -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"name\":");
    json::write_string(&mut out, SERVER_NAME);
    out.extend_from_slice(b",\"version\":");
    json::write_string(&mut out, SERVER_VERSION);
    out.extend_from_slice(b",\"extensions\":[");
    for (index, extension) in EXTENSIONS.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(&mut out, extension);
    }
    out.extend_from_slice(b"]}");
    out
}

fn model_metadata(registry: &Registry, target: &Target<'_>, headers: &HeaderMap) -> Response {
    match find(registry, &target.name, target.version.as_deref(), service(headers)) {
        Ok(model) if model.ready() => answer::json(StatusCode::OK, json::write_metadata(model.metadata())),
        Ok(model) => answer::error(&loading(&model)),
        Err(error) => answer::error(&error),
    }
}

fn model_ready(registry: &Registry, target: &Target<'_>, headers: &HeaderMap) -> Response {
    match find(registry, &target.name, target.version.as_deref(), service(headers)) {
        Ok(model) => answer::model_health(model.name(), model.ready() && !registry.draining()),
        Err(error) => answer::error(&error),
    }
}

fn statistics(registry: &Registry, target: &Target<'_>, headers: &HeaderMap) -> Response {
    match find(registry, &target.name, target.version.as_deref(), service(headers)) {
        Ok(model) => answer::json(StatusCode::OK, Statistics::of(&model).into_json()),
        Err(error) => answer::error(&error),
    }
}

/// The model's OpenAPI document.
fn contract(registry: &Registry, target: &Target<'_>, headers: &HeaderMap) -> Response {
    match find(registry, &target.name, target.version.as_deref(), service(headers)) {
        Ok(model) if model.ready() => {
            let example = model.report().and_then(|report| report.example.as_ref());
            let mut document = openapi::document(model.metadata(), model.version(), example);
            if model.embedder().is_some() {
                openapi::embeddings::add(&mut document, model.name());
            }
            answer::json(StatusCode::OK, document.to_string().into_bytes())
        }
        Ok(model) => answer::error(&loading(&model)),
        Err(error) => answer::error(&error),
    }
}

fn service(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(SERVICE_HEADER).map(header::HeaderValue::as_bytes)
}

/// The model `name`, which must also be the service that the request was routed to.
pub(crate) fn find(
    registry: &Registry,
    name: &str,
    version: Option<&str>,
    service: Option<&[u8]>,
) -> Result<Arc<Model>, InferError> {
    if name.len().max(version.map_or(0, str::len)) > NAME_BYTES_MAX {
        return Err(InferError::NotFound(format!(
            "no model or version has a name of more than {NAME_BYTES_MAX} bytes"
        )));
    }
    if service.is_some_and(|service| service != name.as_bytes()) {
        return Err(InferError::NotFound(format!("there is no model `{name}` in the service of this request")));
    }
    registry.model(name, version)
}

/// Whether `model` may be given a request now. Nothing was run when it may not.
pub(crate) fn admit(registry: &Registry, model: &Model) -> Result<(), InferError> {
    if registry.draining() {
        return Err(InferError::Unavailable("this replica is shutting down: ask again".to_owned()));
    }
    if !model.ready() {
        return Err(loading(model));
    }
    Ok(())
}

pub(crate) fn loading(model: &Model) -> InferError {
    InferError::Unavailable(format!("model `{}` is still loading: ask again", model.name()))
}

async fn infer(shared: &Shared, target: &Target<'static>, codec: Codec, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = match codec {
        Codec::V2 => infer_v2(shared, target, &parts.headers, body).await,
        Codec::V1 => predict(shared, target, &parts.headers, body).await,
    };
    answered.unwrap_or_else(|refusal| {
        let request_id = parts.headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
        match refusal {
            Refusal::Infer(error) => {
                log_refusal(&target.name, request_id, &error);
                answer::error(&error)
            }
            Refusal::Coding(message) => answer::unsupported_coding(&message),
        }
    })
}

/// Errors of ours need a look; errors of the sender are for whoever asks why.
pub(crate) fn log_refusal(model: &str, request_id: Option<&str>, error: &InferError) {
    if matches!(error, InferError::Internal(_)) {
        tracing::warn!(model, request_id, %error, "inference failed");
    } else {
        tracing::info!(model, request_id, %error, "inference refused");
    }
}

async fn infer_v2(
    shared: &Shared,
    target: &Target<'static>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let header_length = header_length(headers);
    let text = header_length.as_ref().ok().copied().flatten();
    let read = move |body, metadata: &ModelMetadata| binary::read_request(body, header_length?, metadata);
    let Received { model, deadline, read: (request, encoding) } =
        received(shared, target, headers, (body, text, read)).await?;
    let Answer { response, timings } = run(&model, request, deadline).await?;
    log_answer(&model, headers, timings);
    // Bytes are passed on as they are.
    let work = text_bytes(response.outputs.iter().filter(|output| !encoding.is_binary(&output.name)));
    let encoded = off_thread(work, move || binary::write_response(&response, &encoding)).await?;
    Ok(coded(encoded, timings, Coding::wanted(headers)).await?)
}

/// An inference in the V1 protocol.
async fn predict(
    shared: &Shared,
    target: &Target<'static>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let read = |body, metadata: &ModelMetadata| v1::read_request(&body, metadata);
    let Received { model, deadline, read: (request, form) } =
        received(shared, target, headers, (body, None, read)).await?;
    let Answer { response, timings } = run(&model, request, deadline).await?;
    log_answer(&model, headers, timings);
    let work = text_bytes(response.outputs.iter());
    let json = off_thread(work, move || v1::write_response(&response, form)).await?;
    let encoded = Encoded { json: Bytes::from(json), ..Encoded::default() };
    Ok(coded(encoded, timings, Coding::wanted(headers)).await?)
}

/// A request that was let in and read.
struct Received<T> {
    model: Arc<Model>,
    deadline: Option<Instant>,
    read: T,
}

/// Lets a request in, and collects and reads its body, which begins with so much text if not all of it is. What is refused here
/// counts as a failure of the model.
async fn received<T: Send + 'static>(
    shared: &Shared,
    target: &Target<'static>,
    headers: &HeaderMap,
    (body, text, read): (
        Body,
        Option<usize>,
        impl FnOnce(Bytes, &ModelMetadata) -> Result<T, InferError> + Send + 'static,
    ),
) -> Result<Received<T>, Refusal> {
    let registry = &shared.registry;
    let model = find(registry, &target.name, target.version.as_deref(), service(headers))?;
    let counting = model.counters().begin();
    let bytes_max = shared.limits.body_bytes_max;
    let reader = Arc::clone(&model);
    let reading = async {
        let deadline = deadline(headers)?;
        admit(registry, &model)?;
        let coding = Coding::of_request(headers).map_err(Refusal::Coding)?;
        let place = body::Place { buffers: &shared.buffers, aligned: text.unwrap_or(0) };
        let body = body::collect(body, bytes_max, deadline, place).await?;
        let work = reading_bytes(&body, coding, text);
        let inflate_and_read =
            move || coding::inflate(body, coding, bytes_max).and_then(|body| read(body, reader.metadata()));
        Ok((deadline, off_thread(work, inflate_and_read).await?))
    };
    match reading.await {
        Ok((deadline, read)) => {
            counting.handed_over();
            Ok(Received { model, deadline, read })
        }
        Err(refusal) => {
            match &refusal {
                Refusal::Infer(error) => counting.failed(error),
                Refusal::Coding(message) => counting.failed(&InferError::Unsupported(message.clone())),
            }
            Err(refusal)
        }
    }
}

fn log_answer(model: &Model, headers: &HeaderMap, timings: Timings) {
    tracing::debug!(
        model = model.name(),
        request_id = headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok()),
        shadow = headers.contains_key(SHADOW_HEADER),
        queue_us = timings.queue.as_micros(),
        compute_us = timings.compute.as_micros(),
        "inference answered"
    );
}

/// Runs the model, and turns outputs into classes where the request asks for them.
pub(crate) async fn run(model: &Model, request: InferRequest, deadline: Option<Instant>) -> Result<Answer, InferError> {
    let classes = classification::asked(&request).inspect_err(|error| model.counters().begin().failed(error))?;
    let mut answer = model.infer(request, deadline).await?;
    classification::apply(&mut answer.response, &classes, |output| model.classes(output))?;
    Ok(answer)
}

/// Work of reading `body`. Compressed bytes count for more: they may inflate to anything up to the limit. Binary tensors count for
/// less: numbers stay where they are, and texts are only told apart.
fn reading_bytes(body: &Bytes, coding: Coding, text: Option<usize>) -> usize {
    match text {
        _ if coding != Coding::Identity => body.len().saturating_mul(8),
        Some(text) => text.min(body.len()) + body.len().saturating_sub(text) / 4,
        None => body.len(),
    }
}

/// Work of writing `outputs` as text: about three times the time per byte of tensor that is read.
fn text_bytes<'t>(outputs: impl Iterator<Item = &'t Tensor>) -> usize {
    outputs.map(|output| output.data.elements(output.datatype).saturating_mul(8)).fold(0, usize::saturating_add)
}

async fn coded(encoded: Encoded, timings: Timings, wanted: Coding) -> Result<Response, InferError> {
    if wanted == Coding::Identity || encoded.len() < coding::COMPRESSED_BYTES_MIN {
        return Ok(answer::inference(encoded, timings));
    }
    let header_length = encoded.binary.then_some(encoded.json.len());
    let whole = encoded.into_bytes();
    let compressed = off_thread(usize::MAX, move || coding::compress(&whole, wanted)).await?;
    Ok(answer::compressed(compressed, wanted, header_length, timings))
}

/// Runs `work` here when it is small, else on a thread that may block.
async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(InferError::Internal(format!("the codec failed: {error}"))))
}

fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, InferError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Duration::from_millis);
    let refused =
        || InferError::InvalidInput(format!("the header `{TIMEOUT_HEADER}` must be a number of milliseconds"));
    Ok(Some(Instant::now() + timeout.ok_or_else(refused)?.min(TIMEOUT_MAX)))
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(binary::HEADER) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let refused = || {
        InferError::InvalidInput(
            "the header `Inference-Header-Content-Length` must be the number of bytes of JSON in the body".to_owned(),
        )
    };
    length.map(Some).ok_or_else(refused)
}

/// JSON that goes out as it is.
fn json_body(json: Vec<u8>) -> Body {
    Body::from(Bytes::from(json))
}

#[cfg(test)]
pub(crate) mod echo;
#[cfg(test)]
mod tests;
