//! gRPC: the six required methods, both ways to carry tensors, and errors.

use std::collections::BTreeMap;

use bytes::Bytes;
use runtime::grpc::proto;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    ANSWER_TIMEOUT, body, ensure,
    report::{Check, Level, Outcome, Recorder},
    target::{Model, Tensor},
};

const SPEC: &str = "inference_grpc.md";

const fn required(id: &'static str, title: &'static str) -> Check {
    Check { id, level: Level::Required, title, clause: SPEC }
}

struct Client {
    channel: Channel,
    key: Option<String>,
}

impl Client {
    async fn call<Q, R>(&self, method: &'static str, message: Q) -> Result<R, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(256 * 1024 * 1024);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(message);
        request.set_timeout(ANSWER_TIMEOUT);
        if let Some(key) = &self.key {
            let value = MetadataValue::try_from(format!("Bearer {key}"))
                .map_err(|error| Status::internal(error.to_string()))?;
            request.metadata_mut().insert("authorization", value);
        }
        let path = PathAndQuery::try_from(format!("/inference.GRPCInferenceService/{method}"))
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(grpc.unary(request, path, ProstCodec::default()).await?.into_inner())
    }

    async fn infer(&self, request: proto::ModelInferRequest) -> Result<proto::ModelInferResponse, Status> {
        self.call("ModelInfer", request).await
    }
}

pub(super) async fn run(address: &str, key: Option<String>, model: &Model, recorder: &mut Recorder) {
    let check = required("grpc.connect", "the gRPC service can be reached");
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let channel = match endpoint {
        Ok(endpoint) => {
            endpoint.connect_timeout(ANSWER_TIMEOUT).connect().await.map_err(|error| format!("{address}: {error}"))
        }
        Err(error) => Err(format!("{address}: {error}")),
    };
    let client = match channel {
        Ok(channel) => Client { channel, key },
        Err(error) => return recorder.record(check, Outcome::Fail(error)),
    };
    recorder.record(check, Outcome::Pass);
    health(&client, model, recorder).await;
    metadata(&client, model, recorder).await;
    inference(&client, model, recorder).await;
    errors(&client, model, recorder).await;
}

fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn outcome<T>(result: Result<T, Status>, holds: impl FnOnce(&T) -> bool, otherwise: &str) -> Outcome {
    match result {
        Ok(answer) => ensure(holds(&answer), || otherwise.to_owned()),
        Err(status) => Outcome::Fail(said(&status)),
    }
}

async fn health(client: &Client, model: &Model, recorder: &mut Recorder) {
    let live = client.call::<_, proto::ServerLiveResponse>("ServerLive", proto::ServerLiveRequest {}).await;
    recorder.record(
        required("grpc.server_live", "ServerLive says live"),
        outcome(live, |answer| answer.live, "live is false"),
    );
    let ready = client.call::<_, proto::ServerReadyResponse>("ServerReady", proto::ServerReadyRequest {}).await;
    recorder.record(
        required("grpc.server_ready", "ServerReady says ready"),
        outcome(ready, |answer| answer.ready, "ready is false"),
    );
    let request = proto::ModelReadyRequest { name: model.name.clone(), version: String::new() };
    let ready = client.call::<_, proto::ModelReadyResponse>("ModelReady", request).await;
    recorder.record(
        required("grpc.model_ready", "ModelReady says ready"),
        outcome(ready, |answer| answer.ready, "ready is false"),
    );
}

async fn metadata(client: &Client, model: &Model, recorder: &mut Recorder) {
    let server =
        client.call::<_, proto::ServerMetadataResponse>("ServerMetadata", proto::ServerMetadataRequest {}).await;
    let holds = |answer: &proto::ServerMetadataResponse| !answer.name.is_empty();
    recorder.record(
        required("grpc.server_metadata", "ServerMetadata gives a name"),
        outcome(server, holds, "the name is empty"),
    );
    let request = proto::ModelMetadataRequest { name: model.name.clone(), version: String::new() };
    let metadata = client.call::<_, proto::ModelMetadataResponse>("ModelMetadata", request).await;
    let holds = |answer: &proto::ModelMetadataResponse| {
        let names = |tensors: &[proto::model_metadata_response::TensorMetadata]| {
            tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
        };
        let known = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
        names(&answer.inputs) == known(&model.inputs) && names(&answer.outputs) == known(&model.outputs)
    };
    let differs = "inputs or outputs differ from those of REST";
    recorder.record(
        required("grpc.model_metadata", "ModelMetadata gives the same tensors as REST"),
        outcome(metadata, holds, differs),
    );
}

fn contents(tensor: &Tensor) -> Option<proto::InferTensorContents> {
    let count = tensor.elements();
    let mut contents = proto::InferTensorContents::default();
    match tensor.datatype.as_str() {
        "BOOL" => contents.bool_contents = vec![true; count],
        "INT8" | "INT16" | "INT32" => contents.int_contents = vec![1; count],
        "INT64" => contents.int64_contents = vec![1; count],
        "UINT8" | "UINT16" | "UINT32" => contents.uint_contents = vec![1; count],
        "UINT64" => contents.uint64_contents = vec![1; count],
        "FP32" => contents.fp32_contents = vec![0.5; count],
        "FP64" => contents.fp64_contents = vec![0.5; count],
        "BYTES" => contents.bytes_contents = vec![Bytes::from_static(b"1"); count],
        // FP16 and BF16 have no field of their own.
        _ => return None,
    }
    Some(contents)
}

fn tensor(
    tensor: &Tensor,
    contents: Option<proto::InferTensorContents>,
) -> proto::model_infer_request::InferInputTensor {
    proto::model_infer_request::InferInputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.clone(),
        shape: tensor.concrete().into_iter().map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
        parameters: BTreeMap::new(),
        contents,
    }
}

fn request(model: &Model, inputs: Vec<proto::model_infer_request::InferInputTensor>) -> proto::ModelInferRequest {
    proto::ModelInferRequest {
        model_name: model.name.clone(),
        id: "conformance-42".to_owned(),
        inputs,
        ..proto::ModelInferRequest::default()
    }
}

fn raw_request(model: &Model) -> proto::ModelInferRequest {
    let inputs = model.inputs.iter().map(|input| tensor(input, None)).collect();
    let raw_input_contents = model.inputs.iter().map(|input| Bytes::from(body::tensor_bytes(input))).collect();
    proto::ModelInferRequest { raw_input_contents, ..request(model, inputs) }
}

fn check_answer(answer: &proto::ModelInferResponse, model: &Model) -> bool {
    let filled = answer.raw_output_contents.len() == answer.outputs.len()
        || answer.outputs.iter().all(|output| output.contents.is_some());
    let known = answer
        .outputs
        .iter()
        .all(|output| model.outputs.iter().any(|known| known.name == output.name && known.datatype == output.datatype));
    answer.model_name == model.name && answer.outputs.len() == model.outputs.len() && filled && known
}

async fn inference(client: &Client, model: &Model, recorder: &mut Recorder) {
    let wrong = "outputs are missing, empty or not those of the metadata";
    let check = required("grpc.infer.contents", "ModelInfer takes typed contents");
    let typed: Option<Vec<_>> =
        model.inputs.iter().map(|input| contents(input).map(|contents| tensor(input, Some(contents)))).collect();
    match typed {
        Some(inputs) => {
            let answer = client.infer(request(model, inputs)).await;
            recorder.record(check, outcome(answer, |answer| check_answer(answer, model), wrong));
        }
        None => recorder.record(check, Outcome::Skip("an input is FP16 or BF16, which only travel raw".to_owned())),
    }
    let answer = client.infer(raw_request(model)).await;
    let echoed = answer.as_ref().map(|answer| answer.id == "conformance-42").map_err(Clone::clone);
    recorder.record(
        required("grpc.infer.raw", "ModelInfer takes raw contents"),
        outcome(answer, |answer| check_answer(answer, model), wrong),
    );
    recorder.record(
        required("grpc.infer.id", "the request's id is in the response"),
        outcome(echoed, |echoed| *echoed, "the id is another one"),
    );
    let Some(wanted) = model.outputs.last() else { return };
    let output = proto::model_infer_request::InferRequestedOutputTensor {
        name: wanted.name.clone(),
        parameters: BTreeMap::new(),
    };
    let answer = client.infer(proto::ModelInferRequest { outputs: vec![output], ..raw_request(model) }).await;
    let holds =
        |answer: &proto::ModelInferResponse| matches!(answer.outputs.as_slice(), [only] if only.name == wanted.name);
    recorder.record(
        required("grpc.infer.outputs", "only the outputs asked for are in the response"),
        outcome(answer, holds, "other outputs came"),
    );
}

async fn errors(client: &Client, model: &Model, recorder: &mut Recorder) {
    let mut unknown = raw_request(model);
    unknown.model_name = "no-such-model-anywhere".to_owned();
    let mut short = raw_request(model);
    if let Some(first) = short.raw_input_contents.first_mut() {
        *first = first.slice(..first.len().saturating_sub(1));
    }
    let mut missing = raw_request(model);
    missing.raw_input_contents.clear();
    let mut mixed = raw_request(model);
    if let Some(input) = mixed.inputs.first_mut() {
        // What the contents hold does not matter: that they are there is the mistake.
        input.contents = Some(proto::InferTensorContents { bool_contents: vec![true], ..Default::default() });
    }
    let mut negative = raw_request(model);
    if let Some(input) = negative.inputs.first_mut() {
        input.shape = vec![-1];
    }
    let cases = [
        ("grpc.error.unknown_model", "a model that is not there is an error", unknown),
        ("grpc.error.short", "raw contents shorter than the shape are an error", short),
        ("grpc.error.missing", "inputs without contents are an error", missing),
        ("grpc.error.mixed", "raw contents together with typed contents are an error", mixed),
        ("grpc.error.negative_shape", "a negative dimension is an error", negative),
    ];
    for (id, title, request) in cases {
        let result = match client.infer(request).await {
            Ok(_) => Outcome::Fail("it was answered".to_owned()),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                Outcome::Fail(said(&status))
            }
            Err(_) => Outcome::Pass,
        };
        recorder.record(required(id, title), result);
    }
}
