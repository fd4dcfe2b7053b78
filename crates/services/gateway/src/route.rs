//! Which route a request takes: a pure function of method and path.
//!
//! Names are compared byte by byte with what the path says. No name of Berth needs percent-encoding, so a path with `%`, an
//! empty segment or a dot segment is no route at all: gateway and runtime cannot read one path in two ways.

use http::Method;
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
    /// Anything under `/v2/models/{service}`.
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
        Some("ready") => read(model(Action::Metadata, true)),
        _ if reads => Ok(model(Action::Metadata, false)),
        // Whatever else can be posted to a model has no permission of its own.
        Some(_) => Err(NoRoute::Path),
        None => Err(NoRoute::Method(GET)),
    }
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
            Self::ModelReady | Self::ModelMetadata => Some(Action::Metadata),
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(service: &'static str, version: Option<&'static str>, action: Action) -> Route<'static> {
        Route::Model(ModelRoute { service, version, action, ready: false })
    }

    #[test]
    fn every_documented_path_has_its_route() {
        let table = [
            (Method::GET, "/livez", Ok(Route::Livez)),
            (Method::GET, "/readyz", Ok(Route::Readyz)),
            (Method::GET, "/metrics", Ok(Route::Metrics)),
            (Method::GET, "/v2", Ok(Route::ServerMetadata)),
            (Method::GET, "/v2/", Ok(Route::ServerMetadata)),
            (Method::HEAD, "/v2/health/live", Ok(Route::ServerLive)),
            (Method::GET, "/v2/health/ready", Ok(Route::ServerReady)),
            (Method::GET, "/v2/models/a", Ok(model("a", None, Action::Metadata))),
            (Method::GET, "/v2/models/a/versions/2", Ok(model("a", Some("2"), Action::Metadata))),
            (Method::GET, "/v2/models/a/stats", Ok(model("a", None, Action::Metadata))),
            (Method::POST, "/v2/models/a/infer", Ok(model("a", None, Action::Infer))),
            (Method::POST, "/v2/models/a/versions/2/infer", Ok(model("a", Some("2"), Action::Infer))),
            (
                Method::GET,
                "/v2/models/a/versions/2/ready",
                Ok(Route::Model(ModelRoute {
                    service: "a",
                    version: Some("2"),
                    action: Action::Metadata,
                    ready: true,
                })),
            ),
            (Method::GET, "/v2/models/a/infer", Err(NoRoute::Method("POST"))),
            (Method::POST, "/v2/models/a", Err(NoRoute::Method("GET, HEAD"))),
            (Method::POST, "/metrics", Err(NoRoute::Method("GET, HEAD"))),
        ];
        for (method, path, wanted) in table {
            assert_eq!(rest(&method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn nothing_else_has_one() {
        for path in [
            "/",
            "",
            "/v1/models",
            "/v2/models",
            "/v2/models/",
            "/v2/models//infer",
            "/v2/models/a/",
            "/v2/models/a/../b/infer",
            "/v2/models/./infer",
            "/v2/models/a%2fb/infer",
            "/v2/models/%61/infer",
            "/v2/models/a/versions",
            "/v2/models/a/versions/",
            "/v2/models/a/versions//infer",
            "/v2/models/a/generate",
            "/v2/repository/index",
            "/V2/models/a/infer",
            "/livez/",
            "//livez",
            "/v2/models/a;x/infer",
            "/v2/models/a\\b/infer",
        ] {
            assert_eq!(rest(&Method::POST, path), Err(NoRoute::Path), "{path}");
        }
    }

    #[test]
    fn grpc_methods() {
        assert_eq!(grpc("/inference.GRPCInferenceService/ModelInfer"), Some(GrpcMethod::ModelInfer));
        assert_eq!(grpc("/grpc.health.v1.Health/Check"), Some(GrpcMethod::Health));
        assert_eq!(
            grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
            Some(GrpcMethod::Reflection)
        );
        for path in [
            "/inference.GRPCInferenceService/modelinfer",
            "/inference.GRPCInferenceService/ModelStreamInfer",
            "/inference.GRPCInferenceService/ModelInfer/",
            "inference.GRPCInferenceService/ModelInfer",
            "/",
            "",
        ] {
            assert_eq!(grpc(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn routes_repeat_what_the_path_says(path in "/v2/models/[a-z./%A-Z0-9-]{0,30}", post in any::<bool>()) {
            let method = if post { Method::POST } else { Method::GET };
            if let Ok(Route::Model(found)) = rest(&method, &path) {
                prop_assert!(!found.service.is_empty() && !found.service.contains(['/', '%']));
                prop_assert!(found.service.bytes().any(|byte| byte != b'.'));
                prop_assert!(path.contains(found.service));
                prop_assert_eq!(found.action == Action::Infer, post);
            }
        }
    }
}
