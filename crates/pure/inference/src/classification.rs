//! The protocol's classification extension: the highest elements of an output, with their indices and labels.
//!
//! The extension as Triton describes it: `BYTES` elements `value:index` or `value:index:label`.

use std::cmp::Ordering;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{
    Datatype, InferError, InferRequest, InferResponse, Parameter, Tensor, TensorData, json, limits::STRINGS_MAX,
};

/// The parameter of a requested output whose value is the number of classes.
const PARAMETER: &str = "classification";

/// Which outputs are wanted as classes, and how many of them: name and count. Nearly always empty.
///
/// # Errors
///
/// [`InferError::InvalidInput`] when the parameter is not a whole number from 1 on.
pub fn asked(request: &InferRequest) -> Result<Vec<(String, usize)>, InferError> {
    let mut asked = Vec::new();
    for (index, output) in request.outputs.iter().enumerate() {
        let Some((_, value)) = output.parameters.iter().find(|(name, _)| name == PARAMETER) else {
            continue;
        };
        let count = match value {
            Parameter::Int(count) => usize::try_from(*count).ok().filter(|&count| count > 0),
            _ => None,
        };
        let Some(count) = count else {
            return Err(InferError::InvalidInput(format!(
                "`outputs[{index}].parameters.{PARAMETER}`: expected a whole number of classes from 1 on"
            )));
        };
        asked.push((output.name.clone(), count));
    }
    Ok(asked)
}

/// Turns the outputs that were `asked` for as classes into classes; `labels` gives the labels of an output's elements.
///
/// # Errors
///
/// [`InferError::InvalidInput`] for outputs whose elements have no order, [`InferError::TooLarge`] for too many classes.
pub fn apply<'a>(
    response: &mut InferResponse,
    asked: &[(String, usize)],
    labels: impl Fn(&str) -> Option<&'a [String]>,
) -> Result<(), InferError> {
    for (name, count) in asked {
        if let Some(output) = response.outputs.iter_mut().find(|output| output.name == *name) {
            classify(output, *count, labels(name).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn classify(output: &mut Tensor, count: usize, labels: &[String]) -> Result<(), InferError> {
    let total = output.data.elements(output.datatype);
    let (rows, row) = match output.shape.as_slice() {
        [rows, _, ..] => (*rows, total.checked_div(*rows).unwrap_or(0)),
        _ => (1, total),
    };
    let count = count.min(row);
    if rows.saturating_mul(count) > STRINGS_MAX {
        return Err(InferError::TooLarge(format!(
            "`{}` would have {rows} rows of {count} classes, more than {STRINGS_MAX} in all: ask for fewer",
            output.name
        )));
    }
    let elements = match (&output.data, output.datatype) {
        (TensorData::Fixed(bytes), datatype) => top(datatype, bytes, row, count, labels),
        (TensorData::Strings(_), _) => None,
    };
    let Some(elements) = elements else {
        return Err(InferError::InvalidInput(format!(
            "`{}` is {}, whose elements have no highest: ask for it without `{PARAMETER}`",
            output.name, output.datatype
        )));
    };
    output.shape = if output.shape.len() > 1 { vec![rows, count] } else { vec![count] };
    output.datatype = Datatype::Bytes;
    output.data = TensorData::Strings(elements);
    Ok(())
}

/// The classes of every row; `None` for datatypes without an order.
fn top(datatype: Datatype, bytes: &[u8], row: usize, count: usize, labels: &[String]) -> Option<Vec<Bytes>> {
    let wanted = Wanted { row, count, labels };
    Some(match datatype {
        Datatype::Uint8 => wanted.rows(bytes, u8::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Uint16 => wanted.rows(bytes, u16::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Uint32 => wanted.rows(bytes, u32::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Uint64 => wanted.rows(bytes, u64::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Int8 => wanted.rows(bytes, i8::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Int16 => wanted.rows(bytes, i16::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Int32 => wanted.rows(bytes, i32::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Int64 => wanted.rows(bytes, i64::from_le_bytes, Ord::cmp, json::whole),
        Datatype::Fp16 => {
            wanted.rows(bytes, |element| f16::from_le_bytes(element).to_f32(), nan_lowest, json::plain_float)
        }
        Datatype::Bf16 => {
            wanted.rows(bytes, |element| bf16::from_le_bytes(element).to_f32(), nan_lowest, json::plain_float)
        }
        Datatype::Fp32 => wanted.rows(bytes, f32::from_le_bytes, nan_lowest, json::plain_float),
        Datatype::Fp64 => wanted.rows(bytes, f64::from_le_bytes, nan_lowest, json::plain_float),
        Datatype::Bool | Datatype::Bytes => return None,
    })
}

fn nan_lowest<T: PartialOrd>(left: &T, right: &T) -> Ordering {
    // Only NaN does not equal itself.
    let number = |value: &T| value.partial_cmp(value).is_some();
    left.partial_cmp(right).unwrap_or_else(|| number(left).cmp(&number(right)))
}

struct Wanted<'a> {
    row: usize,
    count: usize,
    labels: &'a [String],
}

impl Wanted<'_> {
    fn rows<T: Copy, const N: usize>(
        &self,
        bytes: &[u8],
        read: fn([u8; N]) -> T,
        order: fn(&T, &T) -> Ordering,
        write: fn(&mut Vec<u8>, T),
    ) -> Vec<Bytes> {
        let (elements, _) = bytes.as_chunks::<N>();
        let mut classes = Vec::new();
        for row in elements.chunks(self.row.max(1)) {
            let mut ranked: Vec<(usize, T)> = row.iter().map(|&element| read(element)).enumerate().collect();
            ranked.sort_unstable_by(|left, right| order(&right.1, &left.1).then(left.0.cmp(&right.0)));
            for (index, value) in ranked.into_iter().take(self.count) {
                let mut text = Vec::with_capacity(32);
                write(&mut text, value);
                self.name(&mut text, index);
                classes.push(text.into());
            }
        }
        classes
    }

    fn name(&self, text: &mut Vec<u8>, index: usize) {
        text.push(b':');
        json::whole(text, index);
        if let Some(label) = self.labels.get(index) {
            text.push(b':');
            text.extend_from_slice(label.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
