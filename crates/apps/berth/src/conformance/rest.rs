//! REST: health, metadata and inference that works.

use serde_json::{Value, json};

use super::{
    body, ensure,
    report::{Check, Level, Outcome, Recorder},
    target::{Answer, Model, Target},
};

const HEALTH: &str = "inference_rest.md, Health";
const SERVER: &str = "inference_rest.md, Server Metadata";
const METADATA: &str = "inference_rest.md, Model Metadata";
const REQUEST: &str = "inference_rest.md, Inference Request JSON Object";
const RESPONSE: &str = "inference_rest.md, Inference Response JSON Object";
const TENSOR_DATA: &str = "inference_rest.md, Tensor Data";

const fn required(id: &'static str, title: &'static str, clause: &'static str) -> Check {
    Check { id, level: Level::Required, title, clause }
}

const fn optional(id: &'static str, title: &'static str, clause: &'static str) -> Check {
    Check { id, level: Level::Optional, title, clause }
}

pub(super) async fn run(target: &Target, model: &Model, recorder: &mut Recorder) {
    health(target, model, recorder).await;
    metadata(target, model, recorder).await;
    inference(target, model, recorder).await;
    versions(target, model, recorder).await;
}

/// The body of a health answer is not looked at: the specification's texts contradict each other about it.
async fn health(target: &Target, model: &Model, recorder: &mut Recorder) {
    let ready = model.path("/ready");
    let checks = [
        (required("rest.health.live", "GET /v2/health/live answers 200", HEALTH), "/v2/health/live"),
        (required("rest.health.ready", "GET /v2/health/ready answers 200", HEALTH), "/v2/health/ready"),
        (required("rest.model.ready", "GET /v2/models/NAME/ready answers 200", HEALTH), ready.as_str()),
    ];
    for (check, path) in checks {
        let outcome = match target.get(path).await {
            Ok(answer) => ensure(answer.status == 200, || answer.excerpt()),
            Err(error) => Outcome::Fail(error),
        };
        recorder.record(check, outcome);
    }
}

async fn metadata(target: &Target, model: &Model, recorder: &mut Recorder) {
    let server = ok_json(target.get("/v2").await);
    let outcome = match &server {
        Ok(server) => ensure(
            server.get("name").is_some_and(Value::is_string)
                && server.get("version").is_some_and(Value::is_string)
                && server
                    .get("extensions")
                    .and_then(Value::as_array)
                    .is_some_and(|all| all.iter().all(Value::is_string)),
            || format!("expected name, version and a list of extensions, got {server}"),
        ),
        Err(error) => Outcome::Fail(error.clone()),
    };
    recorder.record(required("rest.server.metadata", "GET /v2 gives name, version and extensions", SERVER), outcome);

    let of_model = ok_json(target.get(&model.path("")).await);
    let outcome = match &of_model {
        Ok(metadata) => ensure(
            metadata.get("name").and_then(Value::as_str) == Some(&model.name)
                && metadata.get("platform").is_some_and(Value::is_string),
            || format!("expected the name `{}` and a platform, got {metadata}", model.name),
        ),
        Err(error) => Outcome::Fail(error.clone()),
    };
    recorder.record(required("rest.model.metadata", "GET /v2/models/NAME gives name and platform", METADATA), outcome);
    let known = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
        "FP64", "BYTES",
    ];
    let strange = model
        .inputs
        .iter()
        .chain(&model.outputs)
        .find(|tensor| !known.contains(&tensor.datatype.as_str()) || tensor.shape.iter().any(|size| *size < -1));
    let outcome = strange.map_or(Outcome::Pass, |tensor| {
        Outcome::Fail(format!("`{}` has datatype `{}` and shape {:?}", tensor.name, tensor.datatype, tensor.shape))
    });
    recorder.record(
        required(
            "rest.model.tensors",
            "inputs and outputs have known datatypes, and -1 for variable dimensions",
            METADATA,
        ),
        outcome,
    );
}

fn ok_json(answer: Result<Answer, String>) -> Result<Value, String> {
    let answer = answer?;
    if answer.status == 200 { answer.json() } else { Err(answer.excerpt()) }
}

/// Whether `response` is an inference response of `model`: every output named, typed, shaped and filled.
pub(super) fn check_response(response: &Value, model: &Model) -> Result<(), String> {
    if response.get("model_name").and_then(Value::as_str) != Some(&model.name) {
        return Err(format!(
            "`model_name` is {}, expected `{}`",
            response.get("model_name").unwrap_or(&Value::Null),
            model.name
        ));
    }
    let outputs = response.get("outputs").and_then(Value::as_array).ok_or("`outputs` is not a list")?;
    for output in outputs {
        let name = output.get("name").and_then(Value::as_str).ok_or("an output has no name")?;
        let known = model
            .outputs
            .iter()
            .find(|known| known.name == name)
            .ok_or_else(|| format!("`{name}` is not an output of the model"))?;
        let datatype = output.get("datatype").and_then(Value::as_str);
        if datatype != Some(&known.datatype) {
            return Err(format!("`{name}` has datatype {datatype:?}, its metadata says `{}`", known.datatype));
        }
        let shape = output.get("shape").and_then(Value::as_array).ok_or_else(|| format!("`{name}` has no shape"))?;
        let shape: Option<Vec<u64>> = shape.iter().map(Value::as_u64).collect();
        let shape = shape.ok_or_else(|| format!("the shape of `{name}` is not a list of sizes"))?;
        if let Some(data) = output.get("data") {
            let count = leaves(data);
            let expected = shape.iter().product::<u64>();
            if u64::try_from(count).ok() != Some(expected) {
                return Err(format!("`{name}` has shape {shape:?} and {count} elements"));
            }
        }
    }
    Ok(())
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

async fn infer(target: &Target, model: &Model, request: &Value) -> Result<Value, String> {
    let response = ok_json(target.post(&model.path("/infer"), request.to_string()).await)?;
    check_response(&response, model)?;
    Ok(response)
}

fn outcome(result: Result<(), String>) -> Outcome {
    result.map_or_else(Outcome::Fail, |()| Outcome::Pass)
}

async fn inference(target: &Target, model: &Model, recorder: &mut Recorder) {
    let plain = infer(target, model, &body::request(model)).await;
    let complete = plain.as_ref().map_err(Clone::clone).and_then(|response| {
        let count = response.get("outputs").and_then(Value::as_array).map_or(0, Vec::len);
        if count == model.outputs.len() {
            Ok(())
        } else {
            Err(format!("{count} outputs without `outputs` in the request, expected all {}", model.outputs.len()))
        }
    });
    recorder.record(
        required(
            "rest.infer",
            "a request with flat data gets every output, with name, datatype, shape and data",
            RESPONSE,
        ),
        outcome(complete),
    );

    let with_id = infer(target, model, &body::request_with(model, "id", json!("conformance-42"))).await;
    let echoed = with_id.and_then(|response| match response.get("id").and_then(Value::as_str) {
        Some("conformance-42") => Ok(()),
        other => Err(format!("the request's id came back as {other:?}")),
    });
    recorder.record(required("rest.infer.id", "the request's id is in the response", RESPONSE), outcome(echoed));

    selected(target, model, recorder).await;
    let inputs: Vec<Value> = model.inputs.iter().map(body::nested_input).collect();
    let nested = infer(target, model, &json!({ "inputs": inputs })).await.map(drop);
    recorder.record(
        required("rest.infer.nested", "data may be nested in the shape of the tensor", TENSOR_DATA),
        outcome(nested),
    );

    let parameters = body::request_with(model, "parameters", json!({"note": "text", "number": 1, "flag": true}));
    let taken = infer(target, model, &parameters).await.map(drop);
    recorder.record(
        required(
            "rest.infer.parameters",
            "parameters that the server does not know are no error",
            "inference_rest.md, Parameters",
        ),
        outcome(taken),
    );

    let named = infer(target, model, &body::request_with(model, "model_name", json!(model.name))).await.map(drop);
    recorder.record(
        optional(
            "rest.infer.model_name",
            "an extra `model_name` in the request, as clients send it, is no error",
            REQUEST,
        ),
        outcome(named),
    );

    content_types(target, model, recorder).await;
}

async fn content_types(target: &Target, model: &Model, recorder: &mut Recorder) {
    let answer = target.post(&model.path("/infer"), body::request(model).to_string()).await;
    let json = answer.and_then(|answer| {
        let kind =
            answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        if kind.starts_with("application/json") { Ok(()) } else { Err(format!("content-type is `{kind}`")) }
    });
    recorder.record(
        required(
            "rest.infer.content_type",
            "a JSON answer says so in its content-type",
            "inference_rest.md, HTTP/REST",
        ),
        outcome(json),
    );
    let bare =
        target.send(http::Method::POST, &model.path("/infer"), &[], body::request(model).to_string().into()).await;
    let bare = ok_json(bare).map(drop);
    recorder.record(
        optional(
            "rest.infer.no_content_type",
            "a request without content-type is read as JSON, as tritonclient sends it",
            REQUEST,
        ),
        outcome(bare),
    );
}

async fn selected(target: &Target, model: &Model, recorder: &mut Recorder) {
    let check = required("rest.infer.outputs", "only the outputs asked for are in the response", REQUEST);
    let Some(wanted) = model.outputs.last() else { return };
    let response = infer(target, model, &body::request_with(model, "outputs", json!([{"name": wanted.name}]))).await;
    let result = response.and_then(|response| {
        let names: Vec<_> = response
            .get("outputs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|output| output.get("name")?.as_str())
            .collect();
        if names == [wanted.name.as_str()] {
            Ok(())
        } else {
            Err(format!("asked for `{}`, got {names:?}", wanted.name))
        }
    });
    recorder.record(check, outcome(result));
}

/// Versions are optional in a path; a server may have none.
async fn versions(target: &Target, model: &Model, recorder: &mut Recorder) {
    let Some(version) = &model.version else {
        let check = optional("rest.versions", "the model's versions can be named in paths", METADATA);
        recorder.record(check, Outcome::Skip("the metadata lists no versions".to_owned()));
        return;
    };
    let base = format!("/versions/{version}");
    let found = ok_json(target.get(&model.path(&base)).await).map(drop);
    recorder.record(
        required("rest.versions.metadata", "GET /v2/models/NAME/versions/VERSION gives the metadata", METADATA),
        outcome(found),
    );
    let ready = target.get(&model.path(&format!("{base}/ready"))).await;
    let ready = ready.map_or_else(Outcome::Fail, |answer| ensure(answer.status == 200, || answer.excerpt()));
    recorder.record(
        required("rest.versions.ready", "GET /v2/models/NAME/versions/VERSION/ready answers 200", HEALTH),
        ready,
    );
    let answered = ok_json(target.post(&model.path(&format!("{base}/infer")), body::request(model).to_string()).await);
    let answered = answered.and_then(|response| check_response(&response, model));
    recorder.record(
        required("rest.versions.infer", "POST /v2/models/NAME/versions/VERSION/infer answers", RESPONSE),
        outcome(answered),
    );
}
