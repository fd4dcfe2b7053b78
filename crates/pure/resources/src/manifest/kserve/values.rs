//! Fields of which only some values are taken, or that become others.

use serde_json::Value;

use super::kinds;
use crate::{
    inference_service::MODEL_FORMATS,
    manifest::{source, walk::clipped},
};

/// What becomes of one value of a mapped field.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is written as this.
    Value(Value),
    /// It asks for what is so anyway.
    Absent,
    /// It is accepted and has no effect.
    NotHonoured,
    /// It is refused.
    Refused(String),
}

/// Places that are refused are said beside everything else that is; the rest is checked with Berth's own kind.
pub(super) fn uri(value: &Value) -> Outcome {
    match value.as_str().and_then(source::elsewhere) {
        Some(message) => Outcome::Refused(message),
        None => Outcome::Value(value.clone()),
    }
}

/// A machine has one namespace.
pub(super) fn namespace(value: &Value) -> Outcome {
    match value.as_str() {
        Some("default") => Outcome::Value(value.clone()),
        Some("") => Outcome::Absent,
        Some(_) => Outcome::NotHonoured,
        None => Outcome::Refused("expected the text of a name".to_owned()),
    }
}

/// A service that is stopped is none.
pub(super) fn stop(value: &Value) -> Outcome {
    match value.as_str() {
        Some("true") => Outcome::Refused("the service is stopped: leave the document out, or write `false`".to_owned()),
        _ => Outcome::Value(value.clone()),
    }
}

/// Zero is no limit, which is so when nothing is written.
pub(super) fn concurrency(value: &Value) -> Outcome {
    if value.as_u64() == Some(0) { Outcome::Absent } else { Outcome::Value(value.clone()) }
}

/// Every service answers V1 and V2, over REST and gRPC.
pub(super) fn protocol(value: &Value) -> Outcome {
    match value.as_str() {
        Some("v1") => Outcome::Absent,
        Some("v2") => Outcome::Value(value.clone()),
        Some("grpc-v2") => Outcome::Value(Value::from("v2")),
        Some("grpc-v1") => {
            Outcome::Refused("`grpc-v1` is TensorFlow Serving's: write `v2`, which is REST and gRPC".to_owned())
        }
        Some(other) => Outcome::Refused(format!("expected `v1`, `v2` or `grpc-v2`, found `{}`", clipped(other))),
        None => Outcome::Refused("expected text: write `v2`".to_owned()),
    }
}

/// A format that Berth does not have is refused with its own reason.
pub(super) fn format(value: &Value) -> Outcome {
    let Some(name) = value.as_str() else {
        return Outcome::Refused("expected text: write `onnx`, `xgboost` or `lightgbm`".to_owned());
    };
    if MODEL_FORMATS.contains(&name) {
        return Outcome::Value(value.clone());
    }
    let known = kinds::FORMATS.iter().find(|(format, _)| *format == name);
    Outcome::Refused(match known {
        Some((name, instead)) => format!("`{name}` is not supported: {instead}"),
        None => {
            format!("expected `onnx`, `xgboost` or `lightgbm`, found `{}`: export the model to ONNX", clipped(name))
        }
    })
}
