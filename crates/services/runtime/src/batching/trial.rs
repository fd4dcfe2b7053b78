//! Whether a model answers joined rows as it answers them one by one. Pure but for the model it is given to run.
//!
//! A variable first dimension alone says little: it may be a sequence, and a model may mix its rows (a mean over the batch,
//! a scale of quantisation found over the whole input). Only a run with different rows shows it.

use bytes::Bytes;
use half::{bf16, f16};
use inference::{Datatype, InferError, InferRequest, Tensor, TensorData};

use super::join::{Signature, split};
use crate::load::golden;

/// How far a number may be from the one that its row alone gave, relative to the largest of its row: kernels for more rows
/// add up in another order.
const TOLERANCE: f64 = 1e-5;

/// Rows that are joined: one, two and three take different ways through the kernels.
const ROWS: usize = 3;

/// Rows of samples that are looked at for different ones.
const SAMPLE_ROWS_MAX: usize = 64;

/// Why requests are not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The joined rows were answered otherwise.
    Differs(String),
    /// No different rows are known that the model answers.
    NotTried(String),
}

/// Runs rows of `samples`, or rows made up from them, by themselves and joined.
///
/// # Errors
///
/// [`Doubt`], with the reason in words.
pub fn examine(
    mut run: impl FnMut(&InferRequest) -> Result<Vec<Tensor>, InferError>,
    signature: &Signature,
    samples: &[InferRequest],
) -> Result<(), Doubt> {
    let mut refused = None;
    for rows in candidates(signature, samples) {
        let mut alone = Vec::with_capacity(rows.len());
        for row in &rows {
            match run(row) {
                Ok(outputs) => alone.push(outputs),
                Err(error) => drop(refused.get_or_insert(error.to_string())),
            }
        }
        if alone.len() == rows.len() {
            return (2..=rows.len()).try_for_each(|count| {
                let rows = rows.get(..count).unwrap_or_default();
                compare_joined(&mut run, signature, rows, &alone).map_err(Doubt::Differs)
            });
        }
    }
    Err(Doubt::NotTried(refused.unwrap_or_else(|| "no two different rows are known".to_owned())))
}

fn compare_joined(
    mut run: impl FnMut(&InferRequest) -> Result<Vec<Tensor>, InferError>,
    signature: &Signature,
    rows: &[InferRequest],
    alone: &[Vec<Tensor>],
) -> Result<(), String> {
    let joined = signature.join(&rows.iter().collect::<Vec<_>>()).ok_or("its rows cannot be joined")?;
    let outputs = run(&joined).map_err(|error| format!("{} joined rows failed: {error}", rows.len()))?;
    let uneven = || format!("{} joined rows gave another number of rows", rows.len());
    let parts = split(outputs, &vec![1; rows.len()]).ok_or_else(uneven)?;
    for (alone, part) in alone.iter().zip(&parts) {
        if alone.len() != part.len() {
            return Err(uneven());
        }
        for (alone, part) in alone.iter().zip(part) {
            compare(alone, part)?;
        }
    }
    Ok(())
}

/// Whether two runs on the same row say the same, but for the order in which kernels add up.
///
/// # Errors
///
/// The first difference, in words.
pub fn compare(alone: &Tensor, joined: &Tensor) -> Result<(), String> {
    let name = &alone.name;
    if (&alone.name, alone.datatype, &alone.shape) != (&joined.name, joined.datatype, &joined.shape) {
        return Err(format!("output `{name}` has the shape {:?} alone, {:?} joined", alone.shape, joined.shape));
    }
    let (Some(read), TensorData::Fixed(wanted), TensorData::Fixed(found)) =
        (golden::reader(alone.datatype), &alone.data, &joined.data)
    else {
        // Whole numbers, booleans and texts are equal or wrong.
        return if alone.data == joined.data { Ok(()) } else { Err(format!("output `{name}` differs when joined")) };
    };
    let size = alone.datatype.size().unwrap_or(1);
    let numbers = |bytes: &Bytes| bytes.chunks_exact(size).map(read).collect::<Vec<f64>>();
    let (wanted, found) = (numbers(wanted), numbers(found));
    let largest = wanted.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let off = largest * tolerance(alone.datatype);
    let same =
        |wanted: f64, found: f64| wanted == found || wanted.is_nan() && found.is_nan() || (wanted - found).abs() <= off;
    match wanted.iter().zip(&found).find(|(wanted, found)| !same(**wanted, **found)) {
        Some((wanted, found)) => Err(format!("output `{name}` is {wanted} for a row alone, {found} for it joined")),
        None => Ok(()),
    }
}

/// [`TOLERANCE`], or the last place of datatypes that are not that fine.
fn tolerance(datatype: Datatype) -> f64 {
    match datatype {
        Datatype::Fp16 => f16::EPSILON.to_f64(),
        Datatype::Bf16 => bf16::EPSILON.to_f64(),
        _ => TOLERANCE,
    }
}

/// Sets of different rows to try: real ones, then real ones changed.
fn candidates(signature: &Signature, samples: &[InferRequest]) -> Vec<Vec<InferRequest>> {
    let mut real: Vec<InferRequest> = Vec::new();
    let group = samples.first().and_then(|sample| signature.group(sample));
    let alike = samples.iter().filter(|sample| group.is_some() && signature.group(sample) == group);
    for row in alike.flat_map(|sample| rows(signature, sample)).take(SAMPLE_ROWS_MAX) {
        if real.len() < ROWS && !real.contains(&row) {
            real.push(row);
        }
    }
    let Some(first) = real.first() else { return Vec::new() };
    let changed: Vec<InferRequest> = (0..ROWS).map(|seed| change(first, seed)).collect();
    let mut candidates = Vec::new();
    if let [a, b, rest @ ..] = real.as_slice() {
        candidates.push(vec![a.clone(), b.clone(), rest.first().unwrap_or(a).clone()]);
    }
    if let [a, b, ..] = changed.as_slice()
        && a != b
    {
        candidates.push(changed);
    }
    candidates
}

/// Every row of `request` as a request of all outputs.
fn rows(signature: &Signature, request: &InferRequest) -> Vec<InferRequest> {
    let count = request.inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0);
    let count = if signature.group(request).is_some() { count.min(SAMPLE_ROWS_MAX) } else { 0 };
    let total = request.inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0);
    let sizes: Vec<usize> = std::iter::repeat_n(1, count).chain((total > count).then(|| total - count)).collect();
    let parts = split(request.inputs.clone(), &sizes).unwrap_or_default();
    parts.into_iter().take(count).map(|inputs| InferRequest { inputs, ..InferRequest::default() }).collect()
}

/// The row with other values of the same kind. Numbers grow with `seed`, so that a scale that the rows share shows.
fn change(row: &InferRequest, seed: usize) -> InferRequest {
    let inputs = row.inputs.iter().map(|input| Tensor { data: change_data(input, seed), ..input.clone() }).collect();
    InferRequest { inputs, ..InferRequest::default() }
}

fn change_data(input: &Tensor, seed: usize) -> TensorData {
    let bytes = match &input.data {
        TensorData::Strings(strings) => return TensorData::Strings(change_strings(strings, seed)),
        TensorData::Fixed(bytes) => bytes,
    };
    let size = input.datatype.size().unwrap_or(1);
    let elements = bytes.chunks_exact(size);
    if let Some(read) = golden::reader(input.datatype) {
        let values = elements.map(read).enumerate().map(|(at, value)| number(value, at, seed));
        return TensorData::Fixed(values.flat_map(|value| written(input.datatype, value)).collect::<Vec<u8>>().into());
    }
    let first = elements.clone().next().unwrap_or_default();
    if elements.clone().all(|element| element == first) {
        // Zeros and ones, which are valid as categories, tokens, masks and booleans.
        let bit = |at: usize| u8::from((at + seed) % 2 == 1);
        let element = |at: usize| std::iter::once(bit(at)).chain(std::iter::repeat_n(0, size.saturating_sub(1)));
        return TensorData::Fixed((0..elements.len()).flat_map(element).collect::<Vec<u8>>().into());
    }
    // The values that are there are valid, wherever they stand.
    let mut turned = bytes.to_vec();
    turned.rotate_left((seed * size) % bytes.len().max(1));
    TensorData::Fixed(turned.into())
}

fn change_strings(strings: &[Bytes], seed: usize) -> Vec<Bytes> {
    let text =
        |text: &Bytes| if seed == 0 { text.clone() } else { [text, "a".repeat(seed).as_bytes()].concat().into() };
    strings.iter().map(text).collect()
}

#[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
fn number(value: f64, at: usize, seed: usize) -> f64 {
    let (seed, step) = (seed as f64, ((at * 7 + seed * 3) % 11) as f64);
    value * (1.0 + seed / 2.0) + (seed + 1.0) * step / 11.0
}

fn written(datatype: Datatype, value: f64) -> Vec<u8> {
    match datatype {
        Datatype::Fp16 => f16::from_f64(value).to_le_bytes().to_vec(),
        Datatype::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        #[expect(clippy::cast_possible_truncation, reason = "what an FP32 holds")]
        Datatype::Fp32 => (value as f32).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests;
