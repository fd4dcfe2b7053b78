//! Every reader of bytes that a stranger may have written, each as a function of those bytes that must not fail.
//!
//! A target panics when a reader does, or when what it read does not survive being written and read again. The tests of this
//! package run each on its seeds and a few thousand changed ones; `make fuzz` runs each under libFuzzer.

mod infer;
pub mod mutate;
pub mod seeds;
pub mod targets;

/// One reader under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How it is asked for.
    pub name: &'static str,
    /// Gives it one input.
    pub run: fn(&[u8]),
    /// Inputs of its kind.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 15] = [
    Target { name: "infer_json", run: targets::infer_json, seeds: seeds::infer_json },
    Target { name: "infer_binary", run: targets::infer_binary, seeds: seeds::infer_binary },
    Target { name: "answer", run: targets::answer, seeds: seeds::answer },
    Target { name: "predict_v1", run: targets::predict_v1, seeds: seeds::predict_v1 },
    Target { name: "grpc", run: targets::grpc, seeds: seeds::grpc },
    Target { name: "grpc_peek", run: targets::grpc_peek, seeds: seeds::grpc },
    Target { name: "xgboost_json", run: targets::xgboost_json, seeds: seeds::xgboost_json },
    Target { name: "xgboost_ubj", run: targets::xgboost_ubj, seeds: seeds::xgboost_ubj },
    Target { name: "lightgbm", run: targets::lightgbm, seeds: seeds::lightgbm },
    Target { name: "onnx", run: targets::onnx, seeds: seeds::onnx },
    Target { name: "recognise", run: targets::recognise, seeds: seeds::recognise },
    Target { name: "manifest", run: targets::manifest, seeds: seeds::manifest },
    Target { name: "kserve", run: targets::kserve, seeds: seeds::kserve },
    Target { name: "npy", run: targets::npy, seeds: seeds::npy },
    Target { name: "csv", run: targets::csv, seeds: seeds::csv },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
