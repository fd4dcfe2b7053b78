//! REST: what is wrong gets an error status with a text, and the server stays up.

use serde_json::{Value, json};

use super::{
    body, ensure,
    report::{Check, Level, Outcome, Recorder},
    target::{Answer, Model, Target},
};

const ERRORS: &str = "inference_rest.md, Inference Response Errors";
const METADATA_ERRORS: &str = "inference_rest.md, Model Metadata Response JSON Error Object";
const TENSOR_DATA: &str = "inference_rest.md, Tensor Data";

pub(super) async fn run(target: &Target, model: &Model, recorder: &mut Recorder) {
    unknown_names(target, model, recorder).await;
    let mut faults = Vec::new();
    for (id, level, title, clause, request) in wrong_requests(model) {
        let answer = target.post(&model.path("/infer"), request).await;
        if answer.as_ref().is_ok_and(|answer| answer.status >= 500) {
            faults.push(id);
        }
        recorder.record(Check { id, level, title, clause }, refused(answer));
    }
    let check = Check {
        id: "rest.error.status",
        level: Level::Optional,
        title: "wrong requests are the client's fault: 4xx, not 5xx",
        clause: ERRORS,
    };
    recorder.record(check, ensure(faults.is_empty(), || format!("5xx for {}", faults.join(", "))));
}

/// What ends careless servers, and whether it did: to be run when all else is known.
pub(super) async fn last(target: &Target, model: &Model, recorder: &mut Recorder) {
    let check = Check {
        id: "rest.error.huge_shape",
        level: Level::Required,
        title: "a shape whose product overflows is an error with its text",
        clause: TENSOR_DATA,
    };
    let request = body::request_changed(model, "shape", json!([u64::MAX, u64::MAX])).to_string();
    recorder.record(check, refused(target.post(&model.path("/infer"), request).await));
    alive(target, recorder).await;
}

/// An error status, "typically 400", with `{"error": "…"}`.
pub(super) fn refused(answer: Result<Answer, String>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Outcome::Fail(error),
    };
    if !(400..600).contains(&answer.status) {
        return Outcome::Fail(format!("expected an error, got {}", answer.excerpt()));
    }
    match answer.json() {
        Ok(body) => ensure(body.get("error").is_some_and(Value::is_string), || {
            format!("expected {{\"error\": text}}, got {}", answer.excerpt())
        }),
        Err(error) => Outcome::Fail(error),
    }
}

async fn unknown_names(target: &Target, model: &Model, recorder: &mut Recorder) {
    let check = |id, title, clause| Check { id, level: Level::Required, title, clause };
    let body = body::request(model).to_string();
    let answer = target.post("/v2/models/no-such-model-anywhere/infer", body.clone()).await;
    recorder.record(
        check("rest.error.unknown_model", "inference of a model that is not there is an error with its text", ERRORS),
        refused(answer),
    );
    let answer = target.get("/v2/models/no-such-model-anywhere").await;
    recorder.record(
        check(
            "rest.error.unknown_metadata",
            "metadata of a model that is not there is an error with its text",
            METADATA_ERRORS,
        ),
        refused(answer),
    );
    let answer = target.get("/v2/models/no-such-model-anywhere/ready").await;
    let not_ready =
        answer.map_or_else(Outcome::Fail, |answer| ensure((400..600).contains(&answer.status), || answer.excerpt()));
    recorder.record(
        check("rest.error.unknown_ready", "a model that is not there is not ready", "inference_rest.md, Health"),
        not_ready,
    );
    if model.version.is_some() {
        let answer = target.post(&model.path("/versions/999999999/infer"), body).await;
        recorder.record(
            check(
                "rest.error.unknown_version",
                "inference of a version that is not there is an error with its text",
                ERRORS,
            ),
            refused(answer),
        );
    }
}

type Wrong = (&'static str, Level, &'static str, &'static str, String);

fn wrong_requests(model: &Model) -> Vec<Wrong> {
    let mut wrong = not_requests();
    wrong.extend(wrong_names(model));
    wrong.extend(wrong_data(model));
    wrong
}

/// Bodies that are no request of any model.
fn not_requests() -> Vec<Wrong> {
    const DEPTH: usize = 100_000;
    let deep = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let required = |id, title, body: &str| (id, Level::Required, title, ERRORS, body.to_owned());
    vec![
        required("rest.error.not_json", "a body that is not JSON is an error with its text", "{\"inputs\": ["),
        required("rest.error.not_object", "a body that is not an object is an error with its text", "[]"),
        required("rest.error.empty", "an empty body is an error with its text", ""),
        required("rest.error.no_inputs", "a request without `inputs` is an error with its text", "{}"),
        required("rest.error.deep", "a body nested 100,000 deep is an error with its text", &deep),
    ]
}

/// Names that the model does not have.
fn wrong_names(model: &Model) -> Vec<Wrong> {
    let input = body::request_changed(model, "name", json!("no such input"));
    let output = body::request_with(model, "outputs", json!([{"name": "no such output"}]));
    let nameless = body::request_changed(model, "name", Value::Null);
    let case = |id, level, title, body: Value| (id, level, title, ERRORS, body.to_string());
    let unknown_input = "an input that the model does not have is an error with its text";
    let unknown_output = "an output that the model does not have is an error with its text";
    vec![
        case("rest.error.unknown_input", Level::Required, unknown_input, input),
        case("rest.error.unknown_output", Level::Required, unknown_output, output),
        case("rest.error.no_name", Level::Optional, "an input without a name is an error with its text", nameless),
    ]
}

/// Datatypes, shapes and elements that do not fit.
fn wrong_data(model: &Model) -> Vec<Wrong> {
    let elements = model.inputs.first().map_or(0, super::target::Tensor::elements);
    let changed = |field, value| body::request_changed(model, field, value).to_string();
    let required = |id, title, body| (id, Level::Required, title, TENSOR_DATA, body);
    vec![
        required(
            "rest.error.datatype",
            "a datatype that does not exist is an error with its text",
            changed("datatype", json!("FP33")),
        ),
        required(
            "rest.error.count",
            "data with more elements than the shape says is an error with its text",
            changed("data", Value::Array(vec![json!(1); elements + 1])),
        ),
        required(
            "rest.error.negative_shape",
            "a negative dimension is an error with its text",
            changed("shape", json!([-1])),
        ),
        required(
            "rest.error.element",
            "an element that is no value of the datatype is an error with its text",
            changed("data", json!([{"a": 1}])),
        ),
    ]
}

async fn alive(target: &Target, recorder: &mut Recorder) {
    let check = Check {
        id: "rest.error.alive",
        level: Level::Required,
        title: "after all of that the server is live",
        clause: "inference_rest.md, Health",
    };
    let answer = target.get("/v2/health/live").await;
    recorder
        .record(check, answer.map_or_else(Outcome::Fail, |answer| ensure(answer.status == 200, || answer.excerpt())));
}
