//! What each target does with its bytes.
#![expect(clippy::panic, reason = "a panic is how a target says what it found")]

use std::io::Cursor;

use bytes::Bytes;
use inference::{
    Datatype, InferRequest, ModelMetadata, Tensor, TensorSpec, binary, json,
    trees::{self, Format},
};
use store::recognise::Sample;

use crate::infer;

#[expect(dead_code, reason = "of this file only the reader of names is used")]
#[path = "../../../crates/services/gateway/src/peek.rs"]
mod peek;

/// A model that takes a tensor of every kind that matters to a reader.
fn model() -> ModelMetadata {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned()],
        platform: "onnx_onnxv1".to_owned(),
        inputs: vec![
            spec("x", Datatype::Fp32, &[-1, 2]),
            spec("n", Datatype::Int64, &[-1]),
            spec("s", Datatype::Bytes, &[-1]),
            spec("b", Datatype::Bool, &[-1, 1]),
        ],
        outputs: vec![spec("y", Datatype::Fp32, &[-1])],
    }
}

/// What was read is written in both forms and read again, and must be the same.
fn same_again(request: &InferRequest) {
    for as_bytes in [true, false] {
        // Text that is not UTF-8 cannot be JSON.
        let Ok(encoded) = binary::write_request(request, as_bytes) else { continue };
        let header = encoded.binary.then_some(encoded.json.len());
        let read = binary::read_request(encoded.into_bytes(), header, &model());
        let (again, _) = read.unwrap_or_else(|error| panic!("what was written is not read: {error}"));
        assert_eq!(again.inputs.len(), request.inputs.len(), "inputs were lost");
        for (one, other) in request.inputs.iter().zip(&again.inputs) {
            same_tensor(one, other);
        }
    }
}

fn same_tensor(one: &Tensor, other: &Tensor) {
    assert_eq!((&one.name, one.datatype, &one.shape), (&other.name, other.datatype, &other.shape));
    let bytes = |tensor: &Tensor| binary::encode(&tensor.data).unwrap_or_else(|error| panic!("{error}"));
    let (before, after) = (bytes(one), bytes(other));
    // NaN has many forms, and JSON one.
    let floats = matches!(one.datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64);
    assert!(before == after || floats && before.len() == after.len(), "elements changed");
}

/// A request of the Open Inference Protocol as JSON.
pub fn infer_json(data: &[u8]) {
    if let Ok((request, _)) = binary::read_request(Bytes::copy_from_slice(data), None, &model()) {
        same_again(&request);
    }
}

/// A request with binary tensors; the first two bytes are the length of its JSON.
pub fn infer_binary(data: &[u8]) {
    let Some((length, body)) = with_length(data) else { return };
    if let Ok((request, _)) = binary::read_request(body, Some(length), &model()) {
        same_again(&request);
    }
}

/// An answer, as the CLI and the conformance suite read it; the first two bytes are the length of its JSON, zero for all.
pub fn answer(data: &[u8]) {
    if let Some((length, body)) = with_length(data) {
        let header = (length > 0).then_some(length);
        if let Ok(answer) = binary::read_response(body, header) {
            for output in &answer.outputs {
                binary::encode(&output.data).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

fn with_length(data: &[u8]) -> Option<(usize, Bytes)> {
    let (length, body) = data.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*length)), Bytes::copy_from_slice(body)))
}

/// A request of the V1 protocol.
pub fn predict_v1(data: &[u8]) {
    if let Ok((request, _)) = json::v1::read_request(&Bytes::copy_from_slice(data), &model()) {
        same_again(&request);
    }
}

/// A gRPC message: its parts counted, decoded, its contents read, and the tensors of both forms written again.
pub fn grpc(data: &[u8]) {
    if let Ok(request) = runtime::grpc::read_request(Bytes::copy_from_slice(data)) {
        same_again(&request);
    }
}

/// The beginning of a gRPC message, where the gateway looks for the model's name. What a decoder reads is what it finds.
pub fn grpc_peek(data: &[u8]) {
    let Ok(found) = peek::model(data) else { return };
    if let Ok(request) = runtime::grpc::decode_request(Bytes::copy_from_slice(data)) {
        assert_eq!((found.name, found.version), (request.model_name.as_str(), request.model_version.as_str()));
    }
}

/// A model of XGBoost as JSON.
pub fn xgboost_json(data: &[u8]) {
    ensemble(Format::XgboostJson, data);
}

/// A model of XGBoost as UBJSON.
pub fn xgboost_ubj(data: &[u8]) {
    ensemble(Format::XgboostUbj, data);
}

/// A model of LightGBM.
pub fn lightgbm(data: &[u8]) {
    ensemble(Format::LightgbmText, data);
}

/// A model that can be read answers every row.
fn ensemble(format: Format, data: &[u8]) {
    // Wider rows are only slower.
    const WIDTH_MAX: usize = 4096;
    let Ok(model) = trees::read(format, data) else { return };
    if model.features() > WIDTH_MAX || model.outputs() > WIDTH_MAX {
        return;
    }
    let (mut sums, mut out) = (model.scratch(), vec![0.0; model.outputs()]);
    if sums.len() > WIDTH_MAX {
        return;
    }
    for value in [0.0, -1.5, 3.0, 1e300, f64::NAN, f64::INFINITY] {
        model.predict(&vec![value; model.features()], &mut sums, &mut out);
    }
}

/// The inputs, outputs and operators of an ONNX file.
pub fn onnx(data: &[u8]) {
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let _ = store::onnx::read(Cursor::new(data), length);
}

/// What a file is, by its beginning, its end and the names in it.
pub fn recognise(data: &[u8]) {
    let head = data.get(..store::recognise::HEAD_BYTES).unwrap_or(data).to_vec();
    let tail = data.get(data.len().saturating_sub(store::recognise::TAIL_BYTES)..).unwrap_or(data).to_vec();
    let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let members = String::from_utf8_lossy(data).split('\n').take(16).map(str::to_owned).collect();
    let refused = store::recognise::refusal(&Sample { head: head.clone(), tail, size, members });
    assert!(refused.is_none_or(|text| !text.is_empty()), "a refusal without a word");
    let _ = store::Format::of(&head);
}

/// A manifest in YAML or JSON. What was read is read again from its JSON.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(services) = resources::manifest::parse(text) else { return };
    for service in services {
        let json =
            serde_json::to_value(&service).unwrap_or_else(|error| panic!("a manifest cannot be written: {error}"));
        let again = resources::manifest::from_json_value(&json);
        assert!(again.is_ok(), "what was written is not read: {again:?}");
    }
}

/// A manifest of KServe. What was read is exported and read again, and asks for the same; a second time nothing changes at all.
pub fn kserve(data: &[u8]) {
    use resources::manifest::{kserve::export, parse};
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(services) = parse(text) else { return };
    for service in services {
        let once = match parse(&export(&service).manifest.to_string()) {
            Ok(once) => once,
            Err(error) => {
                // Berth's own kind may carry annotations that say nothing here and something to KServe.
                let annotations = &service.metadata.annotations;
                let speaks = annotations.contains_key("serving.kserve.io/stop") || annotations.len() >= 64;
                assert!(speaks, "an export is not read: {error}");
                return;
            }
        };
        assert!(once.iter().all(|once| once.spec == service.spec), "an export asks for something else: {once:?}");
        for service in once {
            let twice = parse(&export(&service).manifest.to_string());
            assert!(twice.is_ok_and(|twice| twice == [service]), "an export does not come back whole");
        }
    }
}

/// An array of numpy.
pub fn npy(data: &[u8]) {
    infer::read_npy(data);
}

/// A table.
pub fn csv(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        infer::read_csv(text);
    }
}
