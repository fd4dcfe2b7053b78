//! The contract of embeddings, which all models share under one path.

use serde_json::{Map, Value, json};

use super::ERRORS;

/// Adds the operation to the document of a model that makes embeddings.
pub fn add(document: &mut Value, name: &str) {
    let reference = |schema: &str| json!({ "$ref": format!("#/components/schemas/{name}.{schema}") });
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let mut responses = Map::new();
    let ok = json!({ "description": "Vectors", "content": content(reference("EmbeddingsResponse")) });
    responses.insert("200".to_owned(), ok);
    for (status, _, description) in ERRORS {
        let error = json!({ "description": description, "content": content(reference("EmbeddingsError")) });
        responses.insert(status.to_owned(), error);
    }
    let operation = json!({ "post": {
        "operationId": "embeddings", "tags": ["embeddings"], "summary": "Vectors of texts, as OpenAI's API has them",
        "requestBody": { "required": true, "content": content(reference("EmbeddingsRequest")) },
        "responses": responses,
    } });
    if let Some(Value::Object(paths)) = document.pointer_mut("/paths") {
        paths.insert(inference::embeddings::PATH.to_owned(), operation);
    }
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.insert(format!("{name}.EmbeddingsRequest"), request(name));
        schemas.insert(format!("{name}.EmbeddingsResponse"), response());
        schemas.insert(format!("{name}.EmbeddingsError"), error());
    }
}

fn request(name: &str) -> Value {
    let most = inference::embeddings::INPUTS_MAX;
    let text = json!({ "type": "string" });
    let tokens = json!({ "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0 } });
    let list = |items: &Value| json!({ "type": "array", "minItems": 1, "maxItems": most, "items": items });
    json!({
        "type": "object", "required": ["model", "input"],
        "properties": {
            "model": { "type": "string", "examples": [name] },
            "input": { "anyOf": [text, list(&text), tokens, list(&tokens)] },
            "encoding_format": { "enum": ["float", "base64"] },
            "dimensions": { "type": "integer", "minimum": 1 },
            "user": { "type": "string" },
        },
    })
}

fn response() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    let vector = json!({ "anyOf": [
        { "type": "array", "items": { "type": "number" } },
        { "type": "string", "contentEncoding": "base64" },
    ] });
    json!({
        "type": "object", "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": { "const": "list" },
            "data": { "type": "array", "items": {
                "type": "object", "required": ["object", "index", "embedding"],
                "properties": { "object": { "const": "embedding" }, "index": count, "embedding": vector },
            } },
            "model": { "type": "string" },
            "usage": {
                "type": "object", "required": ["prompt_tokens", "total_tokens"],
                "properties": { "prompt_tokens": count, "total_tokens": count },
            },
        },
    })
}

fn error() -> Value {
    let text = json!({ "type": ["string", "null"] });
    json!({
        "type": "object", "required": ["error"],
        "properties": { "error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": { "type": "string" }, "type": { "type": "string" }, "param": text, "code": text,
            },
        } },
    })
}
