//! The generated client against the router itself, without a socket.

use std::collections::BTreeMap;

use axum::{Router, http::Request};
use bytes::Bytes;
use inference::{
    Datatype, TensorData, binary,
    limits::{INPUTS_MAX, OUTPUTS_MAX, PARAMETERS_MAX, STRINGS_MAX},
};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::ServiceExt;

use super::{
    proto::{
        self, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    routes, scan,
};
use crate::{
    registry::Registry,
    rest::{self, Limits, echo},
};

type Client = GrpcInferenceServiceClient<Router>;

fn client(registry: Registry) -> Client {
    GrpcInferenceServiceClient::new(routes(registry, Limits::default()).unwrap())
}

fn input(name: &str, datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        parameters: BTreeMap::new(),
        contents,
    }
}

fn floats(values: &[f32]) -> Option<InferTensorContents> {
    Some(InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() })
}

fn request(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        id: "7".to_owned(),
        inputs,
        raw_input_contents: raw,
        ..ModelInferRequest::default()
    }
}

fn simple() -> ModelInferRequest {
    request(vec![input("x", "FP32", &[2], floats(&[0.5, f32::INFINITY]))], Vec::new())
}

/// Asks for an answer in the fields of its type.
fn typed(mut message: ModelInferRequest) -> ModelInferRequest {
    let wanted = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(false)) };
    message.parameters.insert("binary_data_output".to_owned(), wanted);
    message
}

const X: &[(&str, Datatype, &[i64])] = &[("x", Datatype::Fp32, &[-1])];

async fn infer(registry: Registry, message: ModelInferRequest) -> Result<ModelInferResponse, Status> {
    client(registry).model_infer(message).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn answers_are_raw_unless_the_request_wants_them_typed() {
    let message = infer(echo::echo(X), simple()).await.unwrap();
    assert_eq!(message.raw_output_contents, [Bytes::from_static(&[0, 0, 0, 63, 0, 0, 128, 127])]);
    assert_eq!(message.outputs[0].contents, None);
    let response = client(echo::echo(X)).model_infer(typed(simple())).await.unwrap();
    assert_eq!(response.metadata().get("server-timing").unwrap(), "queue;dur=0.010,compute;dur=1.500");
    let message = response.into_inner();
    assert_eq!((message.model_name.as_str(), message.model_version.as_str(), message.id.as_str()), ("echo", "3", "7"));
    assert_eq!(message.outputs[0].contents, floats(&[0.5, f32::INFINITY]));
    assert!(message.raw_output_contents.is_empty());
}

#[tokio::test]
async fn raw_contents_are_answered_raw() {
    let raw = Bytes::from_static(&[0, 0, 0, 63]);
    let message = infer(echo::echo(X), request(vec![input("x", "FP32", &[1], None)], vec![raw.clone()])).await.unwrap();
    assert_eq!(message.raw_output_contents, [raw]);
    assert_eq!(message.outputs[0].contents, None);
}

/// One tensor of three elements of each datatype, typed as the protocol has it.
fn every_datatype() -> Vec<(Datatype, InferTensorContents, TensorData)> {
    let empty = InferTensorContents::default;
    let texts = || vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"\xff\x00")];
    vec![
        (
            Datatype::Bool,
            InferTensorContents { bool_contents: vec![true, false, true], ..empty() },
            TensorData::from_vec(vec![1_u8, 0, 1]),
        ),
        (
            Datatype::Int8,
            InferTensorContents { int_contents: vec![-128, 0, 127], ..empty() },
            TensorData::from_vec(vec![-128_i8, 0, 127]),
        ),
        (
            Datatype::Int16,
            InferTensorContents { int_contents: vec![-32768, 0, 32767], ..empty() },
            TensorData::from_vec(vec![i16::MIN, 0, i16::MAX]),
        ),
        (
            Datatype::Int32,
            InferTensorContents { int_contents: vec![i32::MIN, 0, i32::MAX], ..empty() },
            TensorData::from_vec(vec![i32::MIN, 0, i32::MAX]),
        ),
        (
            Datatype::Int64,
            InferTensorContents { int64_contents: vec![i64::MIN, 0, i64::MAX], ..empty() },
            TensorData::from_vec(vec![i64::MIN, 0, i64::MAX]),
        ),
        (
            Datatype::Uint8,
            InferTensorContents { uint_contents: vec![0, 1, 255], ..empty() },
            TensorData::from_vec(vec![0_u8, 1, 255]),
        ),
        (
            Datatype::Uint16,
            InferTensorContents { uint_contents: vec![0, 1, 65535], ..empty() },
            TensorData::from_vec(vec![0_u16, 1, 65535]),
        ),
        (
            Datatype::Uint32,
            InferTensorContents { uint_contents: vec![0, 1, u32::MAX], ..empty() },
            TensorData::from_vec(vec![0, 1, u32::MAX]),
        ),
        (
            Datatype::Uint64,
            InferTensorContents { uint64_contents: vec![0, 1, u64::MAX], ..empty() },
            TensorData::from_vec(vec![0, 1, u64::MAX]),
        ),
        (
            Datatype::Fp32,
            InferTensorContents { fp32_contents: vec![-0.0, 1e-45, f32::MAX], ..empty() },
            TensorData::from_vec(vec![-0.0, 1e-45, f32::MAX]),
        ),
        (
            Datatype::Fp64,
            InferTensorContents { fp64_contents: vec![-0.0, 5e-324, f64::MAX], ..empty() },
            TensorData::from_vec(vec![-0.0, 5e-324, f64::MAX]),
        ),
        (Datatype::Bytes, InferTensorContents { bytes_contents: texts(), ..empty() }, TensorData::Strings(texts())),
    ]
}

#[tokio::test]
async fn every_datatype_survives_typed_and_raw() {
    for (datatype, contents, data) in every_datatype() {
        let registry = || echo::echo(&[("x", datatype, &[-1])]);
        let sent = request(vec![input("x", datatype.name(), &[3], Some(contents.clone()))], Vec::new());
        let answer = infer(registry(), typed(sent)).await.unwrap();
        assert_eq!(answer.outputs[0].contents, Some(contents), "{datatype}");
        let bytes = binary::encode(&data).unwrap();
        let raw = request(vec![input("x", datatype.name(), &[3], None)], vec![bytes.clone()]);
        let answer = infer(registry(), raw).await.unwrap();
        assert_eq!(answer.raw_output_contents, [bytes], "{datatype}");
    }
}

#[tokio::test]
async fn half_floats_travel_raw() {
    for datatype in [Datatype::Fp16, Datatype::Bf16] {
        let raw = Bytes::from_static(&[0, 60, 1, 2]);
        let registry = || echo::echo(&[("x", datatype, &[-1])]);
        let sent = request(vec![input("x", datatype.name(), &[2], None)], vec![raw.clone()]);
        assert_eq!(infer(registry(), sent).await.unwrap().raw_output_contents, [raw], "{datatype}");
        let sent = request(vec![input("x", datatype.name(), &[2], floats(&[1.0, 2.0]))], Vec::new());
        let error = infer(registry(), sent).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("send it in `raw_input_contents`"), "{error}");
    }
}

#[test]
fn a_half_float_among_typed_outputs_makes_all_of_them_raw() {
    let tensor = |name: &str, datatype, data| inference::Tensor {
        name: name.to_owned(),
        datatype,
        shape: vec![1],
        parameters: Vec::new(),
        data,
    };
    let response = inference::InferResponse {
        model_name: String::new(),
        model_version: String::new(),
        id: None,
        parameters: vec![("n".to_owned(), inference::Parameter::Uint(u64::MAX))],
        outputs: vec![
            tensor("a", Datatype::Fp16, TensorData::from_vec(vec![1_u16])),
            tensor("b", Datatype::Int8, TensorData::from_vec(vec![2_u8])),
        ],
    };
    let message = super::convert::response(response, super::convert::Contents::Typed).unwrap();
    assert_eq!(message.raw_output_contents, [&[1_u8, 0][..], &[2]]);
    assert!(message.outputs.iter().all(|output| output.contents.is_none()));
    assert_eq!(message.parameters["n"].parameter_choice, Some(ParameterChoice::Uint64Param(u64::MAX)));
}

#[tokio::test]
async fn what_is_malformed_is_an_invalid_argument() {
    let x = |contents| input("x", "FP32", &[1], contents);
    let raw = || Bytes::from_static(&[0; 4]);
    let both =
        InferTensorContents { fp32_contents: vec![1.0], int_contents: vec![1], ..InferTensorContents::default() };
    let wide = InferTensorContents { int_contents: vec![1, 128], ..InferTensorContents::default() };
    let mut nameless = simple();
    nameless.parameters.insert("p".to_owned(), InferParameter { parameter_choice: None });
    for (message, said) in [
        (
            request(vec![x(floats(&[1.0])), x(None)], vec![raw()]),
            "contents field must not be specified when using raw_input_contents for 'x' for model 'echo'",
        ),
        (request(vec![x(None)], vec![raw(), raw()]), "expected one entry for each of the 1 inputs, found 2"),
        (request(vec![x(None)], vec![Bytes::from_static(&[0; 3])]), "`inputs[0]`: expected 4 bytes for FP32"),
        (request(vec![x(None)], Vec::new()), "expected in `fp32_contents` as many elements as shape [1] has, found 0"),
        (request(vec![x(floats(&[1.0, 2.0]))], Vec::new()), "found 2"),
        (request(vec![x(Some(both))], Vec::new()), "expected the elements of FP32 in `fp32_contents` alone"),
        (request(vec![input("x", "FP32", &[-1], None)], Vec::new()), "expected a shape of whole numbers from 0 on"),
        (request(vec![input("x", "fp32", &[1], None)], Vec::new()), "expected a datatype, one of BOOL"),
        (
            request(vec![input("x", "INT8", &[2], Some(wide))], Vec::new()),
            "`contents.int_contents[1]`: 128 is not within INT8",
        ),
        (request(vec![input("x", "FP32", &[1; 33], None)], Vec::new()), "expected at most 32 dimensions, found 33"),
        (request(Vec::new(), Vec::new()), "expected the input `x`"),
        (nameless, "the parameter `p` has no value"),
    ] {
        let error = infer(echo::echo(X), message).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{said}");
        assert!(error.message().contains(said), "{}", error.message());
    }
}

#[tokio::test]
async fn outputs_are_selected_by_name() {
    let inputs: &[(&str, Datatype, &[i64])] = &[("a", Datatype::Fp32, &[1]), ("b", Datatype::Fp32, &[1])];
    let mut message =
        request(vec![input("a", "FP32", &[1], floats(&[1.0])), input("b", "FP32", &[1], floats(&[2.0]))], Vec::new());
    message.outputs.push(InferRequestedOutputTensor { name: "b".to_owned(), parameters: BTreeMap::new() });
    let answer = infer(echo::echo(inputs), message.clone()).await.unwrap();
    assert_eq!(answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["b"]);
    message.outputs[0].name = "c".to_owned();
    assert_eq!(infer(echo::echo(inputs), message).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn classes_instead_of_an_output() {
    let mut message = simple();
    let count = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1)) };
    message.outputs.push(InferRequestedOutputTensor {
        name: "x".to_owned(),
        parameters: BTreeMap::from([("classification".to_owned(), count)]),
    });
    let answer = infer(echo::echo(X), typed(message)).await.unwrap();
    assert_eq!(answer.outputs[0].contents.as_ref().unwrap().bytes_contents, ["Infinity:1"]);
}

#[tokio::test]
async fn each_error_has_its_code() {
    for (error, _, code) in echo::errors() {
        let message = ModelInferRequest { model_name: "fail".to_owned(), ..simple() };
        let status = infer(echo::fail(error), message).await.unwrap_err();
        assert_eq!((status.code() as i32, status.message()), (code, "why"));
        let retry = status.metadata().get("x-berth-retry").map(|value| value.to_str().unwrap());
        assert_eq!(retry, (code == 14).then_some("safe"));
    }
}

#[tokio::test]
async fn what_is_not_ready_may_be_asked_elsewhere() {
    let (registry, token) = echo::draining();
    token.cancel();
    let slow = ModelInferRequest { model_name: "slow".to_owned(), ..simple() };
    for status in [
        infer(registry, simple()).await.unwrap_err(),
        infer(echo::loading(), slow).await.unwrap_err(),
        client(echo::loading())
            .model_metadata(proto::ModelMetadataRequest { name: "slow".to_owned(), version: String::new() })
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), status.metadata().get("x-berth-retry").unwrap().to_str().unwrap()),
            (Code::Unavailable, "safe")
        );
    }
}

#[tokio::test]
async fn the_service_of_a_call_must_be_the_model() {
    for (service, code) in [("echo", Code::Ok), ("other", Code::NotFound)] {
        let mut call = tonic::Request::new(simple());
        call.metadata_mut().insert("x-berth-service", service.parse().unwrap());
        let done = client(echo::echo(X)).model_infer(call).await;
        assert_eq!(done.map_or_else(|status| status.code(), |_| Code::Ok), code);
        let mut call =
            tonic::Request::new(proto::ModelReadyRequest { name: "echo".to_owned(), version: String::new() });
        call.metadata_mut().insert("x-berth-service", service.parse().unwrap());
        let done = client(echo::echo(X)).model_ready(call).await;
        assert_eq!(done.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
}

#[tokio::test]
async fn a_call_past_its_deadline_is_not_run() {
    for (timeout, code) in [("0n", Code::DeadlineExceeded), ("1H", Code::Ok), ("soon", Code::InvalidArgument)] {
        let mut call = tonic::Request::new(simple());
        call.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let done = client(echo::echo(X)).model_infer(call).await;
        assert_eq!(done.map_or_else(|status| status.code(), |_| Code::Ok), code, "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_message_does_not_arrive_is_given_up() {
    // The prefix of a message, and no more.
    let begun = tokio_stream::once(Ok::<_, std::convert::Infallible>(Bytes::from_static(&[0, 0, 0, 0, 9])));
    let stalled = axum::body::Body::from_stream(begun.chain(tokio_stream::pending()));
    let call = Request::post("/inference.GRPCInferenceService/ModelInfer").header("content-type", "application/grpc");
    let answer = routes(echo::echo(X), Limits::default()).unwrap().oneshot(call.body(stalled).unwrap()).await.unwrap();
    assert_eq!(answer.headers().get("grpc-status").unwrap(), "4");
}

#[tokio::test]
async fn health_and_metadata_of_server_and_model() {
    for (registry, name, ready) in [(echo::echo(X), "echo", true), (echo::loading(), "slow", false)] {
        let mut client = client(registry);
        assert!(client.server_live(proto::ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert_eq!(client.server_ready(proto::ServerReadyRequest {}).await.unwrap().into_inner().ready, ready);
        for version in ["", "3"] {
            let asked = proto::ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
            assert_eq!(client.model_ready(asked).await.unwrap().into_inner().ready, ready);
        }
        let unknown = proto::ModelReadyRequest { name: name.to_owned(), version: "4".to_owned() };
        assert_eq!(client.model_ready(unknown).await.unwrap_err().code(), Code::NotFound);
    }
    let mut client = client(echo::echo(X));
    let server = client.server_metadata(proto::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (server.name.as_str(), server.extensions.as_slice()),
        ("berth", &rest::EXTENSIONS.map(str::to_owned)[..])
    );
    let asked = proto::ModelMetadataRequest { name: "echo".to_owned(), version: String::new() };
    let model = client.model_metadata(asked).await.unwrap().into_inner();
    assert_eq!((model.platform.as_str(), model.versions.as_slice()), ("onnx_onnxv1", &["3".to_owned()][..]));
    assert_eq!((model.inputs[0].datatype.as_str(), model.inputs[0].shape.as_slice()), ("FP32", &[-1][..]));
}

#[tokio::test]
async fn decision_7_there_are_no_other_methods() {
    let call = Request::builder()
        .method("POST")
        .uri("/inference.GRPCInferenceService/ModelStreamInfer")
        .header("content-type", "application/grpc")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = routes(echo::echo(X), Limits::default()).unwrap().oneshot(call).await.unwrap();
    assert_eq!(response.headers().get("grpc-status").unwrap(), "12");
}

#[tokio::test]
async fn messages_over_the_limit_are_exhausted_resources() {
    let limited = |bytes| {
        let limits = Limits { body_bytes_max: bytes };
        GrpcInferenceServiceClient::new(routes(echo::echo(X), limits).unwrap())
    };
    let size = simple().encoded_len();
    let status = limited(size - 1).model_infer(simple()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    // The answer also names the model and its version, so that it is the larger of the two.
    let status = limited(size).model_infer(simple()).await.unwrap_err();
    assert!(status.message().starts_with("the answer has "), "{status}");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(limited(2 * size).model_infer(simple()).await.is_ok());
}

#[tokio::test]
async fn compressed_calls_are_answered_compressed_and_inflate_within_the_limit() {
    let values = vec![0.5; 10_000];
    let large = || request(vec![input("x", "FP32", &[10_000], floats(&values))], Vec::new());
    for coding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut compressing = client(echo::echo(X)).send_compressed(coding).accept_compressed(coding);
        let answer = compressing.model_infer(typed(large())).await.unwrap();
        assert!(answer.metadata().get("grpc-encoding").is_some());
        assert_eq!(answer.into_inner().outputs[0].contents, floats(&values));
        let limits = Limits { body_bytes_max: 20_000 };
        let limited = GrpcInferenceServiceClient::new(routes(echo::echo(X), limits).unwrap()).send_compressed(coding);
        let status = { limited }.model_infer(large()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
}

type Change = fn(&mut ModelInferRequest);

#[test]
fn parts_are_counted_before_they_are_decoded() {
    let scanned = |message: &ModelInferRequest| scan::infer_request(&message.encode_to_vec());
    let parameters = |count: usize| -> BTreeMap<String, InferParameter> {
        (0..count).map(|n| (n.to_string(), InferParameter { parameter_choice: None })).collect()
    };
    let mut message = request(vec![input("x", "FP32", &[], None); INPUTS_MAX], vec![Bytes::new(); INPUTS_MAX]);
    message.outputs = vec![InferRequestedOutputTensor::default(); OUTPUTS_MAX];
    message.parameters = parameters(PARAMETERS_MAX);
    message.inputs[0].parameters = parameters(PARAMETERS_MAX);
    message.outputs[0].parameters = parameters(PARAMETERS_MAX);
    message.inputs[1].contents =
        Some(InferTensorContents { bytes_contents: vec![Bytes::new(); STRINGS_MAX], ..InferTensorContents::default() });
    assert_eq!(scanned(&message), Ok(()));
    let changes: [(Change, &str); 6] = [
        (|message| message.inputs.push(InferInputTensor::default()), "more than 1024 inputs"),
        (|message| message.raw_input_contents.push(Bytes::new()), "more than 1024 raw input contents"),
        (|message| message.outputs.push(InferRequestedOutputTensor::default()), "more than 1024 outputs"),
        (
            |message| drop(message.parameters.insert("x".to_owned(), InferParameter::default())),
            "more than 64 parameters",
        ),
        (
            |message| drop(message.inputs[0].parameters.insert("x".to_owned(), InferParameter::default())),
            "more than 64 parameters of an input",
        ),
        (
            |message| {
                message.inputs[2].contents =
                    Some(InferTensorContents { bytes_contents: vec![Bytes::new()], ..InferTensorContents::default() });
            },
            "BYTES elements",
        ),
    ];
    for (change, said) in changes {
        let mut more = message.clone();
        change(&mut more);
        let error = scanned(&more).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_message_with_too_many_parts_is_refused() {
    let message = request(vec![InferInputTensor::default(); 1025], Vec::new());
    let status = infer(echo::echo(X), message).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "the request has more than 1024 inputs"));
}

#[tokio::test]
async fn a_long_name_does_not_come_back() {
    let long = ModelInferRequest { model_name: "x".repeat(1_000_000), ..simple() };
    let status = infer(echo::echo(X), long).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().len() < 200);
}

#[tokio::test]
async fn standard_health() {
    let mut client = HealthClient::new(routes(echo::echo(X), Limits::default()).unwrap());
    for service in ["", "inference.GRPCInferenceService", "echo"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut client = HealthClient::new(routes(echo::loading(), Limits::default()).unwrap());
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
}

#[tokio::test(start_paused = true)]
async fn a_health_watch_ends_with_the_drain() {
    let (registry, token) = echo::draining();
    let mut client = HealthClient::new(routes(registry, Limits::default()).unwrap());
    let mut watch = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    token.cancel();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn reflection_names_the_services_in_both_versions() {
    let services = ["grpc.health.v1.Health", "inference.GRPCInferenceService"];
    let router = || routes(echo::echo(X), Limits::default()).unwrap();
    {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask =
            |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let asked = tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("inference.GRPCInferenceService.ModelInfer".to_owned())),
        ]);
        let mut client = ServerReflectionClient::new(router());
        let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response
        else {
            panic!()
        };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        assert!(services.iter().all(|service| names.iter().any(|name| name == service)), "{names:?}");
        let second = answers.next().await.unwrap().unwrap().message_response;
        assert!(matches!(second, Some(MessageResponse::FileDescriptorResponse(_))));
    }
    {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest,
        };
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let asked = tokio_stream::iter([ServerReflectionRequest { host: String::new(), message_request }]);
        let mut client = ServerReflectionClient::new(router());
        assert!(client.server_reflection_info(asked).await.unwrap().into_inner().next().await.unwrap().is_ok());
    }
}

/// Tensors of any datatype with any bits.
fn tensor() -> impl Strategy<Value = inference::Tensor> {
    (select(&Datatype::ALL[..]), vec(0_usize..4, 0..4), ".{0,4}").prop_flat_map(|(datatype, shape, name)| {
        let count: usize = shape.iter().product();
        let data = match datatype.size() {
            Some(size) => vec(any::<u8>(), count * size)
                .prop_map(move |mut bytes| {
                    if datatype == Datatype::Bool {
                        bytes.iter_mut().for_each(|byte| *byte &= 1);
                    }
                    TensorData::from_vec(bytes)
                })
                .boxed(),
            None => vec(vec(any::<u8>(), 0..5).prop_map(Bytes::from), count).prop_map(TensorData::Strings).boxed(),
        };
        data.prop_map(move |data| inference::Tensor {
            name: name.clone(),
            datatype,
            shape: shape.clone(),
            parameters: vec![("n".to_owned(), inference::Parameter::Int(-1))],
            data,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tensors_survive_messages_typed_and_raw(tensors in vec(tensor(), 1..4), raw in any::<bool>()) {
        let contents = if raw { super::convert::Contents::Raw } else { super::convert::Contents::Typed };
        let response = inference::InferResponse {
            model_name: String::new(),
            model_version: String::new(),
            id: None,
            parameters: Vec::new(),
            outputs: tensors.clone(),
        };
        let written = super::convert::response(response, contents).unwrap();
        let inputs = written.outputs.into_iter().map(|output| InferInputTensor {
            name: output.name,
            datatype: output.datatype,
            shape: output.shape,
            parameters: output.parameters,
            contents: output.contents,
        });
        let message = request(inputs.collect(), written.raw_output_contents);
        let encoded = message.encode_to_vec();
        prop_assert_eq!(scan::infer_request(&encoded), Ok(()));
        let message = ModelInferRequest::decode(Bytes::from(encoded)).unwrap();
        let (read, _) = super::convert::request(message).unwrap();
        prop_assert_eq!(read.inputs, tensors);
    }

    #[test]
    fn arbitrary_messages_are_answered(bytes in vec(any::<u8>(), 0..64)) {
        drop(scan::infer_request(&bytes));
        if let Ok(message) = ModelInferRequest::decode(Bytes::from(bytes)) {
            drop(super::convert::request(message));
        }
    }
}

#[tokio::test]
async fn statistics_and_the_index() {
    let registry = echo::echo(X);
    infer(registry.clone(), simple()).await.unwrap();
    let mut client = client(registry);
    for (name, version) in [("echo", ""), ("echo", "3"), ("", "")] {
        let request = proto::ModelStatisticsRequest { name: name.to_owned(), version: version.to_owned() };
        let stats = client.model_statistics(request).await.unwrap().into_inner().model_stats;
        assert_eq!((stats.len(), stats[0].name.as_str(), stats[0].inference_count), (1, "echo", 2));
        let spans = stats[0].inference_stats.unwrap();
        assert_eq!((spans.success.unwrap().count, spans.compute_infer.unwrap().ns), (1, 1_500_000));
    }
    let request = proto::ModelStatisticsRequest { name: "other".to_owned(), version: String::new() };
    assert_eq!(client.model_statistics(request).await.unwrap_err().code(), Code::NotFound);
    let index = client.repository_index(proto::RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!((index.models[0].name.as_str(), index.models[0].state.as_str()), ("echo", "READY"));
    let mut loading = self::client(echo::loading());
    let index = loading.repository_index(proto::RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!((index.models[0].state.as_str(), index.models[0].reason.as_str()), ("UNAVAILABLE", "loading"));
    let ready = proto::RepositoryIndexRequest { ready: true, ..proto::RepositoryIndexRequest::default() };
    assert!(loading.repository_index(ready).await.unwrap().into_inner().models.is_empty());
    let load = client.repository_model_load(proto::RepositoryModelLoadRequest::default()).await;
    let unload = client.repository_model_unload(proto::RepositoryModelUnloadRequest::default()).await;
    assert_eq!((load.unwrap_err().code(), unload.unwrap_err().code()), (Code::Unimplemented, Code::Unimplemented));
}
