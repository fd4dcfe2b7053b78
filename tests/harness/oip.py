"""The REST half of the Open Inference Protocol v2 as an OpenAPI document, in our words.

Paths, fields and what is required are those of `specification/protocol/open_inference_rest.yaml` in
open-inference/open-inference-protocol. What that document leaves out and the text beside it has is put in: error answers of
every path, 401 for a missing key, the datatypes, and no fields but those that are named in a tensor.
"""

DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES BF16".split()

# What is wrong with a request, its key, its model, its size; and why there is no answer now.
ERRORS = {
    "400": "The request is wrong.",
    "401": "There is no key.",
    "404": "There is no such model or version.",
    "413": "The request is too large.",
    "429": "There are too many requests.",
    "503": "Nothing can answer now.",
}


def document(models: list[str]) -> dict:
    """The document, for servers that have `models` in one version, `1`."""
    paths = {
        "/v2/health/live": {"get": operation("live", None)},
        "/v2/health/ready": {"get": operation("ready", None)},
        "/v2": {"get": operation("server", "server")},
    }
    for version in ("", "/versions/{version}"):
        base, suffix = "/v2/models/{model}" + version, "_version" if version else ""
        names = [named("model", [*models, "nobody"])] + ([named("version", ["1", "7"])] if version else [])
        paths[base] = {"parameters": names, "get": operation(f"model{suffix}", "model")}
        paths[base + "/ready"] = {"parameters": names, "get": operation(f"model_ready{suffix}", None)}
        infer = operation(f"infer{suffix}", "answer")
        infer["requestBody"] = {"required": True, "content": json_of("request")}
        paths[base + "/infer"] = {"parameters": names, "post": infer}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Open Inference Protocol", "version": "2"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": schemas()},
    }


def operation(name: str, answer: str | None) -> dict:
    """One operation; a health answer says all by its status."""
    ok = {"description": "Done."} | ({"content": json_of(answer)} if answer else {})
    errors = {status: {"description": text, "content": json_of("error")} for status, text in ERRORS.items()}
    return {"operationId": name, "responses": {"200": ok, **errors}}


def named(name: str, values: list[str]) -> dict:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": values}}


def json_of(schema: str) -> dict:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def record(required: str, **optional: dict) -> dict:
    """An object: required fields as `name:kind`, the others by keyword."""
    kinds = {"s": {"type": "string"}, "list": {"type": "array", "items": {"type": "string"}}}
    fields = dict(part.split(":") for part in required.split())
    properties = {name: kinds.get(kind) or {"$ref": f"#/components/schemas/{kind}"} for name, kind in fields.items()}
    return {"type": "object", "required": list(fields), "properties": properties | optional}


def schemas() -> dict:
    def of(name: str) -> dict:
        return {"$ref": f"#/components/schemas/{name}"}

    def many(name: str) -> dict:
        return {"type": "array", "items": of(name)}

    text, elements = {"type": "string"}, {"anyOf": [{"type": kind} for kind in ("number", "string", "boolean")]}
    return {
        "server": record("name:s version:s extensions:list"),
        "model": record("name:s platform:s", versions=kinds_of_text(), inputs=many("spec"), outputs=many("spec")),
        "spec": record("name:s datatype:datatype shape:spec_shape"),
        "spec_shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": DATATYPES},
        "parameters": {"type": "object", "additionalProperties": elements},
        "data": {"type": "array", "items": {"anyOf": [elements, of("data")]}},
        "tensor": record("name:s shape:shape datatype:datatype data:data", parameters=of("parameters")),
        "asked": record("name:s", parameters=of("parameters")),
        "inputs": many("tensor"),
        "outputs": many("tensor"),
        "request": record("inputs:inputs", id=text, parameters=of("parameters"), outputs=many("asked")),
        "answer": record("model_name:s outputs:outputs", model_version=text, id=text, parameters=of("parameters")),
        "error": record("error:s"),
    }


def kinds_of_text() -> dict:
    return {"type": "array", "items": {"type": "string"}}
