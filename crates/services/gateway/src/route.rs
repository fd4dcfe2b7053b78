//! Which route a request takes: a pure function of method and path.
//!
//! Names are compared byte by byte with what the path says. No name of Berth needs percent-encoding, so a path with `%`, an
//! empty segment or a dot segment is no route at all: gateway and runtime cannot read one path in two ways.

use http::Method;
use inference::embeddings::PATH;
use resources::access::Action;

/// Where a REST request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `GET /livez`, open.
    Livez,
    /// `GET /readyz`, open.
    Readyz,
    /// `GET /v2`.
    ServerMetadata,
    /// `GET /v2/health/live`.
    ServerLive,
    /// `GET /v2/health/ready`.
    ServerReady,
    /// `GET /metrics`.
    Metrics,
    /// `GET /v2/models`: names.
    Models,
    /// `GET /v1/models`: names, for clients of KServe and of OpenAI.
    ModelsV1,
    /// `POST /v1/embeddings`: the body names the service.
    Embeddings,
    /// `GET /openapi.json`: the contracts of models.
    Contracts,
    /// `POST /v2/repository/index`: revisions and their states.
    RepositoryIndex,
    /// `POST /v2/repository/models/{service}/load` and `unload`, which are refused in words.
    RepositoryChange,
    /// `GET /v2/models/{service}/stats`: of all replicas, so that the answer is not that of one.
    Statistics(ModelRoute<'a>),
    /// Anything else under `/v2/models/{service}` and `/v1/models/{service}`.
    Model(ModelRoute<'a>),
}

/// A request for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelRoute<'a> {
    /// The service, as the client wrote it.
    pub service: &'a str,
    /// The revision, as the client wrote it.
    pub version: Option<&'a str>,
    /// What the key must permit.
    pub action: Action,
    /// Whether this asks for readiness, which is answered at once and never held.
    pub ready: bool,
}

/// Why a REST request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// Nothing lives at this path.
    Path,
    /// The path has other methods.
    Method(&'static str),
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// Finds the route of a REST request.
pub(crate) fn rest<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, NoRoute> {
    let reads = method == Method::GET || method == Method::HEAD;
    let read = |route| if reads { Ok(route) } else { Err(NoRoute::Method(GET)) };
    match path {
        "/livez" => return read(Route::Livez),
        "/readyz" => return read(Route::Readyz),
        "/metrics" => return read(Route::Metrics),
        "/v2" | "/v2/" => return read(Route::ServerMetadata),
        "/v2/health/live" => return read(Route::ServerLive),
        "/v2/health/ready" => return read(Route::ServerReady),
        _ => {}
    }
    let write = |route| if method == Method::POST { Ok(route) } else { Err(NoRoute::Method(POST)) };
    match path {
        "/v2/models" => return read(Route::Models),
        "/v1/models" => return read(Route::ModelsV1),
        "/openapi.json" => return read(Route::Contracts),
        PATH => return write(Route::Embeddings),
        "/v2/repository/index" => return write(Route::RepositoryIndex),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("/v1/models/") {
        return v1(method, rest);
    }
    if let Some(rest) = path.strip_prefix("/v2/repository/models/") {
        let change = is_plain(rest) && matches!(split(rest), (_, Some("load" | "unload")));
        return if change { write(Route::RepositoryChange) } else { Err(NoRoute::Path) };
    }
    let rest = path.strip_prefix("/v2/models/").ok_or(NoRoute::Path)?;
    if !is_plain(rest) {
        return Err(NoRoute::Path);
    }
    let (service, rest) = split(rest);
    let (version, rest) = match rest.and_then(|rest| rest.strip_prefix("versions/")) {
        Some(rest) => {
            let (version, rest) = split(rest);
            (Some(version), rest)
        }
        None => (None, rest),
    };
    let model = |action, ready| Route::Model(ModelRoute { service, version, action, ready });
    match rest {
        Some("infer") if method == Method::POST => Ok(model(Action::Infer, false)),
        Some("infer") => Err(NoRoute::Method(POST)),
        // A bare `versions` names no version.
        Some("versions") => Err(NoRoute::Path),
        Some("stats") => {
            read(Route::Statistics(ModelRoute { service, version, action: Action::Metadata, ready: false }))
        }
        Some("ready") => read(model(Action::Metadata, true)),
        _ if reads => Ok(model(Action::Metadata, false)),
        // Whatever else can be posted to a model has no permission of its own.
        Some(_) => Err(NoRoute::Path),
        None => Err(NoRoute::Method(GET)),
    }
}

/// Finds the route of what follows `/v1/models/`: `{service}[/versions/{revision}][:predict]`.
fn v1<'a>(method: &Method, rest: &'a str) -> Result<Route<'a>, NoRoute> {
    let (rest, predict) = match rest.strip_suffix(":predict") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if !is_plain(rest) {
        return Err(NoRoute::Path);
    }
    let (service, rest) = split(rest);
    let version = match rest.map(|rest| rest.strip_prefix("versions/")) {
        None => None,
        Some(Some(version)) if !version.contains('/') => Some(version),
        Some(_) => return Err(NoRoute::Path),
    };
    let model = |action, ready| Route::Model(ModelRoute { service, version, action, ready });
    let (wanted, route) = match predict {
        true => (method == Method::POST, model(Action::Infer, false)),
        false => (method == Method::GET || method == Method::HEAD, model(Action::Metadata, true)),
    };
    if wanted { Ok(route) } else { Err(NoRoute::Method(if predict { POST } else { GET })) }
}

fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

/// Whether every segment has characters, only unreserved ones (RFC 3986, 2.3), and is not a dot segment.
fn is_plain(path: &str) -> bool {
    let mut segment_len = 0_usize;
    let mut dots_only = true;
    for byte in path.bytes() {
        match byte {
            b'/' if segment_len == 0 || dots_only => return false,
            b'/' => (segment_len, dots_only) = (0, true),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                segment_len += 1;
                dots_only = false;
            }
            b'.' => segment_len += 1,
            _ => return false,
        }
    }
    segment_len > 0 && !dots_only
}

/// Where a gRPC request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcMethod {
    /// `ServerLive`.
    ServerLive,
    /// `ServerReady`.
    ServerReady,
    /// `ServerMetadata`.
    ServerMetadata,
    /// `ModelReady`: the one call that is answered at once when nothing is ready.
    ModelReady,
    /// `ModelMetadata`.
    ModelMetadata,
    /// `ModelInfer`.
    ModelInfer,
    /// `ModelStatistics`.
    ModelStatistics,
    /// `RepositoryIndex`.
    RepositoryIndex,
    /// `RepositoryModelLoad` and `RepositoryModelUnload`, which are refused in words.
    RepositoryChange,
    /// `grpc.health.v1.Health`.
    Health,
    /// `grpc.reflection.v1` and `v1alpha`.
    Reflection,
}

impl GrpcMethod {
    /// What the key must permit on the model that the message names; nothing when the gateway answers by itself.
    pub(crate) fn action(self) -> Option<Action> {
        match self {
            Self::ModelInfer => Some(Action::Infer),
            Self::ModelReady | Self::ModelMetadata | Self::ModelStatistics => Some(Action::Metadata),
            _ => None,
        }
    }
}

/// Finds the method of a gRPC request.
pub(crate) fn grpc(path: &str) -> Option<GrpcMethod> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match (service, method) {
        ("inference.GRPCInferenceService", method) => match method {
            "ServerLive" => Some(GrpcMethod::ServerLive),
            "ServerReady" => Some(GrpcMethod::ServerReady),
            "ServerMetadata" => Some(GrpcMethod::ServerMetadata),
            "ModelReady" => Some(GrpcMethod::ModelReady),
            "ModelMetadata" => Some(GrpcMethod::ModelMetadata),
            "ModelInfer" => Some(GrpcMethod::ModelInfer),
            "ModelStatistics" => Some(GrpcMethod::ModelStatistics),
            "RepositoryIndex" => Some(GrpcMethod::RepositoryIndex),
            "RepositoryModelLoad" | "RepositoryModelUnload" => Some(GrpcMethod::RepositoryChange),
            _ => None,
        },
        ("grpc.health.v1.Health", "Check" | "Watch" | "List") => Some(GrpcMethod::Health),
        (
            "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection",
            "ServerReflectionInfo",
        ) => Some(GrpcMethod::Reflection),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
