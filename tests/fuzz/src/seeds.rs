//! Inputs to start from: a few of each kind that are right, and the model files of the readers' own tests.

use bytes::Bytes;
use inference::{Datatype, InferRequest, Tensor, TensorData, binary};
use runtime::grpc::{encode_request, proto};

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// JSON requests.
pub fn infer_json() -> Vec<Vec<u8>> {
    texts([
        r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,-2e3]}]}"#,
        r#"{"id":"a","parameters":{"p":1,"q":"s","r":true},"inputs":[{"name":"n","shape":[3],"datatype":"INT64","data":[1,-9223372036854775808,3]}],"outputs":[{"name":"y","parameters":{"binary_data":false,"classification":2}}]}"#,
        r#"{"inputs":[{"name":"s","shape":[2],"datatype":"BYTES","data":["a\u00e9\ud83d\ude00","\"\\"]},{"name":"b","shape":[2,1],"datatype":"BOOL","data":[[true],[false]]}]}"#,
        r#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP64","data":[[1,2],[3,4]]},{"name":"u","shape":[0],"datatype":"UINT8","data":[]},{"name":"h","shape":[1],"datatype":"FP16","data":[0.5]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"UINT64","shape":[2],"data":[18446744073709551615,0],"parameters":{"content_type":"np"}}]}"#,
    ])
}

fn tensors() -> InferRequest {
    let tensor = |name: &str, datatype, shape: &[usize], data| Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        parameters: Vec::new(),
        data,
    };
    let strings = Bytes::from_static(b"\x02\0\0\0ab\0\0\0\0");
    let strings = binary::decode(Datatype::Bytes, &[2], strings).unwrap_or(TensorData::from_vec::<u8>(Vec::new()));
    InferRequest {
        inputs: vec![
            tensor("x", Datatype::Fp32, &[1, 2], TensorData::from_vec(vec![1.0_f32, 2.0])),
            tensor("n", Datatype::Int64, &[1], TensorData::from_vec(vec![7_i64])),
            tensor("s", Datatype::Bytes, &[2], strings),
        ],
        ..InferRequest::default()
    }
}

fn lengthened(length: usize, body: &[u8]) -> Vec<u8> {
    let mut whole = u16::try_from(length).unwrap_or(0).to_le_bytes().to_vec();
    whole.extend_from_slice(body);
    whole
}

/// Requests with binary tensors.
pub fn infer_binary() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = infer_json().iter().map(|json| lengthened(json.len(), json)).collect();
    if let Ok(encoded) = binary::write_request(&tensors(), true) {
        seeds.push(lengthened(encoded.json.len(), &encoded.into_bytes()));
    }
    seeds.push(lengthened(0, &[0; 16]));
    seeds
}

/// Answers.
pub fn answer() -> Vec<Vec<u8>> {
    let json = r#"{"model_name":"m","model_version":"1","id":"i","outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[1,2]}]}"#;
    let head = r#"{"model_name":"m","outputs":[{"name":"y","shape":[2],"datatype":"INT8","parameters":{"binary_data_size":2}}]}"#;
    let mut with_bytes = head.as_bytes().to_vec();
    with_bytes.extend_from_slice(&[1, 2]);
    vec![lengthened(0, json.as_bytes()), lengthened(head.len(), &with_bytes)]
}

/// Requests of V1.
pub fn predict_v1() -> Vec<Vec<u8>> {
    texts([
        r#"{"instances":[{"x":[1,2],"n":1,"s":"a","b":[true]},{"x":[3,4],"n":2,"s":{"b64":"YQ=="},"b":[false]}]}"#,
        r#"{"signature_name":"serving_default","inputs":{"x":[[1,2]],"n":[1],"s":["a"],"b":[[true]]}}"#,
        r#"{"instances":[[1.0,2.0],[3.0,4.0]]}"#,
    ])
}

/// gRPC messages: raw and typed.
pub fn grpc() -> Vec<Vec<u8>> {
    let input = |name: &str, datatype: &str, shape: &[i64]| proto::model_infer_request::InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    let request = |inputs| proto::ModelInferRequest {
        model_name: "m".to_owned(),
        model_version: "1".to_owned(),
        id: "i".to_owned(),
        inputs,
        ..Default::default()
    };
    let mut raw = request(vec![input("x", "FP32", &[1, 2]), input("s", "BYTES", &[2])]);
    raw.raw_input_contents = vec![Bytes::from_static(&[0; 8]), Bytes::from_static(b"\x02\0\0\0ab\0\0\0\0")];
    let mut typed = request(vec![input("n", "INT64", &[2]), input("s", "BYTES", &[1]), input("b", "BOOL", &[1])]);
    let contents = [
        proto::InferTensorContents { int64_contents: vec![1, -2], ..Default::default() },
        proto::InferTensorContents { bytes_contents: vec![Bytes::from_static(b"text")], ..Default::default() },
        proto::InferTensorContents { bool_contents: vec![true], ..Default::default() },
    ];
    for (input, contents) in typed.inputs.iter_mut().zip(contents) {
        input.contents = Some(contents);
    }
    vec![encode_request(&raw), encode_request(&typed)]
}

/// XGBoost's models as JSON.
pub fn xgboost_json() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/xgboost-binary.json").to_vec(),
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/xgboost-poisson.json").to_vec(),
    ]
}

/// XGBoost's models as UBJSON.
pub fn xgboost_ubj() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/xgboost-categories-sets.ubj").to_vec(),
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/xgboost-dart.ubj").to_vec(),
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/xgboost-multiclass.ubj").to_vec(),
    ]
}

/// LightGBM's models.
pub fn lightgbm() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/lightgbm-binary.txt").to_vec(),
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/lightgbm-categories.txt").to_vec(),
        include_bytes!("../../../crates/pure/inference/src/trees/fixtures/lightgbm-linear.txt").to_vec(),
    ]
}

/// An ONNX file written by hand: `y = x`, with an initialiser and a metadata entry.
pub fn onnx() -> Vec<Vec<u8>> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap_or(0)];
        out.extend_from_slice(bytes);
        out
    };
    let dimensions = field(2, &[field(1, &[8, 2]), field(1, &field(2, b"n"))].concat());
    let tensor_type = [vec![8, 1], dimensions].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor_type))].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let initialiser = [vec![8, 2, 16, 1], field(8, b"w"), field(9, &[0; 8])].concat();
    let graph =
        [field(1, &node), field(2, b"g"), field(5, &initialiser), field(11, &value(b"x")), field(12, &value(b"y"))];
    let opset = [field(1, b"ai.onnx.ml"), vec![16, 3]].concat();
    let model = [vec![8, 10], field(2, b"producer"), field(7, &graph.concat()), field(8, &[16, 21]), field(8, &opset)];
    vec![model.concat()]
}

/// Beginnings that mean something.
pub fn recognise() -> Vec<Vec<u8>> {
    let mut seeds = texts([
        "PK\u{3}\u{4}\narchive/data.pkl\nversion",
        "\u{80}\u{4}csklearn\n.",
        "(dp0\nS'a'\np1\n.",
        "{\"learner\":{}}",
        "tree\nversion=v4\n",
        "GGUF\u{3}",
        "#!/bin/sh",
        "PK\u{5}\u{6}\0\0\0\0\0\0\0\0",
    ]);
    seeds.push(b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05torch.".to_vec());
    seeds.push(b"\x89HDF\r\n\x1a\n".to_vec());
    seeds.extend(onnx());
    seeds
}

/// Manifests.
pub fn manifest() -> Vec<Vec<u8>> {
    texts([
        "apiVersion: berth.dev/v1alpha1\nkind: InferenceService\nmetadata:\n  name: spam\n  labels: {team: a}\nspec:\n  predictor:\n    minReplicas: 1\n    maxReplicas: 3\n    containerConcurrency: 4\n    timeout: 60\n    model:\n      modelFormat: {name: onnx}\n      storageUri: file:///models/spam\n      resources: {limits: {cpu: 500m, memory: 1Gi}}\n",
        "a: &a\n  kind: InferenceService\n---\n<<: *a\napiVersion: berth.dev/v1alpha1\n",
        r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"serving.kserve.io/v1beta1","kind":"InferenceService","metadata":{"name":"iris"},"spec":{"predictor":{"sklearn":{"storageUri":"file:///m"}}}}]}"#,
    ])
}

/// Manifests of KServe.
pub fn kserve() -> Vec<Vec<u8>> {
    texts([
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n  name: iris\n  namespace: models\n  annotations: {serving.kserve.io/deploymentMode: Standard, berth.dev/traffic: '{\"sticky\":{\"key\":true}}'}\nspec:\n  predictor:\n    minReplicas: 1\n    maxReplicas: 3\n    canaryTrafficPercent: 10\n    nodeSelector: {disk: ssd}\n    batcher: {maxBatchSize: 8, maxLatency: 5, timeout: 60}\n    model:\n      modelFormat: {name: onnx, version: '1'}\n      protocolVersion: grpc-v2\n      runtime: kserve-tritonserver\n      storageUri: file:///m\n      args: [--log-verbose=1]\n      resources: {limits: {cpu: 1, memory: 1Gi}}\n",
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: old}\nspec: {predictor: {containerConcurrency: 0, xgboost: {storageUri: 'file:///m.ubj', env: [{name: A, value: b}]}}}\n",
        r#"{"apiVersion":"serving.kserve.io/v1beta1","kind":"InferenceServiceList","items":[{"apiVersion":"serving.kserve.io/v1beta1","kind":"InferenceService","metadata":{"name":"a","uid":"u"},"spec":{"predictor":{"sklearn":{"storageUri":"gs://b/m"}},"transformer":{}}}]}"#,
        "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: {name: g}\n---\napiVersion: v1\nkind: Secret\n",
    ])
}

/// Arrays.
pub fn npy() -> Vec<Vec<u8>> {
    let file = |version: u8, header: &str, data: &[u8]| {
        let mut out = b"\x93NUMPY".to_vec();
        out.extend_from_slice(&[version, 0]);
        let length = u16::try_from(header.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_le_bytes());
        if version > 1 {
            out.extend_from_slice(&[0, 0]);
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out
    };
    vec![
        file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", &[0; 8]),
        file(1, "{'descr': '>i8', 'fortran_order': True, 'shape': (2,), }\n", &[1; 16]),
        file(2, "{'descr': '|b1', 'fortran_order': False, 'shape': (), }\n", &[1]),
    ]
}

/// Tables.
pub fn csv() -> Vec<Vec<u8>> {
    texts(["a,b\n1,2\n3,4\n", "1.5,2\r\n\"3\",\"x \"\"y\"\"\n, z\"\r\n", "\u{feff}name,\"long\nname\"\n,\n"])
}
