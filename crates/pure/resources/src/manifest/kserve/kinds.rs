//! KServe's kinds and formats of models, and what to do with those that Berth does not have.

/// Kinds of KServe that are refused, and why.
pub const KINDS: &[(&str, &str)] = &[
    (
        "InferenceGraph",
        "Berth has no graphs: call one service after the other in the client, or join the models into one ONNX file",
    ),
    (
        "ServingRuntime",
        "Berth has one runtime, its own: leave the document out; services that name it are served by Berth's",
    ),
    (
        "ClusterServingRuntime",
        "Berth has one runtime, its own: leave the document out; services that name it are served by Berth's",
    ),
    ("TrainedModel", "every model is a service of its own: write an `InferenceService` for it"),
    ("LLMInferenceService", "Berth generates no text: keep it on the cluster"),
    ("LLMInferenceServiceConfig", "Berth generates no text: keep it on the cluster"),
    ("LocalModelCache", "models are taken into the store of the machine when they are applied: leave the document out"),
    (
        "LocalModelNamespaceCache",
        "models are taken into the store of the machine when they are applied: leave the document out",
    ),
    ("LocalModelNode", "there is one machine: leave the document out"),
    ("LocalModelNodeGroup", "there is one machine: leave the document out"),
    ("ClusterStorageContainer", "Berth fetches no models: leave the document out, and name a path in `storageUri`"),
    ("Predictor", "it is ModelMesh's: write an `InferenceService` for its model"),
];

/// Formats of `modelFormat.name` that are refused, each with what to do. They are also the names of the forms before
/// `predictor.model`.
pub const FORMATS: &[(&str, &str)] = &[
    ("sklearn", SKLEARN),
    ("mlflow", MLFLOW),
    ("tensorflow", TENSORFLOW),
    ("pytorch", PYTORCH),
    ("triton", TRITON),
    ("pmml", PMML),
    ("paddle", PADDLE),
    ("huggingface", HUGGINGFACE),
    ("catboost", "export the model to ONNX (CatBoost's `save_model(format=\"onnx\")`) and write `onnx`"),
    ("tensorrt", "an engine of TensorRT runs on one GPU alone: take the ONNX file it was built from and write `onnx`"),
    ("openvino", "take the ONNX file that it was converted from and write `onnx`"),
    ("custom", "Berth runs no containers: export the model to ONNX and write `onnx`"),
];

pub(super) const SKLEARN: &str = "a pickle runs code when it is opened: convert the model to ONNX (docs/guide/from-scikit-learn.md) and write `onnx`";
const MLFLOW: &str = "an MLflow model runs Python: take the model inside, or convert it to ONNX \
     (docs/guide/from-scikit-learn.md), and write its format";
pub(super) const TENSORFLOW: &str = "convert the SavedModel to ONNX (`tf2onnx`) and write `onnx`";
pub(super) const PYTORCH: &str =
    "a pickle runs code when it is opened: export the model to ONNX (`torch.onnx.export`) and write `onnx`";
pub(super) const TRITON: &str =
    "a repository of Triton holds many models: write `onnx`, and in `storageUri` the path of one model's ONNX file";
pub(super) const PMML: &str =
    "convert the model to ONNX where it was fitted (docs/guide/from-scikit-learn.md) and write `onnx`";
pub(super) const PADDLE: &str = "convert the model to ONNX (`paddle2onnx`) and write `onnx`";
pub(super) const HUGGINGFACE: &str = "export the encoder to ONNX with its `tokenizer.json` (docs/guide/embeddings.md) and write \
     `onnx`; Berth generates no text";
