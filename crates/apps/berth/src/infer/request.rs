//! From files to the body of a request.

use std::{fs, io::Read, path::Path};

use serde_json::{Map, Value, json};

use super::{
    Data, FILE_BYTES_MAX, Input, Metadata, Spec, convert, csv,
    json::{self, Content},
    npy, rows, wrong,
};
use crate::failure::{Failure, plainly};

/// A body, ready to be sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of JSON before the tensors' bytes; nothing when all is JSON.
    pub(crate) json_len: Option<usize>,
}

/// Reads the files that `--input` names.
pub(crate) fn build(given: &[String], outputs: &[String], metadata: &Metadata) -> Result<Body, Failure> {
    let mut inputs = Vec::new();
    for argument in given {
        let (spec, path) = named(argument, metadata);
        let content = one(Path::new(path), spec, metadata)
            .map_err(|failure| Failure { message: format!("`{path}`: {failure}"), ..failure })?;
        match content {
            Content::Inputs(more) => inputs.extend(more),
            Content::Request(mut request) if given.len() == 1 => {
                if !outputs.is_empty() {
                    request.insert("outputs".to_owned(), names(outputs));
                }
                return Ok(Body { bytes: Value::Object(request).to_string().into_bytes(), json_len: None });
            }
            Content::Request(_) => return Err(wrong(format!("`{path}` is a whole request: give it alone"))),
        }
    }
    Ok(encode(inputs, outputs))
}

/// `NAME=FILE` for an input of the model, or a file that may have `=` in its name.
fn named<'a>(argument: &'a str, metadata: &'a Metadata) -> (Option<&'a Spec>, &'a str) {
    let split = argument.split_once('=').filter(|_| !Path::new(argument).exists());
    match split.and_then(|(name, path)| Some((metadata.inputs.iter().find(|spec| spec.name == name)?, path))) {
        Some((spec, path)) => (Some(spec), path),
        None => (None, argument),
    }
}

fn one(path: &Path, spec: Option<&Spec>, metadata: &Metadata) -> Result<Content, Failure> {
    let bytes = read(path)?;
    let only = match spec {
        Some(spec) => Metadata { inputs: vec![spec.clone()], outputs: Vec::new() },
        None => metadata.clone(),
    };
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("npy") => array(&bytes, &only).map(|input| Content::Inputs(vec![input])),
        Some("csv") => {
            let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
            rows::inputs(&csv::read(&text).map_err(wrong)?, &only).map(Content::Inputs)
        }
        Some("json") => read_json(&bytes, &only),
        _ if path == Path::new("-") => read_json(&bytes, &only),
        _ => {
            let failure = wrong("its name says neither `.json` nor `.csv` nor `.npy`");
            Err(failure.hint("name it so, or give JSON through `--input -`"))
        }
    }
}

fn read_json(bytes: &[u8], metadata: &Metadata) -> Result<Content, Failure> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("it is not valid JSON: {error}")))?;
    json::read(value, metadata)
}

fn array(bytes: &[u8], metadata: &Metadata) -> Result<Input, Failure> {
    let [spec] = metadata.inputs.as_slice() else {
        let names: Vec<&str> = metadata.inputs.iter().map(|spec| spec.name.as_str()).collect();
        let failure = wrong(format!("the model has {} inputs: {}", names.len(), names.join(", ")));
        return Err(failure.hint("give one array for each: `--input NAME=FILE.npy`"));
    };
    let mut array = npy::read(bytes).map_err(wrong)?;
    let datatype = spec.kind()?;
    let batch: Vec<usize> = std::iter::once(1).chain(array.shape.iter().copied()).collect();
    // One row stands for a batch of one.
    if !spec.takes(&array.shape) && matches!(spec.shape.first(), Some(-1 | 1)) && spec.takes(&batch) {
        array.shape = batch;
    }
    if !spec.takes(&array.shape) {
        return Err(wrong(format!(
            "the input `{}` takes {}, and the array is {:?}",
            spec.name,
            spec.described(),
            array.shape
        )));
    }
    let bytes = convert::bytes(&array, datatype).map_err(wrong)?;
    Ok(Input { name: spec.name.clone(), datatype, shape: array.shape, data: Data::Bytes(bytes) })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot be read: {}", plainly(&error)));
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")).hint("split it"));
    }
    Ok(bytes)
}

fn names(outputs: &[String]) -> Value {
    outputs.iter().map(|name| json!({"name": name})).collect()
}

/// The body: JSON, then the bytes of binary tensors in their order.
fn encode(inputs: Vec<Input>, outputs: &[String]) -> Body {
    let mut binary = Vec::new();
    let mut described = Vec::new();
    let mut any_binary = false;
    for input in inputs {
        let mut tensor = Map::new();
        tensor.insert("name".to_owned(), Value::from(input.name));
        tensor.insert("datatype".to_owned(), Value::from(input.datatype.name()));
        tensor.insert("shape".to_owned(), Value::from(input.shape));
        match input.data {
            Data::Values(values) => {
                tensor.insert("data".to_owned(), Value::Array(values));
            }
            Data::Bytes(bytes) => {
                any_binary = true;
                tensor.insert("parameters".to_owned(), json!({"binary_data_size": bytes.len()}));
                binary.extend(bytes);
            }
        }
        described.push(Value::Object(tensor));
    }
    let mut request = Map::new();
    request.insert("inputs".to_owned(), Value::Array(described));
    if !outputs.is_empty() {
        request.insert("outputs".to_owned(), names(outputs));
    }
    let mut bytes = Value::Object(request).to_string().into_bytes();
    let json_len = any_binary.then_some(bytes.len());
    bytes.extend(binary);
    Body { bytes, json_len }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iris() -> Metadata {
        let spec = Spec { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1, 2] };
        Metadata { inputs: vec![spec], outputs: Vec::new() }
    }

    fn in_file(name: &str, content: &[u8], outputs: &[String]) -> Result<Body, Failure> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(name);
        fs::write(&path, content).unwrap();
        build(&[path.to_str().unwrap().to_owned()], outputs, &iris())
    }

    #[test]
    fn text_files_become_json() {
        let wanted = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]});
        let body = in_file("a.CSV", b"a,b\n1,2\n", &[]).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body.bytes).unwrap(), wanted);
        assert_eq!(body.json_len, None);
        let body = in_file("a=b.json", b"[1, 2]", &["y".to_owned()]).unwrap();
        let sent: Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!((&sent["inputs"][0]["data"], &sent["outputs"]), (&json!([1, 2]), &json!([{"name": "y"}])));
        let body = in_file("r.json", br#"{"id": "7", "inputs": [{"name": "other"}]}"#, &["y".to_owned()]).unwrap();
        let sent: Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(sent, json!({"id": "7", "inputs": [{"name": "other"}], "outputs": [{"name": "y"}]}));
    }

    #[test]
    fn arrays_become_binary() {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n";
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend([1_f64, 2.0].iter().flat_map(|number| number.to_le_bytes()));
        let body = in_file("a.npy", &file, &[]).unwrap();
        let (head, tail) = body.bytes.split_at(body.json_len.unwrap());
        let sent: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(sent["inputs"][0]["shape"], json!([1, 2]));
        assert_eq!(sent["inputs"][0]["parameters"], json!({"binary_data_size": 8}));
        assert_eq!(tail, [1_f32, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>());
    }

    #[test]
    fn files_are_named_in_errors() {
        let said = |name: &str, content: &[u8]| in_file(name, content, &[]).unwrap_err().message;
        assert!(said("a.json", b"{").contains("a.json`: it is not valid JSON"));
        assert!(said("a.npy", b"hello").contains("numpy.save"));
        assert!(said("a.csv", b"").contains("it is empty"));
        assert!(said("a.txt", b"1").contains("neither"));
        let nowhere = build(&["nowhere.json".to_owned()], &[], &iris()).unwrap_err();
        assert!(nowhere.message.starts_with("`nowhere.json`: cannot be read"));
    }
}
