//! The V1 protocol of TensorFlow Serving and KServe: rows in `instances` or columns in `inputs`, with shapes told by nesting.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    elements::{self, Budget},
    fault::{Fault, Parsed},
    reader::{Literals, Reader},
    write,
};
use crate::{
    Datatype, InferError, InferRequest, InferResponse, ModelMetadata, Tensor, TensorData, TensorSpec, contract,
    limits::RANK_MAX,
};

/// How a request was written, which is how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances`: so many rows. Answered with `predictions`.
    Rows(usize),
    /// `inputs`. Answered with `outputs`.
    Columns,
}

/// The one signature that a model has here; the name is TensorFlow Serving's default.
const SIGNATURE: &str = "serving_default";

/// Reads a request for the model that `metadata` describes.
///
/// # Errors
///
/// [`InferError::InvalidInput`] with the place of what is wrong, [`InferError::TooLarge`] when a limit is passed.
pub fn read_request(json: &Bytes, metadata: &ModelMetadata) -> Result<(InferRequest, Form), InferError> {
    let mut reader = Reader::new(json)?;
    let columns = metadata.inputs.iter().map(Column::new).collect();
    let mut table = Table { specs: &metadata.inputs, columns, budget: Budget::new() };
    let mut form = None;
    reader.object(|reader, key| match key {
        "instances" | "inputs" if form.is_some() => {
            Err(Fault::new("expected one of `instances` and `inputs`, found a second one"))
        }
        "instances" => {
            form = Some(Form::Rows(table.rows(reader)?));
            Ok(())
        }
        "inputs" => {
            form = Some(Form::Columns);
            table.columns(reader)
        }
        "signature_name" => signature(reader),
        _ => reader.skip(Literals::Strict),
    })?;
    reader.end()?;
    let form = form.ok_or_else(|| {
        InferError::InvalidInput("expected `instances`, a list of rows, or `inputs`, found neither".to_owned())
    })?;
    let inputs = table.columns.into_iter().map(Column::finish).collect();
    Ok((InferRequest { inputs, ..InferRequest::default() }, form))
}

fn signature(reader: &mut Reader<'_>) -> Parsed<()> {
    match reader.string()?.as_ref() {
        SIGNATURE | "" => Ok(()),
        _ => Err(Fault::new(format!("expected `{SIGNATURE}`, the one signature that a model has here"))),
    }
}

/// The inputs of a request on the way in.
struct Table<'m> {
    specs: &'m [TensorSpec],
    columns: Vec<Column<'m>>,
    budget: Budget,
}

impl Table<'_> {
    /// Reads `instances` and gives back how many there are.
    fn rows(&mut self, reader: &mut Reader<'_>) -> Parsed<usize> {
        let mut rows = 0;
        reader.array(|reader, index| {
            rows = index + 1;
            if self.is_named(reader) {
                self.named(reader, 1)
            } else {
                let budget = &mut self.budget;
                let column = only(self.specs, &mut self.columns, reader)?;
                column.given += 1;
                column.value(reader, 1, budget)
            }
        })?;
        for column in &mut self.columns {
            column.close(0, rows)?;
        }
        Ok(rows)
    }

    /// Reads `inputs`.
    fn columns(&mut self, reader: &mut Reader<'_>) -> Parsed<()> {
        if self.is_named(reader) {
            return self.named(reader, 0);
        }
        let column = only(self.specs, &mut self.columns, reader)?;
        column.value(reader, 0, &mut self.budget)
    }

    /// Whether an object that names inputs begins here, rather than the value of the one input.
    fn is_named(&self, reader: &mut Reader<'_>) -> bool {
        if reader.peek() != Some(b'{') {
            return false;
        }
        let encoded = matches!(self.specs, [spec] if spec.datatype == Datatype::Bytes && spec.name != "b64");
        !(encoded && is_base64(reader))
    }

    /// Reads an object with one value for each input, which stands inside `depth` arrays.
    fn named(&mut self, reader: &mut Reader<'_>, depth: usize) -> Parsed<()> {
        let (specs, columns, budget) = (self.specs, &mut self.columns, &mut self.budget);
        let before = columns.first().map_or(0, |column| column.given);
        let before = columns.iter().fold(before, |least, column| least.min(column.given));
        // Rows mostly name the inputs in the model's order.
        let mut next = 0;
        reader.object(|reader, key| {
            let known = |column: &Column<'_>| column.spec.name == key;
            let expected = columns.get(next).is_some_and(known);
            let at = if expected { Some(next) } else { columns.iter().position(known) };
            let Some(column) = at.and_then(|at| columns.get_mut(at)) else {
                return Err(Fault::new(format!("the model has no such input: {}", contract::choices(specs))));
            };
            if column.given > before {
                return Err(Fault::new("the input is given twice"));
            }
            column.given += 1;
            next = at.map_or(0, |at| at + 1);
            column.value(reader, depth, budget)
        })?;
        match columns.iter().find(|column| column.given == before) {
            Some(Column { spec, .. }) => Err(Fault::new(format!(
                "expected the input `{}` ({} {:?}), found nothing",
                spec.name, spec.datatype, spec.shape
            ))),
            None => Ok(()),
        }
    }
}

/// The column of a value that no name stands before.
fn only<'c, 'm>(
    specs: &[TensorSpec],
    columns: &'c mut [Column<'m>],
    reader: &mut Reader<'_>,
) -> Parsed<&'c mut Column<'m>> {
    match columns {
        [column] => Ok(column),
        _ => {
            let fault = reader.fault("an object with a value for each input of the model");
            Err(fault.followed_by(&contract::choices(specs)))
        }
    }
}

/// One input on the way in.
struct Column<'m> {
    spec: &'m TensorSpec,
    /// How often it was given.
    given: usize,
    fixed: Vec<u8>,
    strings: Vec<Bytes>,
    /// Length of the arrays at each depth, once the first of them is closed.
    dimensions: Vec<Option<usize>>,
    /// How many arrays each element stands in, once one was seen.
    rank: Option<usize>,
}

impl<'m> Column<'m> {
    fn new(spec: &'m TensorSpec) -> Self {
        Self { spec, given: 0, fixed: Vec::new(), strings: Vec::new(), dimensions: Vec::new(), rank: None }
    }

    /// Reads a value that stands inside `depth` arrays.
    fn value(&mut self, reader: &mut Reader<'_>, depth: usize, budget: &mut Budget) -> Parsed<()> {
        if reader.peek() != Some(b'[') {
            return self.element(reader, depth, budget);
        }
        if self.rank.is_some_and(|rank| rank <= depth) {
            return Err(reader.fault(elements::expected(self.spec.datatype)));
        }
        if depth >= RANK_MAX {
            return Err(Fault::new(format!("nested deeper than {RANK_MAX} dimensions")));
        }
        let mut length = 0;
        reader.array(|reader, index| {
            length = index + 1;
            self.value(reader, depth + 1, budget)
        })?;
        self.close(depth, length)
    }

    #[inline]
    fn element(&mut self, reader: &mut Reader<'_>, depth: usize, budget: &mut Budget) -> Parsed<()> {
        let fits = self.rank.map_or(self.dimensions.len() <= depth, |rank| rank == depth);
        if !fits {
            return Err(reader.fault("an array, as elsewhere at this depth"));
        }
        self.rank = Some(depth);
        let datatype = self.spec.datatype;
        budget.one(datatype)?;
        if datatype == Datatype::Bytes {
            self.strings.push(bytes(reader)?);
            return Ok(());
        }
        elements::append(reader, datatype, &mut self.fixed)
    }

    /// An array at `depth` ends with `length` elements.
    fn close(&mut self, depth: usize, length: usize) -> Parsed<()> {
        if self.dimensions.len() <= depth {
            self.dimensions.resize(depth + 1, None);
        }
        elements::note_length(&mut self.dimensions, depth, length)
    }

    fn finish(self) -> Tensor {
        let mut shape: Vec<usize> = self.dimensions.iter().map(|dimension| dimension.unwrap_or(0)).collect();
        if self.rank.is_none() {
            // Below an empty array nothing tells the dimensions but the model.
            let told = self.spec.shape.iter().skip(shape.len());
            shape.extend(told.map(|dimension| usize::try_from(*dimension).unwrap_or(0)));
        }
        let datatype = self.spec.datatype;
        let data = match datatype {
            Datatype::Bytes => TensorData::Strings(self.strings),
            _ => TensorData::Fixed(Bytes::from(self.fixed)),
        };
        Tensor { name: self.spec.name.clone(), datatype, shape, parameters: Vec::new(), data }
    }
}

/// Whether `{"b64":` begins here.
fn is_base64(reader: &mut Reader<'_>) -> bool {
    let mut ahead = *reader;
    ahead.take(b'{') && ahead.peek() == Some(b'"') && ahead.string().is_ok_and(|key| key == "b64")
}

/// A string, or bytes as `{"b64":"…"}`.
fn bytes(reader: &mut Reader<'_>) -> Parsed<Bytes> {
    if reader.peek() != Some(b'{') {
        return elements::text(reader, Datatype::Bytes);
    }
    if !is_base64(reader) {
        return Err(reader.fault(r#"a string (BYTES), or `{"b64":"…"}`"#));
    }
    let mut decoded = None;
    reader.object(|reader, key| {
        if key != "b64" || decoded.is_some() {
            return Err(Fault::new("expected nothing beside `b64`"));
        }
        let text = reader.string()?;
        let bytes =
            STANDARD.decode(text.as_bytes()).map_err(|error| Fault::new(format!("expected Base64: {error}")))?;
        decoded = Some(Bytes::from(bytes));
        Ok(())
    })?;
    Ok(decoded.unwrap_or_default())
}

/// Writes the answer to a request of `form`: one output without its name, several with theirs.
///
/// # Errors
///
/// [`InferError::InvalidInput`] when rows were asked for and an output does not have one for each.
pub fn write_response(response: &InferResponse, form: Form) -> Result<Vec<u8>, InferError> {
    let outputs = response.outputs.as_slice();
    let mut out = Vec::with_capacity(64 + outputs.iter().map(room).fold(0, usize::saturating_add));
    match (form, outputs) {
        (Form::Rows(rows), outputs) => {
            if let Some(other) = outputs.iter().find(|output| output.shape.first() != Some(&rows)) {
                return Err(InferError::InvalidInput(format!(
                    "the output `{}` has the shape {:?}, not one row for each of the {rows} instances: ask with `inputs` in place of `instances`",
                    other.name, other.shape
                )));
            }
            out.extend_from_slice(b"{\"predictions\":");
            match outputs {
                [output] => nested(&mut out, &mut Elements::new(output), &output.shape),
                _ => objects(&mut out, outputs, rows),
            }
        }
        (Form::Columns, [output]) => {
            out.extend_from_slice(b"{\"outputs\":");
            nested(&mut out, &mut Elements::new(output), &output.shape);
        }
        (Form::Columns, outputs) => {
            out.extend_from_slice(b"{\"outputs\":");
            object(&mut out, outputs.iter().map(|output| (Elements::new(output), output.shape.as_slice())));
        }
    }
    out.push(b'}');
    Ok(out)
}

/// One object for each row.
fn objects(out: &mut Vec<u8>, outputs: &[Tensor], rows: usize) {
    let mut elements: Vec<Elements<'_>> = outputs.iter().map(Elements::new).collect();
    out.push(b'[');
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        let members = elements.iter_mut().map(|each| {
            let shape = each.tensor.shape.get(1..).unwrap_or_default();
            (each, shape)
        });
        object(out, members);
    }
    out.push(b']');
}

fn object<'t>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (impl std::borrow::BorrowMut<Elements<'t>>, &'t [usize])>,
) {
    out.push(b'{');
    for (index, (mut elements, shape)) in members.enumerate() {
        let elements = elements.borrow_mut();
        if index > 0 {
            out.push(b',');
        }
        write::write_string(out, &elements.tensor.name);
        out.push(b':');
        nested(out, elements, shape);
    }
    out.push(b'}');
}

/// The elements of a tensor that are not written yet.
struct Elements<'t> {
    tensor: &'t Tensor,
    at: usize,
}

impl<'t> Elements<'t> {
    fn new(tensor: &'t Tensor) -> Self {
        Self { tensor, at: 0 }
    }

    /// Writes the next `count`, a comma after each.
    fn next(&mut self, out: &mut Vec<u8>, count: usize) {
        let (from, to) = (self.at, self.at.saturating_add(count));
        self.at = to;
        match &self.tensor.data {
            TensorData::Strings(strings) => {
                for bytes in strings.get(from..to).unwrap_or_default() {
                    string(out, bytes);
                    out.push(b',');
                }
            }
            TensorData::Fixed(bytes) => {
                let size = self.tensor.datatype.size().unwrap_or(1);
                let range = from.saturating_mul(size)..to.saturating_mul(size);
                write::fixed(out, self.tensor.datatype, bytes.get(range).unwrap_or_default());
            }
        }
    }
}

/// Writes the next elements, nested as `shape` says.
fn nested(out: &mut Vec<u8>, elements: &mut Elements<'_>, shape: &[usize]) {
    let Some((&length, inner)) = shape.split_first() else {
        elements.next(out, 1);
        out.pop_if(|last| *last == b',');
        return;
    };
    out.push(b'[');
    if inner.is_empty() {
        elements.next(out, length);
        out.pop_if(|last| *last == b',');
    } else {
        for index in 0..length {
            if index > 0 {
                out.push(b',');
            }
            nested(out, elements, inner);
        }
    }
    out.push(b']');
}

/// Text as text, other bytes as Base64, which is how such bytes are sent.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write::write_string(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"b64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Room for most answers.
fn room(output: &Tensor) -> usize {
    output.data.elements(output.datatype).saturating_mul(12)
}

#[cfg(test)]
mod tests;
