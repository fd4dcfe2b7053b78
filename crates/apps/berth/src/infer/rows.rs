//! Rows with named columns, from CSV or JSON, as the inputs of a model.

use inference::Datatype;
use serde_json::Value;

use super::{Data, Input, Metadata, Spec, wrong};
use crate::{failure::Failure, quantities::counted};

/// Rows of cells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    /// Names of the columns; none when nobody named them.
    pub(super) columns: Vec<String>,
    /// Number of columns.
    pub(super) width: usize,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Text that may be a number.
    Text(String),
    /// A value that is what it is.
    Value(Value),
}

/// The inputs that `rows` give: all columns as one input in their order, or one input for each column by name.
pub(super) fn inputs(rows: &Rows, metadata: &Metadata) -> Result<Vec<Input>, Failure> {
    match metadata.inputs.as_slice() {
        [] => Err(wrong("the model has no inputs")),
        [spec] => Ok(vec![one(rows, spec)?]),
        several => by_name(rows, several),
    }
}

/// All columns as one input.
fn one(rows: &Rows, spec: &Spec) -> Result<Input, Failure> {
    let count = rows.rows.len();
    let shape = match spec.shape.as_slice() {
        [_] if rows.width == 1 => vec![count],
        [_] if count == 1 => vec![rows.width],
        [_, _] => vec![count, rows.width],
        _ => {
            let failure = wrong(format!("rows do not fit the input `{}` ({})", spec.name, spec.described()));
            return Err(failure.hint("give the tensor as JSON or as a NumPy file"));
        }
    };
    if !spec.takes(&shape) {
        let failure = wrong(format!(
            "the input `{}` takes {}, and {} of {} give {shape:?}",
            spec.name,
            spec.described(),
            counted(count, "row"),
            counted(rows.width, "column")
        ));
        return Err(failure.hint("remove the columns that the model does not take, or add those that it does"));
    }
    let columns: Vec<usize> = (0..rows.width).collect();
    Ok(Input { name: spec.name.clone(), datatype: spec.kind()?, shape, data: data(rows, &columns, spec)? })
}

/// One column for each input.
fn by_name(rows: &Rows, specs: &[Spec]) -> Result<Vec<Input>, Failure> {
    let names = || specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
    if let Some(stranger) = rows.columns.iter().find(|column| !specs.iter().any(|spec| spec.name == **column)) {
        let failure = wrong(format!("the model has no input `{stranger}`"));
        return Err(failure.hint(format!("name the columns as its inputs: {}", names())));
    }
    let mut inputs = Vec::new();
    for spec in specs {
        let Some(column) = rows.columns.iter().position(|column| *column == spec.name) else {
            let failure = wrong(format!("there is no column for the input `{}`", spec.name));
            return Err(failure.hint(format!("name the columns as the model's inputs: {}", names())));
        };
        let count = rows.rows.len();
        let shape = [vec![count], vec![count, 1]].into_iter().find(|shape| spec.takes(shape));
        let Some(shape) = shape else {
            let failure = wrong(format!("a column does not fit the input `{}` ({})", spec.name, spec.described()));
            return Err(failure.hint("give the tensors as JSON, or as `--input NAME=FILE.npy`"));
        };
        inputs.push(Input {
            name: spec.name.clone(),
            datatype: spec.kind()?,
            shape,
            data: data(rows, &[column], spec)?,
        });
    }
    Ok(inputs)
}

fn data(rows: &Rows, columns: &[usize], spec: &Spec) -> Result<Data, Failure> {
    let datatype = spec.kind()?;
    let mut values = Vec::with_capacity(rows.rows.len() * columns.len());
    for (index, row) in rows.rows.iter().enumerate() {
        for column in columns {
            let Some(cell) = row.get(*column) else { return Err(wrong(format!("row {} is too short", index + 1))) };
            let value = value(cell, datatype).ok_or_else(|| {
                let name =
                    rows.columns.get(*column).map_or_else(|| (column + 1).to_string(), |name| format!("`{name}`"));
                let shown = match cell {
                    Cell::Text(text) => text.clone(),
                    Cell::Value(value) => value.to_string(),
                };
                wrong(format!("row {}, column {name}: expected {datatype}, found `{shown}`", index + 1))
            })?;
            values.push(value);
        }
    }
    Ok(Data::Values(values))
}

/// A cell as an element of `datatype`; nothing when it is none.
fn value(cell: &Cell, datatype: Datatype) -> Option<Value> {
    let text = match cell {
        Cell::Value(Value::String(text)) | Cell::Text(text) => text,
        Cell::Value(value) => return (value.is_number() || value.is_boolean()).then(|| value.clone()),
    };
    let trimmed = text.trim();
    match datatype {
        Datatype::Bytes => Some(Value::from(text.as_str())),
        Datatype::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => float(trimmed),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => whole(trimmed).map(Value::from),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 => {
            trimmed.parse::<u64>().ok().or_else(|| whole(trimmed)?.try_into().ok()).map(Value::from)
        }
    }
}

/// A number, or the word that stands for one that JSON cannot write.
fn float(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok()?;
    Some(match number {
        number if number.is_nan() => Value::from("NaN"),
        f64::INFINITY => Value::from("Infinity"),
        f64::NEG_INFINITY => Value::from("-Infinity"),
        number => Value::from(number),
    })
}

/// A whole number; `3.0`, as pandas writes it, is one.
fn whole(text: &str) -> Option<i64> {
    let digits =
        text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0')).map_or(text, |(digits, _)| digits);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::infer::csv;

    fn model(specs: &[(&str, &str, &[i64])]) -> Metadata {
        let spec = |(name, datatype, shape): &(&str, &str, &[i64])| Spec {
            name: (*name).to_owned(),
            datatype: (*datatype).to_owned(),
            shape: shape.to_vec(),
        };
        Metadata { inputs: specs.iter().map(spec).collect(), outputs: Vec::new() }
    }

    fn map(text: &str, specs: &[(&str, &str, &[i64])]) -> Result<Vec<Input>, String> {
        inputs(&csv::read(text).unwrap(), &model(specs)).map_err(|failure| failure.message)
    }

    fn values(input: &Input) -> Value {
        match &input.data {
            Data::Values(values) => json!(values),
            Data::Bytes(_) => Value::Null,
        }
    }

    #[test]
    fn columns_in_their_order() {
        let inputs = map("a,b\n1,2.5\nnan,-inf\n", &[("x", "FP32", &[-1, 2])]).unwrap();
        assert_eq!((inputs[0].name.as_str(), inputs[0].shape.as_slice()), ("x", [2, 2].as_slice()));
        assert_eq!(values(&inputs[0]), json!([1.0, 2.5, "NaN", "-Infinity"]));
        assert_eq!(map("a\nx\ny\n", &[("t", "BYTES", &[-1])]).unwrap()[0].shape, [2]);
        assert_eq!(map("1,2,3\n", &[("v", "INT64", &[3])]).unwrap()[0].shape, [3]);
    }

    #[test]
    fn columns_by_name() {
        let specs: &[(&str, &str, &[i64])] =
            &[("age", "INT64", &[-1, 1]), ("sex", "BYTES", &[-1]), ("ok", "BOOL", &[-1])];
        let inputs = map("ok,sex,age\ntrue,f,31.0\n0,\" m\",4\n", specs).unwrap();
        assert_eq!(
            inputs.iter().map(values).collect::<Vec<_>>(),
            [json!([31, 4]), json!(["f", " m"]), json!([true, false])]
        );
        assert_eq!(inputs[0].shape, [2, 1]);
    }

    #[test]
    fn what_does_not_fit() {
        let wide: &[(&str, &str, &[i64])] = &[("x", "FP32", &[-1, 30])];
        assert_eq!(
            map("a,b\n1,2\n", wide).unwrap_err(),
            "the input `x` takes FP32 [-1, 30], and 1 row of 2 columns give [1, 2]"
        );
        let two: &[(&str, &str, &[i64])] = &[("a", "FP32", &[-1]), ("b", "UINT8", &[-1])];
        assert_eq!(map("a,c\n1,2\n", two).unwrap_err(), "the model has no input `c`");
        assert_eq!(map("a\n1\n", two).unwrap_err(), "there is no column for the input `b`");
        assert_eq!(map("a,b\n1,2\n1,-2\n", two).unwrap_err(), "row 2, column `b`: expected UINT8, found `-2`");
        assert!(map("a\n1\n", &[("i", "FP32", &[1, 3, 8, 8])]).unwrap_err().contains("do not fit"));
    }
}
