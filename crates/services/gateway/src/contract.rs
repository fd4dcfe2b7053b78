//! The contracts of several models as one OpenAPI document, with the paths that the gateway answers itself. Pure.

use serde_json::{Map, Value, json};

/// Bytes of one model's document: a thousand tensors fit.
pub(crate) const SOURCE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Joins documents of models, each of which names everything after its model. What is not such a document is left out.
pub(crate) fn join<'a>(documents: impl Iterator<Item = &'a str>) -> Value {
    let mut whole = own();
    for document in documents.filter_map(|text| serde_json::from_str::<Value>(text).ok()) {
        for part in ["/paths", "/components/schemas", "/components/responses", "/components/securitySchemes"] {
            let (into, from) = (whole.pointer_mut(part), document.pointer(part));
            if let (Some(Value::Object(into)), Some(Value::Object(from))) = (into, from) {
                into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
    }
    whole
}

/// The document without any model.
fn own() -> Value {
    let names = json!({
        "type": "object", "required": ["models"],
        "properties": { "models": { "type": "array", "items": { "type": "string" } } },
    });
    let listed = json!({
        "type": "object", "required": ["models", "object", "data"],
        "properties": {
            "models": { "type": "array", "items": { "type": "string" } },
            "object": { "const": "list" },
            "data": { "type": "array", "items": {
                "type": "object", "required": ["id", "object", "created", "owned_by"],
                "properties": {
                    "id": { "type": "string" }, "object": { "const": "model" },
                    "created": { "type": "integer" }, "owned_by": { "type": "string" },
                },
            } },
        },
    });
    let index = json!({ "type": "array", "items": {
        "type": "object", "required": ["name", "state", "reason"],
        "properties": {
            "name": { "type": "string" }, "version": { "type": "string" },
            "state": { "enum": ["READY", "UNAVAILABLE"] }, "reason": { "type": "string" },
        },
    } });
    let server = json!({
        "type": "object", "required": ["name", "version", "extensions"],
        "properties": {
            "name": { "type": "string" }, "version": { "type": "string" },
            "extensions": { "type": "array", "items": { "type": "string" } },
        },
    });
    let wanted = json!({ "content": { "application/json": { "schema": {
        "type": "object", "properties": { "ready": { "type": "boolean" } },
    } } } });
    let mut ask = operation("index", "Revisions and their states", &index, false);
    if let Some(ask) = ask.as_object_mut() {
        ask.insert("requestBody".to_owned(), wanted);
        if let Some(responses) = ask.get_mut("responses").and_then(Value::as_object_mut) {
            responses.insert("400".to_owned(), error("The body is not such an object."));
        }
    }
    let flag = |name: &str| json!({ "type": "object", "properties": { name: { "type": "boolean" } } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Berth",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The models that are ready and that the key may read.",
        },
        "security": [{ "key": [] }],
        "paths": {
            "/v2": { "get": operation("server", "Name, version and extensions", &server, false) },
            "/v2/health/live": { "get": operation("live", "Whether the server answers", &flag("live"), false) },
            "/v2/health/ready": { "get": operation("ready", "Whether every model answers", &flag("ready"), true) },
            "/v2/models": { "get": operation("models", "Names of models", &names, false) },
            "/v1/models": { "get": operation("models_v1", "Names of models", &listed, false) },
            "/v2/repository/index": { "post": ask },
        },
        "components": {
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer", "description": "A key of Berth: `berth_<id>_<secret>`.",
            } },
            "responses": {},
            "schemas": {},
        },
    })
}

fn error(description: &str) -> Value {
    let schema = json!({ "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } });
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn operation(id: &str, summary: &str, schema: &Value, health: bool) -> Value {
    let content = json!({ "application/json": { "schema": schema } });
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": summary, "content": content }));
    responses.insert("401".to_owned(), error("There is no key, or it is not valid."));
    if health {
        responses.insert("503".to_owned(), json!({ "description": "Not every model answers.", "content": content }));
    }
    json!({ "operationId": id, "summary": summary, "responses": responses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_joined_and_anything_else_left_out() {
        let model = |name: &str| {
            json!({
                "paths": { format!("/v2/models/{name}"): { "get": {} } },
                "components": { "schemas": { format!("{name}.Ready"): {} }, "responses": { "NotFound": {} } },
            })
            .to_string()
        };
        let (ham, spam) = (model("ham"), model("spam"));
        let whole = join([ham.as_str(), "not JSON", "[]", "{}", spam.as_str()].into_iter());
        for path in ["/v2", "/v2/models", "/v2/models/ham", "/v2/models/spam", "/v2/repository/index"] {
            assert!(whole["paths"][path].is_object(), "{path}");
        }
        assert_eq!(whole["components"]["schemas"].as_object().unwrap().len(), 2);
        assert!(whole["components"]["responses"]["NotFound"].is_object());
    }
}
