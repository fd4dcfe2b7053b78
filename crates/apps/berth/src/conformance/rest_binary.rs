//! REST: the binary tensor extension, when the server advertises it.

use http::Method;
use serde_json::{Value, json};

use super::{
    body, ensure,
    report::{Check, Level, Outcome, Recorder},
    rest::check_response,
    rest_errors::refused,
    target::{Answer, Model, Target},
};

const BINARY: &str = "extension_binary_data.md";

const fn extension(id: &'static str, title: &'static str) -> Check {
    Check { id, level: Level::Extension, title, clause: BINARY }
}

pub(super) async fn run(target: &Target, model: &Model, recorder: &mut Recorder) {
    let advertised = target.get("/v2").await.ok().and_then(|answer| answer.json().ok()).is_some_and(|server| {
        server
            .get("extensions")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|one| one == "binary_tensor_data"))
    });
    if !advertised {
        let check = extension("rest.binary", "the binary tensor extension");
        recorder.record(check, Outcome::Skip("the server does not advertise `binary_tensor_data`".to_owned()));
        return;
    }
    let sent = send(target, model, binary_request(model, json!({})), 0).await;
    recorder.record(extension("rest.binary.input", "inputs may be binary"), json_response(sent, model));

    let wanted = json!({"parameters": {"binary_data_output": true}});
    let sent = send(target, model, binary_request(model, wanted), 0).await;
    recorder.record(
        extension("rest.binary.output_all", "`binary_data_output` makes every output binary"),
        binary_response(sent, model),
    );

    let plain = body::request_with(model, "parameters", json!({"binary_data_output": true})).to_string();
    let sent = target.post(&model.path("/infer"), plain).await;
    recorder.record(
        extension("rest.binary.output_of_json", "a JSON request may ask for binary outputs"),
        binary_response(sent, model),
    );

    let outputs: Vec<Value> =
        model.outputs.iter().map(|output| json!({"name": output.name, "parameters": {"binary_data": true}})).collect();
    let sent = send(target, model, binary_request(model, json!({ "outputs": outputs })), 0).await;
    recorder.record(
        extension("rest.binary.output_each", "`binary_data` makes one output binary"),
        binary_response(sent, model),
    );

    let sent = send(target, model, binary_request(model, json!({})), -1).await;
    recorder.record(
        extension("rest.binary.error.short", "fewer bytes than the inputs say is an error with its text"),
        refused(sent),
    );
    let sent = send(target, model, binary_request(model, json!({})), 1).await;
    recorder.record(
        extension("rest.binary.error.long", "more bytes than the inputs say is an error with its text"),
        refused(sent),
    );
    let length = [("inference-header-content-length", "99999999".to_owned())];
    let sent = target.send(Method::POST, &model.path("/infer"), &length, body::request(model).to_string().into()).await;
    recorder.record(
        extension("rest.binary.error.length", "a header length beyond the body is an error with its text"),
        refused(sent),
    );
}

/// The JSON part and the binary part of a request.
fn binary_request(model: &Model, mut fields: Value) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut inputs = Vec::new();
    for tensor in &model.inputs {
        let part = body::tensor_bytes(tensor);
        let parameters = json!({"binary_data_size": part.len()});
        inputs.push(json!({"name": tensor.name, "shape": tensor.concrete(), "datatype": tensor.datatype, "parameters": parameters}));
        bytes.extend(part);
    }
    if let Some(object) = fields.as_object_mut() {
        object.insert("inputs".to_owned(), Value::Array(inputs));
    }
    (fields.to_string(), bytes)
}

/// Sends a binary request with `more` bytes added, or taken away when negative.
async fn send(
    target: &Target,
    model: &Model,
    (json, mut bytes): (String, Vec<u8>),
    more: i8,
) -> Result<Answer, String> {
    match more {
        0 => {}
        1.. => bytes.push(0),
        _ => drop(bytes.pop()),
    }
    let headers = [
        ("inference-header-content-length", json.len().to_string()),
        ("content-type", "application/octet-stream".to_owned()),
    ];
    let mut body = json.into_bytes();
    body.extend(bytes);
    target.send(Method::POST, &model.path("/infer"), &headers, body.into()).await
}

fn json_response(answer: Result<Answer, String>, model: &Model) -> Outcome {
    let result = answer.and_then(|answer| {
        let (json, _) = split(&answer)?;
        check_response(&json, model)
    });
    result.map_or_else(Outcome::Fail, |()| Outcome::Pass)
}

/// The JSON part of an answer and the number of bytes that follow.
fn split(answer: &Answer) -> Result<(Value, usize), String> {
    if answer.status != 200 {
        return Err(answer.excerpt());
    }
    let length = answer
        .headers
        .get("inference-header-content-length")
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let (json, rest) = answer
        .body
        .split_at_checked(length.unwrap_or(answer.body.len()))
        .ok_or("the header length is beyond the body")?;
    let json = serde_json::from_slice(json).map_err(|error| format!("the JSON part is not JSON: {error}"))?;
    Ok((json, rest.len()))
}

fn binary_response(answer: Result<Answer, String>, model: &Model) -> Outcome {
    let result = answer.and_then(|answer| {
        let (json, bytes) = split(&answer)?;
        check_response(&json, model)?;
        let outputs = json.get("outputs").and_then(Value::as_array).ok_or("no outputs")?;
        let mut sum = 0;
        for output in outputs {
            let size = output.pointer("/parameters/binary_data_size").and_then(Value::as_u64);
            sum += size.ok_or_else(|| format!("an output has no `binary_data_size`: {output}"))?;
        }
        if u64::try_from(bytes).ok() == Some(sum) {
            Ok(())
        } else {
            Err(format!("the outputs say {sum} bytes, {bytes} follow"))
        }
    });
    result.map_or_else(Outcome::Fail, |()| ensure(true, String::new))
}
