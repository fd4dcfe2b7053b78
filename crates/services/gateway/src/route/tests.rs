//! Every path and method, those that are served and those that are not.

use proptest::prelude::*;

use super::*;

fn model(service: &'static str, version: Option<&'static str>, action: Action) -> Route<'static> {
    Route::Model(ModelRoute { service, version, action, ready: false })
}

fn statistics(service: &'static str, version: Option<&'static str>) -> Route<'static> {
    Route::Statistics(ModelRoute { service, version, action: Action::Metadata, ready: false })
}

fn ready(service: &'static str, version: Option<&'static str>) -> Route<'static> {
    Route::Model(ModelRoute { service, version, action: Action::Metadata, ready: true })
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
        (Method::GET, "/v2/models/a/openapi.json", Ok(model("a", None, Action::Metadata))),
        (Method::GET, "/v2/models/a/stats", Ok(statistics("a", None))),
        (Method::GET, "/v2/models/a/versions/2/stats", Ok(statistics("a", Some("2")))),
        (Method::GET, "/v2/models", Ok(Route::Models)),
        (Method::GET, "/v1/models", Ok(Route::ModelsV1)),
        (Method::POST, "/v1/embeddings", Ok(Route::Embeddings)),
        (Method::GET, "/v1/embeddings", Err(NoRoute::Method("POST"))),
        (Method::POST, "/v1/embeddings/", Err(NoRoute::Path)),
        (Method::GET, "/openapi.json", Ok(Route::Contracts)),
        (Method::POST, "/v2/repository/index", Ok(Route::RepositoryIndex)),
        (Method::POST, "/v2/repository/models/a/load", Ok(Route::RepositoryChange)),
        (Method::POST, "/v2/repository/models/a/unload", Ok(Route::RepositoryChange)),
        (Method::GET, "/v1/models/a", Ok(ready("a", None))),
        (Method::HEAD, "/v1/models/a/versions/2", Ok(ready("a", Some("2")))),
        (Method::POST, "/v1/models/a:predict", Ok(model("a", None, Action::Infer))),
        (Method::POST, "/v1/models/a/versions/2:predict", Ok(model("a", Some("2"), Action::Infer))),
        (Method::GET, "/v1/models/a:predict", Err(NoRoute::Method("POST"))),
        (Method::POST, "/v1/models/a", Err(NoRoute::Method("GET, HEAD"))),
        (Method::POST, "/v2/models", Err(NoRoute::Method("GET, HEAD"))),
        (Method::POST, "/v2/models/a/stats", Err(NoRoute::Method("GET, HEAD"))),
        (Method::GET, "/v2/repository/index", Err(NoRoute::Method("POST"))),
        (Method::POST, "/v2/models/a/infer", Ok(model("a", None, Action::Infer))),
        (Method::POST, "/v2/models/a/versions/2/infer", Ok(model("a", Some("2"), Action::Infer))),
        (Method::GET, "/v2/models/a/versions/2/ready", Ok(ready("a", Some("2")))),
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
        "/v1",
        "/v1/models/",
        "/v1/models/:predict",
        "/v1/models/a:explain",
        "/v1/models/a:predict:predict",
        "/v1/models/a/predict",
        "/v1/models/a/versions:predict",
        "/v1/models/a/versions/:predict",
        "/v1/models/a/versions/2/x:predict",
        "/v1/models/%61:predict",
        "/v1/models/../v2/models/a:predict",
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
        "/v2/repository/index/",
        "/v2/repository/models/a",
        "/v2/repository/models/a/reload",
        "/v2/repository/models/a/load/",
        "/v2/repository/models//load",
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
    assert_eq!(grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"), Some(GrpcMethod::Reflection));
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

#[test]
fn grpc_methods_of_extensions() {
    for (method, wanted) in [
        ("ModelStatistics", GrpcMethod::ModelStatistics),
        ("RepositoryIndex", GrpcMethod::RepositoryIndex),
        ("RepositoryModelLoad", GrpcMethod::RepositoryChange),
        ("RepositoryModelUnload", GrpcMethod::RepositoryChange),
    ] {
        assert_eq!(grpc(&format!("/inference.GRPCInferenceService/{method}")), Some(wanted));
    }
}

proptest! {
    #[test]
    fn routes_repeat_what_the_path_says(path in "/v[12]/models/[a-z./%A-Z0-9-]{0,30}(:predict)?", post in any::<bool>()) {
        let method = if post { Method::POST } else { Method::GET };
        if let Ok(Route::Model(found)) = rest(&method, &path) {
            prop_assert!(!found.service.is_empty() && !found.service.contains(['/', '%']));
            prop_assert!(found.service.bytes().any(|byte| byte != b'.'));
            prop_assert!(path.contains(found.service));
            prop_assert_eq!(found.action == Action::Infer, post);
        }
    }
}
