//! What is answered: vectors with what they took, or an error, in OpenAI's form.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::request::Encoding;
use crate::json::write_string;

/// Writes vectors in the order of their inputs, which had so many `tokens`. Every number is finite.
pub fn write(model: &str, vectors: &[Vec<f32>], tokens: usize, encoding: Encoding) -> Vec<u8> {
    let numbers: usize = vectors.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(numbers.saturating_mul(12).saturating_add(256));
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (at, vector) in vectors.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(at).as_bytes());
        out.extend_from_slice(b",\"embedding\":");
        match encoding {
            Encoding::Float => write_numbers(&mut out, vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"model\":");
    write_string(&mut out, model);
    let tokens = itoa::Buffer::new().format(tokens).to_owned();
    out.extend_from_slice(format!(",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}").as_bytes());
    out
}

/// The shortest texts that give the same numbers back.
fn write_numbers(out: &mut Vec<u8>, numbers: &[f32]) {
    let mut buffer = zmij::Buffer::new();
    out.push(b'[');
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(buffer.format_finite(*number).as_bytes());
    }
    out.push(b']');
}

/// The body of an error with an HTTP `status`, as OpenAI's clients read it.
pub fn write_error(status: u16, message: &str, param: Option<&str>) -> Vec<u8> {
    let (kind, code) = match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", Some("permission_denied")),
        404 => ("invalid_request_error", Some("model_not_found")),
        413 => ("invalid_request_error", Some("request_too_large")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        504 => ("server_error", Some("timeout")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let body = serde_json::json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn vectors_are_written_as_numbers_and_as_base64() {
        let vectors = [vec![0.1, -2.0], vec![1e-45, f32::MAX]];
        let read = |encoding| -> Value { serde_json::from_slice(&write("m\"", &vectors, 7, encoding)).unwrap() };
        let floats = read(Encoding::Float);
        assert_eq!((&floats["object"], &floats["model"]), (&json!("list"), &json!("m\"")));
        assert_eq!(floats["usage"], json!({ "prompt_tokens": 7, "total_tokens": 7 }));
        for (at, vector) in vectors.iter().enumerate() {
            assert_eq!(floats["data"][at]["index"], at);
            let list = floats["data"][at]["embedding"].as_array().unwrap();
            #[expect(clippy::cast_possible_truncation, reason = "the text is of a number of 32 bits")]
            let numbers: Vec<f32> = list.iter().map(|number| number.as_f64().unwrap() as f32).collect();
            assert_eq!(&numbers, vector);
        }
        let bytes = STANDARD.decode(read(Encoding::Base64)["data"][0]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0.1_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat());
    }

    #[test]
    fn errors_have_openais_form() {
        let error: Value = serde_json::from_slice(&write_error(404, "no `x`", Some("model"))).unwrap();
        let wanted = json!({ "message": "no `x`", "type": "invalid_request_error", "param": "model", "code": "model_not_found" });
        assert_eq!(error, json!({ "error": wanted }));
        let error: Value = serde_json::from_slice(&write_error(502, "broken", None)).unwrap();
        assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&json!("server_error"), &Value::Null));
    }
}
