//! Answers for people: a row for each row that was asked, classes by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    failure::Failure,
    output::printable,
    table::{one_line, table},
};

/// Columns that an output of few elements gets; one with more is cut to its best.
const COLUMNS_MAX: usize = 12;
/// Elements shown of an output that is cut.
const SHOWN_MAX: usize = 3;

/// Names of classes, by output.
pub(crate) type Classes = BTreeMap<String, Vec<String>>;

/// What a model answered.
#[derive(Debug, Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Vec<Value>,
}

/// A column of the table.
struct Column {
    title: String,
    cells: Vec<String>,
}

/// The answer as a table.
pub(crate) fn shown(body: &[u8], classes: &Classes) -> Result<String, Failure> {
    let unreadable = |what: String| {
        Failure::failed(format!("the answer cannot be read: {what}")).hint("`-o json` prints it as it is")
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    let mut outputs = answer.outputs;
    for output in &mut outputs {
        output.data = flat(std::mem::take(&mut output.data));
        if output.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)) != Some(output.data.len())
        {
            return Err(unreadable(format!("`{}` does not have the elements that its shape says", output.name)));
        }
    }
    let count = outputs.first().and_then(|output| output.shape.first()).copied();
    let in_rows = |count: usize| outputs.iter().all(|output| output.shape.first() == Some(&count));
    match count.filter(|count| *count > 0 && in_rows(*count)) {
        Some(count) => Ok(rows(&outputs, count, classes)),
        None => Ok(whole(&outputs)),
    }
}

fn flat(data: Vec<Value>) -> Vec<Value> {
    if !data.iter().any(Value::is_array) {
        return data;
    }
    let mut out = Vec::new();
    // serde_json has bounded the depth.
    for value in data {
        match value {
            Value::Array(inner) => out.extend(flat(inner)),
            value => out.push(value),
        }
    }
    out
}

fn rows(outputs: &[Output], count: usize, classes: &Classes) -> String {
    let mut columns = Vec::new();
    if count > 1 {
        columns.push(Column { title: "ROW".to_owned(), cells: (1..=count).map(|row| row.to_string()).collect() });
    }
    for output in outputs {
        columns.extend(columns_of(output, count, names(output, count, classes)));
    }
    let header: Vec<&str> = columns.iter().map(|column| column.title.as_str()).collect();
    let cell = |column: &Column, row: usize| column.cells.get(row).cloned().unwrap_or_default();
    table(&header, (0..count).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect())
}

/// Names of the classes that an output speaks of: its own; or, for whole numbers, another output's, whose index they are.
fn names<'a>(output: &Output, count: usize, classes: &'a Classes) -> Option<&'a [String]> {
    let own = classes.get(&output.name);
    let is_index =
        output.data.len() == count && (output.datatype.starts_with("INT") || output.datatype.starts_with("UINT"));
    let other = || classes.values().next().filter(|_| is_index && classes.len() == 1);
    own.or_else(other).map(Vec::as_slice)
}

fn columns_of(output: &Output, count: usize, names: Option<&[String]>) -> Vec<Column> {
    let title = printable(&output.name);
    let width = output.data.len() / count;
    let chunks = || output.data.chunks(width.max(1));
    if width == 1 {
        let cell = |value: &Value| match (names, value.as_u64().and_then(|index| usize::try_from(index).ok())) {
            (Some(names), Some(index)) => {
                names.get(index).map_or_else(|| text(value), |name| format!("{} ({index})", printable(name)))
            }
            _ => text(value),
        };
        return vec![Column { title, cells: output.data.iter().map(cell).collect() }];
    }
    let names = names.filter(|names| names.len() == width);
    if output.shape.len() == 2 && width <= COLUMNS_MAX {
        let column = |index: usize| {
            let name =
                names.and_then(|names| names.get(index)).map_or_else(|| index.to_string(), |name| printable(name));
            let cells = chunks().map(|row| row.get(index).map(text).unwrap_or_default()).collect();
            Column { title: format!("{title}[{name}]"), cells }
        };
        return (0..width).map(column).collect();
    }
    vec![Column { title, cells: chunks().map(|row| cut(row, &output.shape, names)).collect() }]
}

/// The best of many scores by name, or the first of many numbers.
fn cut(row: &[Value], shape: &[usize], names: Option<&[String]>) -> String {
    if let Some(names) = names {
        let mut scores: Vec<(f64, &String)> =
            row.iter().zip(names).map(|(value, name)| (value.as_f64().unwrap_or(f64::NEG_INFINITY), name)).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = scores.iter().take(SHOWN_MAX).map(|(score, name)| format!("{} {}", printable(name), number(*score)));
        return format!("{}, …", best.collect::<Vec<_>>().join(", "));
    }
    let first: Vec<String> = row.iter().take(SHOWN_MAX).map(text).collect();
    let rest = if row.len() > SHOWN_MAX { ", …" } else { "" };
    format!("[{}{rest}] {:?}", first.join(", "), shape.get(1..).unwrap_or_default())
}

/// Outputs without a common first dimension, one per row.
fn whole(outputs: &[Output]) -> String {
    let row = |output: &Output| {
        let first: Vec<String> = output.data.iter().take(SHOWN_MAX * 2).map(text).collect();
        let rest = if output.data.len() > SHOWN_MAX * 2 { ", …" } else { "" };
        vec![
            printable(&output.name),
            output.datatype.clone(),
            format!("{:?}", output.shape),
            format!("{}{rest}", first.join(", ")),
        ]
    };
    table(&["OUTPUT", "DATATYPE", "SHAPE", "DATA"], outputs.iter().map(row).collect())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        Value::Number(digits) if digits.is_f64() => digits.as_f64().map_or_else(|| digits.to_string(), number),
        value => value.to_string(),
    }
}

/// Six digits that say something.
fn number(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{value:.5e}");
    }
    let before = if size >= 1.0 { size.log10().floor() + 1.0 } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 6")]
    let after = (6.0 - before).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.after$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(outputs: Value, classes: Value) -> String {
        let classes: Classes = serde_json::from_value(classes).unwrap();
        shown(json!({"outputs": outputs}).to_string().as_bytes(), &classes).unwrap()
    }

    #[test]
    fn labels_and_probabilities() {
        let outputs = json!([
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]},
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [[0.9999823, 1.77e-05], [0.25, 0.75]]},
        ]);
        assert_eq!(
            show(outputs.clone(), json!({"p": ["bad", "good"]})),
            "ROW   label      p[bad]     p[good]\n\
             1     bad (0)    0.999982   1.77000e-5\n\
             2     good (1)   0.25       0.75"
        );
        assert!(show(outputs, json!({})).starts_with("ROW   label   p[0]"));
    }

    #[test]
    fn many_scores_and_high_ranks() {
        let names: Vec<String> = (0..20).map(|index| format!("c{index}")).collect();
        let scores: Vec<f64> = (0..20).map(|index| f64::from(index) / 100.0).collect();
        let output = json!([{"name": "s", "datatype": "FP32", "shape": [1, 20], "data": scores}]);
        assert_eq!(show(output.clone(), json!({"s": names})), "s\nc19 0.19, c18 0.18, c17 0.17, …");
        assert_eq!(show(output, json!({})), "s\n[0.0, 0.01, 0.02, …] [20]".replace("0.0,", "0,"));
        let differ = json!([
            {"name": "a", "datatype": "FP32", "shape": [], "data": [7.5]},
            {"name": "b", "datatype": "BYTES", "shape": [2], "data": ["x\ny", "z"]},
        ]);
        assert!(show(differ, json!({})).contains("b        BYTES      [2]     x …, z"));
    }

    #[test]
    fn answers_that_make_no_sense() {
        let said = |body: &str| shown(body.as_bytes(), &Classes::new()).unwrap_err().message;
        assert!(said("{}").contains("cannot be read"));
        let short = r#"{"outputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1]}]}"#;
        assert!(said(short).contains("`a` does not have"));
    }

    #[test]
    fn numbers() {
        for (value, text) in
            [(0.0, "0"), (1234.5678, "1234.57"), (-0.5, "-0.5"), (1e12, "1.00000e12"), (123_456_789.0, "123456789")]
        {
            assert_eq!(number(value), text);
        }
    }
}
