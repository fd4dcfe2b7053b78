//! Counts answers by category, so that two revisions can be compared without keeping an answer: the first row of each output is a
//! class, the place of its greatest value, or the sign and octave of its one value.

use std::sync::atomic::{AtomicU64, Ordering};

use half::{bf16, f16};
use inference::{Datatype, ModelMetadata, Tensor, TensorData};
use resources::digest::{CATEGORIES, OUTPUTS_MAX, OutputCounts};

/// Values of a row that are looked at: as many as classifiers have classes, so that a large output costs no more than they do.
const ROW_VALUES_MAX: usize = 1024;
/// Bytes of a text that are looked at: a label.
const TEXT_BYTES_MAX: usize = 64;
/// Octaves below 1 that have a category of their own, on either side of zero.
const OCTAVES_BELOW: i32 = 16;

/// Counters of a model's outputs. Each is a word of its own: nothing is locked to count.
#[derive(Debug, Default)]
pub struct Digests {
    outputs: Vec<(String, Vec<AtomicU64>)>,
}

impl Digests {
    /// Counters for the first outputs of a model.
    pub fn of(metadata: &ModelMetadata) -> Self {
        let counters = || (0..CATEGORIES).map(|_| AtomicU64::new(0)).collect();
        let outputs = metadata.outputs.iter().take(OUTPUTS_MAX);
        Self { outputs: outputs.map(|output| (output.name.clone(), counters())).collect() }
    }

    /// Counts one answer.
    pub fn count(&self, answer: &[Tensor]) {
        for tensor in answer {
            let counters = self.outputs.iter().find(|(name, _)| *name == tensor.name).map(|(_, counters)| counters);
            if let Some(counters) = counters
                && let Some(counter) = category(tensor).and_then(|category| counters.get(category))
            {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What was counted so far, every output with the categories that something fell into.
    pub fn read(&self) -> Vec<OutputCounts> {
        let output = |(name, counters): &(String, Vec<AtomicU64>)| {
            let counts = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).enumerate();
            OutputCounts { output: name.clone(), counts: counts.filter(|(_, count)| *count > 0).collect() }
        };
        self.outputs.iter().map(output).collect()
    }
}

/// The category of the first row of an output; nothing for one without values.
fn category(tensor: &Tensor) -> Option<usize> {
    let values = tensor.shape.iter().skip(1).fold(1_usize, |product, dim| product.saturating_mul(*dim));
    match &tensor.data {
        TensorData::Strings(texts) => texts.first().map(|text| hash(text)),
        TensorData::Fixed(bytes) => {
            let size = tensor.datatype.size()?;
            let mut row = bytes.chunks_exact(size).take(values.min(ROW_VALUES_MAX));
            if values > 1 { greatest(row, tensor.datatype) } else { single(row.next()?, tensor.datatype) }
        }
    }
}

/// The place of the greatest value, the first one of several; values that are no numbers count as the least.
fn greatest<'a>(row: impl Iterator<Item = &'a [u8]>, datatype: Datatype) -> Option<usize> {
    let mut found: Option<(usize, f64)> = None;
    for (at, bytes) in row.enumerate() {
        let value = number(bytes, datatype)?;
        if found.is_none_or(|(_, most)| value > most || most.is_nan()) {
            found = Some((at, value));
        }
    }
    found.map(|(at, _)| at % CATEGORIES)
}

fn single(bytes: &[u8], datatype: Datatype) -> Option<usize> {
    match datatype {
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => Some(octave(number(bytes, datatype)?)),
        Datatype::Bytes => None,
        // A class: its number, wrapped.
        _ => bytes.first().map(|low| usize::from(*low) % CATEGORIES),
    }
}

/// Sign and octave of a value: 30 octaves on either side of zero, then zero itself, and what is no number.
fn octave(value: f64) -> usize {
    const ZERO: usize = CATEGORIES - 1;
    const NO_NUMBER: usize = CATEGORIES - 2;
    const OCTAVES: usize = NO_NUMBER / 2;
    if value == 0.0 {
        return ZERO;
    }
    if !value.is_finite() {
        return NO_NUMBER;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of a finite number other than 0 has four digits")]
    let exponent = value.abs().log2().floor() as i32;
    let octave = usize::try_from(exponent + OCTAVES_BELOW).unwrap_or(0).min(OCTAVES - 1);
    octave * 2 + usize::from(value < 0.0)
}

/// FNV-1a of the first bytes of a text.
fn hash(text: &[u8]) -> usize {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = text.iter().take(TEXT_BYTES_MAX).fold(0x811c_9dc5, step);
    usize::try_from(hash ^ (hash >> 16)).unwrap_or(0) % CATEGORIES
}

fn number(bytes: &[u8], datatype: Datatype) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "which of two whole numbers beyond 2^53 is greater matters to no category"
    )]
    let value = match datatype {
        Datatype::Bool | Datatype::Uint8 => f64::from(*bytes.first()?),
        Datatype::Int8 => f64::from(i8::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint16 => f64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int16 => f64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint32 => f64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int32 => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint64 => u64::from_le_bytes(bytes.try_into().ok()?) as f64,
        Datatype::Int64 => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        Datatype::Fp16 => f16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        Datatype::Bf16 => bf16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        Datatype::Fp32 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Fp64 => f64::from_le_bytes(bytes.try_into().ok()?),
        Datatype::Bytes => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn tensor(name: &str, datatype: Datatype, shape: &[usize], data: TensorData) -> Tensor {
        Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), parameters: Vec::new(), data }
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        tensor("y", Datatype::Fp32, shape, TensorData::from_vec(values.to_vec()))
    }

    #[test]
    fn a_row_is_its_class_its_greatest_value_or_its_octave() {
        let class = |value: i64| category(&tensor("y", Datatype::Int64, &[2], TensorData::from_vec(vec![value, 9])));
        assert_eq!([class(0), class(2), class(66)], [Some(0), Some(2), Some(2)]);
        assert_eq!(category(&floats(&[2, 3], &[0.1, 0.7, 0.2, 1.0, 0.0, 0.0])), Some(1));
        assert_eq!(category(&floats(&[1, 3], &[f32::NAN, -0.7, -0.2])), Some(2));
        let of = |value: f32| category(&floats(&[1, 1], &[value])).unwrap();
        assert_eq!(of(1.0), of(1.9));
        let apart = [of(0.0), of(1.0), of(-1.0), of(2.0), of(0.4), of(f32::INFINITY), of(1e30), of(1e-30)];
        assert_eq!(apart.iter().collect::<std::collections::BTreeSet<_>>().len(), apart.len());
        assert!(apart.iter().all(|category| *category < CATEGORIES));
        assert_eq!(category(&floats(&[0, 3], &[])), None);
        let text = |text: &'static str| {
            category(&tensor(
                "y",
                Datatype::Bytes,
                &[1],
                TensorData::Strings(vec![Bytes::from_static(text.as_bytes())]),
            ))
        };
        assert_ne!(text("spam"), text("ham"));
        // Of a large row only the beginning is looked at.
        let mut large = vec![0.0; 100_000];
        (large[7], large[90_000]) = (1.0, 2.0);
        assert_eq!(category(&floats(&[1, 100_000], &large)), Some(7));
    }

    #[test]
    fn answers_are_counted_by_output() {
        let spec =
            |name: &str| inference::TensorSpec { name: name.to_owned(), datatype: Datatype::Fp32, shape: vec![-1] };
        let metadata = ModelMetadata {
            name: "m".to_owned(),
            versions: Vec::new(),
            platform: String::new(),
            inputs: Vec::new(),
            outputs: ["y", "b", "c", "d", "e"].map(spec).to_vec(),
        };
        let digests = Digests::of(&metadata);
        assert_eq!(digests.read().len(), OUTPUTS_MAX);
        digests.count(&[
            floats(&[1, 2], &[0.0, 1.0]),
            tensor("e", Datatype::Fp32, &[1], TensorData::from_vec(vec![1_f32])),
        ]);
        digests.count(&[floats(&[1, 2], &[0.0, 1.0])]);
        let read = digests.read();
        assert_eq!((read[0].output.as_str(), &read[0].counts), ("y", &vec![(1, 2)]));
        assert!(read[1..].iter().all(|output| output.counts.is_empty()));
    }
}
