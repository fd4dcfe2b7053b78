//! The contract of one model as an OpenAPI 3.1 document, made from its signature. Pure.

use half::{bf16, f16};
use inference::{Datatype, InferResponse, ModelMetadata, OutputEncoding, TensorSpec, binary};
use serde_json::{Map, Value, json};

use crate::load::golden::Case;

pub mod embeddings;

/// Bytes of an example's request or answer; a larger one would hide the contract.
const EXAMPLE_BYTES_MAX: usize = 64 * 1024;

/// A request that the model is known to answer, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    request: Value,
    response: Value,
}

/// RFC 4648, 4: whole groups, then what is left with padding and no bits beyond the last byte.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

/// The errors that every operation may give: status, name, what it means.
const ERRORS: [(&str, &str, &str); 9] = [
    ("400", "BadRequest", "The request breaks this contract; the error names the place and what was expected there."),
    ("401", "Unauthorized", "There is no key, or it is not valid."),
    ("403", "Forbidden", "The key does not permit this."),
    ("404", "NotFound", "There is no such model or version."),
    ("408", "Stalled", "Nothing of the body came for 30 s."),
    ("413", "TooLarge", "The body is over the limit."),
    ("429", "TooMany", "The service has as many requests as it works on: ask again later."),
    ("503", "Unavailable", "No replica is ready; nothing was run: ask again later."),
    ("504", "TooLate", "The time for the request is over."),
];

impl Example {
    /// The example that `case` gives; nothing when it is too large or has no form in JSON.
    pub fn of(case: &Case, metadata: &ModelMetadata, version: &str) -> Option<Self> {
        let response = InferResponse {
            model_name: metadata.name.clone(),
            model_version: version.to_owned(),
            id: case.request.id.clone(),
            parameters: Vec::new(),
            outputs: case.expected.clone(),
        };
        let request = binary::write_request(&case.request, false).ok()?;
        let response = binary::write_response(&response, &OutputEncoding::default()).ok()?;
        if request.len().max(response.len()) > EXAMPLE_BYTES_MAX {
            return None;
        }
        let parsed = |json: &[u8]| serde_json::from_slice(json).ok();
        Some(Self { request: parsed(&request.json)?, response: parsed(&response.json)? })
    }
}

/// The document. Everything in it is named after the model, so that documents of several models can be joined.
pub fn document(metadata: &ModelMetadata, version: &str, example: Option<&Example>) -> Value {
    let name = &metadata.name;
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": version,
            "description": "Each path also exists with `/versions/{version}` behind the name of the model.",
        },
        "security": [{ "key": [] }],
        "paths": paths(name, example),
        "components": {
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer", "description": "A key of Berth: `berth_<id>_<secret>`.",
            } },
            "responses": errors(),
            "schemas": schemas(metadata, version),
        },
    })
}

fn paths(name: &str, example: Option<&Example>) -> Value {
    let get = |id: &str, summary: &str, schema: Value| {
        let ok = json!({ "description": summary, "content": { "application/json": { "schema": schema } } });
        json!({ "get": {
            "operationId": format!("{name}.{id}"), "tags": [name], "summary": summary, "responses": responses(&ok),
        } })
    };
    let reference = |schema: &str| json!({ "$ref": format!("#/components/schemas/{name}.{schema}") });
    let mut paths = Map::new();
    paths.insert(format!("/v2/models/{name}"), get("metadata", "Inputs and outputs", reference("Metadata")));
    paths.insert(format!("/v2/models/{name}/ready"), get("ready", "Whether the model answers", reference("Ready")));
    paths.insert(format!("/v2/models/{name}/stats"), get("stats", "What the model did", json!({ "type": "object" })));
    paths.insert(format!("/v2/models/{name}/infer"), json!({ "post": infer(name, example) }));
    let predicted = json!({
        "description": "Predictions",
        "content": { "application/json": { "schema": reference("PredictResponse") } },
    });
    paths.insert(
        format!("/v1/models/{name}:predict"),
        json!({ "post": {
            "operationId": format!("{name}.predict"), "tags": [name], "summary": "Asks the model, by rows or by columns",
            "requestBody": {
                "required": true, "content": { "application/json": { "schema": reference("PredictRequest") } },
            },
            "responses": responses(&predicted),
        } }),
    );
    Value::Object(paths)
}

fn infer(name: &str, example: Option<&Example>) -> Value {
    let body = |schema: &str, example: Option<&Value>| {
        let mut json = json!({ "schema": { "$ref": format!("#/components/schemas/{name}.{schema}") } });
        if let (Some(example), Some(json)) = (example, json.as_object_mut()) {
            json.insert("examples".to_owned(), json!({ "golden": { "value": example } }));
        }
        json!({ "application/json": json, "application/octet-stream": {
            "schema": { "description": "JSON, as long as the header `Inference-Header-Content-Length` says, and then binary tensors." },
        } })
    };
    let request = body("InferRequest", example.map(|example| &example.request));
    let answer = body("InferResponse", example.map(|example| &example.response));
    json!({
        "operationId": format!("{name}.infer"), "tags": [name], "summary": "Asks the model, by tensors",
        "requestBody": { "required": true, "content": request },
        "responses": responses(&json!({ "description": "Outputs", "content": answer })),
    })
}

fn responses(ok: &Value) -> Value {
    let errors = ERRORS
        .map(|(status, name, _)| (status.to_owned(), json!({ "$ref": format!("#/components/responses/{name}") })));
    Value::Object([("200".to_owned(), ok.clone())].into_iter().chain(errors).collect())
}

fn errors() -> Value {
    let content = json!({ "application/json": { "schema": {
        "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } },
    } } });
    let errors = ERRORS
        .map(|(_, name, description)| (name.to_owned(), json!({ "description": description, "content": content })));
    Value::Object(errors.into_iter().collect())
}

fn schemas(metadata: &ModelMetadata, version: &str) -> Value {
    let name = &metadata.name;
    let outputs: Vec<&str> = metadata.outputs.iter().map(|output| output.name.as_str()).collect();
    let parameters = json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } });
    let request = json!({
        "type": "object", "required": ["inputs"],
        "properties": {
            "id": { "type": "string" },
            "parameters": parameters,
            "inputs": tensors(&metadata.inputs, &["name", "shape", "datatype", "data"], true),
            "outputs": { "type": "array", "items": {
                "type": "object", "required": ["name"],
                "properties": { "name": { "enum": outputs }, "parameters": parameters },
            } },
        },
    });
    let response = json!({
        "type": "object", "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": { "const": name },
            "model_version": { "type": "string", "examples": [version] },
            "id": { "type": "string" },
            "parameters": parameters,
            "outputs": tensors(&metadata.outputs, &["name", "shape", "datatype"], false),
        },
    });
    let ready = json!({
        "type": "object", "required": ["ready"],
        "properties": { "name": { "const": name }, "ready": { "type": "boolean" } },
    });
    let (predict, predicted) = (predict_request(&metadata.inputs), predict_response(&metadata.outputs));
    json!({
        format!("{name}.Metadata"): described(metadata),
        format!("{name}.Ready"): ready,
        format!("{name}.InferRequest"): request,
        format!("{name}.InferResponse"): response,
        format!("{name}.PredictRequest"): predict,
        format!("{name}.PredictResponse"): predicted,
    })
}

/// The answer of metadata, which is known in advance.
fn described(metadata: &ModelMetadata) -> Value {
    let specs = |specs: &[TensorSpec]| {
        let spec =
            |spec: &TensorSpec| json!({ "name": spec.name, "datatype": spec.datatype.name(), "shape": spec.shape });
        let list: Vec<Value> = specs.iter().map(spec).collect();
        json!({ "const": list })
    };
    json!({
        "type": "object", "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": { "const": metadata.name },
            "versions": { "type": "array", "items": { "type": "string" } },
            "platform": { "const": metadata.platform },
            "inputs": specs(&metadata.inputs),
            "outputs": specs(&metadata.outputs),
        },
    })
}

/// A list of tensors, each of which is one of `specs`; all of them when they must be `complete`.
fn tensors(specs: &[TensorSpec], required: &[&str], complete: bool) -> Value {
    let tensor = |spec: &TensorSpec| {
        let dimensions: Vec<Value> = spec
            .shape
            .iter()
            .map(|dimension| match dimension {
                0.. => json!({ "const": dimension }),
                _ => json!({ "type": "integer", "minimum": 0 }),
            })
            .collect();
        let element = element(spec.datatype);
        let flat = json!({ "type": "array", "items": element });
        let data = if spec.shape.len() > 1 { json!({ "anyOf": [flat, nested(&spec.shape, &element)] }) } else { flat };
        json!({
            "type": "object", "required": required,
            "properties": {
                "name": { "const": spec.name },
                "datatype": { "const": spec.datatype.name() },
                "shape": {
                    "type": "array", "prefixItems": dimensions,
                    "minItems": spec.shape.len(), "maxItems": spec.shape.len(),
                },
                "parameters": { "type": "object" },
                "data": data,
            },
        })
    };
    let mut list = json!({ "type": "array", "items": { "oneOf": specs.iter().map(tensor).collect::<Vec<_>>() } });
    if let (true, Some(list)) = (complete, list.as_object_mut()) {
        list.insert("minItems".to_owned(), json!(specs.len()));
        list.insert("maxItems".to_owned(), json!(specs.len()));
    }
    list
}

/// Arrays in arrays, as `shape` says.
fn nested(shape: &[i64], element: &Value) -> Value {
    let Some((length, inner)) = shape.split_first() else { return element.clone() };
    let items = nested(inner, element);
    match length {
        0.. => json!({ "type": "array", "items": items, "minItems": length, "maxItems": length }),
        _ => json!({ "type": "array", "items": items }),
    }
}

/// One element in JSON.
fn element(datatype: Datatype) -> Value {
    let whole = |minimum: i64, maximum: u64| json!({ "type": "integer", "minimum": minimum, "maximum": maximum });
    match datatype {
        Datatype::Bool => json!({ "enum": [true, false, 1, 0] }),
        Datatype::Uint8 => whole(0, u8::MAX.into()),
        Datatype::Uint16 => whole(0, u16::MAX.into()),
        Datatype::Uint32 => whole(0, u32::MAX.into()),
        Datatype::Uint64 => whole(0, u64::MAX),
        Datatype::Int8 => whole(i8::MIN.into(), i8::MAX.unsigned_abs().into()),
        Datatype::Int16 => whole(i16::MIN.into(), i16::MAX.unsigned_abs().into()),
        Datatype::Int32 => whole(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        Datatype::Int64 => whole(i64::MIN, i64::MAX.unsigned_abs()),
        Datatype::Fp16 => {
            real(Some(beyond(f16::MAX.to_f64(), f16::MANTISSA_DIGITS)), ["exclusiveMinimum", "exclusiveMaximum"])
        }
        Datatype::Bf16 => {
            real(Some(beyond(bf16::MAX.to_f64(), bf16::MANTISSA_DIGITS)), ["exclusiveMinimum", "exclusiveMaximum"])
        }
        Datatype::Fp32 => real(Some(beyond(f32::MAX.into(), f32::MANTISSA_DIGITS)), ["minimum", "maximum"]),
        Datatype::Fp64 => real(None, [""; 2]),
        Datatype::Bytes => json!({ "type": "string" }),
    }
}

/// Where numbers begin to round to infinity: half of the last digit beyond the largest number, whose mantissa is `digits` ones.
fn beyond(largest: f64, digits: u32) -> f64 {
    largest + largest / (2_f64.powi(i32::try_from(digits + 1).unwrap_or(i32::MAX)) - 2.0)
}

/// A number up to `beyond`, or what JSON's numbers lack.
///
/// Halves are rounded from FP64, where the bound itself is infinity. FP32 is rounded from the digits, and the digits that programs write
/// for the bound in FP64 are a little less than it.
fn real(beyond: Option<f64>, [least, most]: [&str; 2]) -> Value {
    let number = match beyond {
        Some(beyond) => json!({ "type": "number", least: -beyond, most: beyond }),
        None => json!({ "type": "number" }),
    };
    json!({ "anyOf": [number, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
}

/// One element in the V1 protocol, where bytes that are not text have a form of their own.
fn element_v1(datatype: Datatype) -> Value {
    if datatype != Datatype::Bytes {
        return element(datatype);
    }
    let encoded = json!({
        "type": "object", "required": ["b64"], "additionalProperties": false,
        "properties": { "b64": { "type": "string", "contentEncoding": "base64", "pattern": BASE64 } },
    });
    json!({ "anyOf": [{ "type": "string" }, encoded] })
}

/// An object with a value for each of `specs`, without the first `outer` dimensions.
fn named(specs: &[TensorSpec], outer: usize) -> Value {
    let value = |spec: &TensorSpec| (spec.name.clone(), value(spec, outer));
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let properties: Map<String, Value> = specs.iter().map(value).collect();
    json!({ "type": "object", "required": names, "properties": properties, "additionalProperties": false })
}

fn value(spec: &TensorSpec, outer: usize) -> Value {
    nested(spec.shape.get(outer..).unwrap_or_default(), &element_v1(spec.datatype))
}

fn predict_request(inputs: &[TensorSpec]) -> Value {
    let either = |outer: usize| match inputs {
        [input] => json!({ "anyOf": [value(input, outer), named(inputs, outer)] }),
        _ => named(inputs, outer),
    };
    let mut instances = json!({ "type": "array", "items": either(1) });
    // The first dimension counts the rows; a model that fixes it takes so many and no others.
    let rows = inputs.iter().filter_map(|input| input.shape.first()).find(|rows| **rows >= 0);
    if let (Some(rows), Some(instances)) = (rows, instances.as_object_mut()) {
        instances.insert("minItems".to_owned(), json!(rows));
        instances.insert("maxItems".to_owned(), json!(rows));
    }
    json!({
        "type": "object",
        "oneOf": [{ "required": ["instances"] }, { "required": ["inputs"] }],
        "properties": {
            "signature_name": { "const": "serving_default" },
            "instances": instances,
            "inputs": either(0),
        },
    })
}

fn predict_response(outputs: &[TensorSpec]) -> Value {
    let either = |outer: usize| match outputs {
        [output] => value(output, outer),
        _ => named(outputs, outer),
    };
    json!({
        "type": "object",
        "oneOf": [{ "required": ["predictions"] }, { "required": ["outputs"] }],
        "properties": { "predictions": { "type": "array", "items": either(1) }, "outputs": either(0) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() }
    }

    fn model() -> ModelMetadata {
        ModelMetadata {
            name: "iris".to_owned(),
            versions: vec!["3".to_owned()],
            platform: "onnx_onnxv1".to_owned(),
            inputs: vec![spec("x", Datatype::Fp32, &[-1, 4])],
            outputs: vec![spec("label", Datatype::Int64, &[-1]), spec("word", Datatype::Bytes, &[-1, 2])],
        }
    }

    #[test]
    fn tensors_have_their_names_types_and_shapes() {
        let document = document(&model(), "3", None);
        let schemas = &document["components"]["schemas"];
        let inputs = &schemas["iris.InferRequest"]["properties"]["inputs"];
        assert_eq!((&inputs["minItems"], &inputs["maxItems"]), (&json!(1), &json!(1)));
        let x = &inputs["items"]["oneOf"][0]["properties"];
        assert_eq!((&x["name"], &x["datatype"]), (&json!({ "const": "x" }), &json!({ "const": "FP32" })));
        let shape = json!([{ "type": "integer", "minimum": 0 }, { "const": 4 }]);
        assert_eq!(x["shape"], json!({ "type": "array", "prefixItems": shape, "minItems": 2, "maxItems": 2 }));
        let rows = &schemas["iris.PredictResponse"]["properties"]["predictions"]["items"];
        assert_eq!(rows["required"], json!(["label", "word"]));
        assert_eq!(rows["properties"]["label"]["type"], "integer");
        assert_eq!(rows["properties"]["word"]["maxItems"], 2);
        assert_eq!(document["paths"]["/v2/models/iris/infer"]["post"]["operationId"], "iris.infer");
    }

    #[test]
    fn what_is_refused_is_no_part_of_the_contract() {
        let fixed = vec![spec("x", Datatype::Fp32, &[2, 1]), spec("s", Datatype::Bytes, &[2])];
        let request = predict_request(&fixed);
        let instances = &request["properties"]["instances"];
        assert_eq!((&instances["minItems"], &instances["maxItems"]), (&json!(2), &json!(2)));
        let row = &instances["items"]["properties"];
        let most = row["x"]["items"]["anyOf"][0]["maximum"].as_f64().unwrap();
        assert_eq!(most, f64::from(f32::MAX) + 2_f64.powi(103));
        assert_eq!(element(Datatype::Fp16)["anyOf"][0]["exclusiveMaximum"].as_f64(), Some(65520.0));
        assert_eq!(row["s"]["anyOf"][1]["properties"]["b64"]["pattern"], BASE64);
        assert_eq!(element(Datatype::Fp64)["anyOf"][0], json!({ "type": "number" }));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(list) => list.iter().for_each(|member| references(member, found)),
                _ => {}
            }
        }
        let document = document(&model(), "3", None);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 40);
        for reference in found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_golden_case_is_the_example() {
        let cases = crate::load::golden::parse(
            br#"{"cases":[{
                "request": {"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]},
                "response": {"model_name":"m","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[2]}]}
            }]}"#,
        );
        let example = Example::of(&cases.unwrap()[0], &model(), "3").unwrap();
        let document = document(&model(), "3", Some(&example));
        let infer = &document["paths"]["/v2/models/iris/infer"]["post"];
        let golden = |content: &Value| content["application/json"]["examples"]["golden"]["value"].clone();
        assert_eq!(golden(&infer["requestBody"]["content"])["inputs"][0]["shape"], json!([1, 4]));
        let answer = golden(&infer["responses"]["200"]["content"]);
        assert_eq!((&answer["model_name"], &answer["outputs"][0]["data"]), (&json!("iris"), &json!([2])));
    }
}
