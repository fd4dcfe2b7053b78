//! JSON files: a whole request, rows, rows with names, or inputs by name.

use serde_json::{Map, Value};

use super::{
    Data, Input, Metadata, Spec,
    rows::{self, Cell, Rows},
    wrong,
};
use crate::failure::Failure;

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// A request of the protocol, to be sent as it is.
    Request(Map<String, Value>),
    /// Inputs.
    Inputs(Vec<Input>),
}

/// Names that stand for the only input of a model.
const ANY_NAME: [&str; 4] = ["input", "rows", "instances", "data"];

/// Reads a file for a model.
pub(super) fn read(value: Value, metadata: &Metadata) -> Result<Content, Failure> {
    match value {
        Value::Object(object) if is_request(&object) => Ok(Content::Request(object)),
        Value::Object(object) => by_name(&object, metadata).map(Content::Inputs),
        Value::Array(records) if records.first().is_some_and(Value::is_object) => {
            rows::inputs(&with_names(&records)?, metadata).map(Content::Inputs)
        }
        value => match metadata.inputs.as_slice() {
            [spec] => Ok(Content::Inputs(vec![tensor(&value, spec)?])),
            _ => Err(needs_names(metadata)),
        },
    }
}

/// One input out of a value of its own.
pub(super) fn tensor(value: &Value, spec: &Spec) -> Result<Input, Failure> {
    let mut shape = Vec::new();
    let mut inner = value;
    while let Value::Array(items) = inner {
        shape.push(items.len());
        match items.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let mut values = Vec::new();
    flatten(value, &shape, &mut values)
        .map_err(|()| wrong(format!("the rows for `{}` differ in length", spec.name)))?;
    // One row stands for a batch of one.
    if !spec.takes(&shape) && matches!(spec.shape.first(), Some(-1 | 1)) {
        let batch: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        if spec.takes(&batch) {
            shape = batch;
        }
    }
    if !spec.takes(&shape) {
        return Err(wrong(format!(
            "the input `{}` takes {}, and the rows give {shape:?}",
            spec.name,
            spec.described()
        )));
    }
    Ok(Input { name: spec.name.clone(), datatype: spec.kind()?, shape, data: Data::Values(values) })
}

fn flatten(value: &Value, shape: &[usize], values: &mut Vec<Value>) -> Result<(), ()> {
    match (value, shape.split_first()) {
        (Value::Array(items), Some((length, rest))) if items.len() == *length => {
            items.iter().try_for_each(|item| flatten(item, rest, values))
        }
        (Value::Array(_), _) | (_, Some(_)) => Err(()),
        (value, None) => {
            values.push(value.clone());
            Ok(())
        }
    }
}

fn is_request(object: &Map<String, Value>) -> bool {
    let inputs = object.get("inputs").and_then(Value::as_array);
    inputs.is_some_and(|inputs| inputs.iter().all(|input| input.get("name").is_some()))
}

fn by_name(object: &Map<String, Value>, metadata: &Metadata) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for (name, value) in object {
        let spec = match (metadata.inputs.as_slice(), metadata.inputs.iter().find(|spec| spec.name == *name)) {
            (_, Some(spec)) => spec,
            ([only], None) if object.len() == 1 && ANY_NAME.contains(&name.as_str()) => only,
            _ => return Err(needs_names(metadata)),
        };
        inputs.push(tensor(value, spec)?);
    }
    match metadata.inputs.iter().find(|spec| !inputs.iter().any(|input| input.name == spec.name)) {
        Some(absent) => Err(wrong(format!("the input `{}` ({}) is missing", absent.name, absent.described()))),
        None => Ok(inputs),
    }
}

fn with_names(records: &[Value]) -> Result<Rows, Failure> {
    let columns: Vec<String> = match records.first() {
        Some(Value::Object(first)) => first.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let mut rows = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let cell = |column: &String| record.get(column).cloned().map(Cell::Value);
        let row: Option<Vec<Cell>> = columns.iter().map(cell).collect();
        let same = record.as_object().is_some_and(|record| record.len() == columns.len());
        match row.filter(|_| same) {
            Some(row) => rows.push(row),
            None => {
                return Err(wrong(format!("row {} has other names than the first: {}", index + 1, columns.join(", "))));
            }
        }
    }
    Ok(Rows { width: columns.len(), columns, rows })
}

fn needs_names(metadata: &Metadata) -> Failure {
    let inputs: Vec<String> =
        metadata.inputs.iter().map(|spec| format!("`{}` ({})", spec.name, spec.described())).collect();
    let failure = wrong(format!("the model takes {}", inputs.join(", ")));
    let names: Vec<String> = metadata.inputs.iter().map(|spec| format!("\"{}\": […]", spec.name)).collect();
    failure.hint(format!("write {{{}}}, or a request of the protocol with `inputs`", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn model(specs: &[(&str, &str, &[i64])]) -> Metadata {
        let spec = |(name, datatype, shape): &(&str, &str, &[i64])| Spec {
            name: (*name).to_owned(),
            datatype: (*datatype).to_owned(),
            shape: shape.to_vec(),
        };
        Metadata { inputs: specs.iter().map(spec).collect(), outputs: Vec::new() }
    }

    fn shapes(value: Value, metadata: &Metadata) -> Result<Vec<Vec<usize>>, String> {
        match read(value, metadata).map_err(|failure| failure.message)? {
            Content::Inputs(inputs) => Ok(inputs.into_iter().map(|input| input.shape).collect()),
            Content::Request(_) => Err("request".to_owned()),
        }
    }

    #[test]
    fn rows_of_the_only_input() {
        let iris = model(&[("x", "FP32", &[-1, 2])]);
        assert_eq!(shapes(json!([[1, 2], [3, 4], [5, 6]]), &iris).unwrap(), [[3, 2]]);
        assert_eq!(shapes(json!([1, 2]), &iris).unwrap(), [[1, 2]]);
        assert_eq!(shapes(json!({"input": [[1, 2]]}), &iris).unwrap(), [[1, 2]]);
        assert_eq!(shapes(json!({"x": [[1, 2]]}), &iris).unwrap(), [[1, 2]]);
        assert_eq!(shapes(json!([{"a": 1, "b": 2}, {"b": 3, "a": 4}]), &iris).unwrap(), [[2, 2]]);
        assert_eq!(shapes(json!({"inputs": [{"name": "x"}]}), &iris).unwrap_err(), "request");
    }

    #[test]
    fn several_inputs_by_name() {
        let two = model(&[("ids", "INT64", &[-1, -1]), ("t", "BYTES", &[-1])]);
        assert_eq!(shapes(json!({"ids": [[1, 2, 3]], "t": ["a"]}), &two).unwrap(), [vec![1, 3], vec![1]]);
        assert!(shapes(json!({"ids": [[1]]}), &two).unwrap_err().contains("`t` (BYTES [-1]) is missing"));
        assert!(shapes(json!([[1]]), &two).unwrap_err().contains("the model takes `ids`"));
    }

    #[test]
    fn what_does_not_fit() {
        let iris = model(&[("x", "FP32", &[-1, 2])]);
        assert!(shapes(json!([[1, 2], [3]]), &iris).unwrap_err().contains("differ in length"));
        assert!(shapes(json!([[1, 2], 3]), &iris).unwrap_err().contains("differ in length"));
        assert_eq!(
            shapes(json!([[1, 2, 3]]), &iris).unwrap_err(),
            "the input `x` takes FP32 [-1, 2], and the rows give [1, 3]"
        );
        assert!(shapes(json!({"y": [[1, 2]]}), &iris).unwrap_err().contains("the model takes `x`"));
        assert!(shapes(json!([{"a": 1, "b": 2}, {"a": 1}]), &iris).unwrap_err().contains("row 2"));
        assert!(shapes(json!([]), &iris).unwrap_err().contains("give [0]"));
        assert!(shapes(json!("x"), &iris).unwrap_err().contains("give []"));
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(text in "[\\[\\]{}\",:x1 ]{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                drop(read(value, &model(&[("x", "FP32", &[-1, 2])])));
            }
        }
    }
}
