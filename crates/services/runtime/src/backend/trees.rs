//! Trees of XGBoost and LightGBM, evaluated in this process by Berth's own code.

use std::{sync::Arc, time::Instant};

use inference::{
    Datatype, InferError, InferRequest, Tensor, TensorData, TensorSpec,
    trees::{Ensemble, Task},
};

use super::{Backend, Ran};

#[cfg(test)]
pub(crate) mod tests;

/// Bytes of the outputs of one request: a small request could otherwise ask a model of many classes for more than there is.
const OUTPUT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// One session of a model of trees. The trees are shared, so that a session costs next to nothing.
#[derive(Debug)]
pub struct TreesBackend {
    model: Arc<Ensemble>,
    /// Sums of one row.
    sums: Vec<f64>,
    /// The answer for one row.
    out: Vec<f64>,
}

/// The answers for all rows.
struct Answers {
    labels: Vec<i64>,
    values: Vec<f64>,
}

impl TreesBackend {
    /// A session of `model`.
    pub fn new(model: Arc<Ensemble>) -> Self {
        let (sums, out) = (model.scratch(), vec![0.0; model.outputs()]);
        Self { model, sums, out }
    }

    /// Row by row: there is nothing to gain from doing several at a time.
    fn answer(&mut self, features: &[f64], rows: usize) -> Answers {
        let classes = self.model.task() != Task::Regression;
        let mut answers = Answers { labels: Vec::new(), values: Vec::with_capacity(rows * self.out.len()) };
        for row in features.chunks_exact(self.model.features()).take(rows) {
            self.model.predict(row, &mut self.sums, &mut self.out);
            answers.values.extend_from_slice(&self.out);
            if classes {
                answers.labels.push(highest(&self.out));
            }
        }
        answers
    }

    fn output(&self, spec: &TensorSpec, rows: usize, answers: &Answers) -> Tensor {
        let data = match spec.datatype {
            Datatype::Int64 => TensorData::from_vec(answers.labels.clone()),
            Datatype::Fp32 => TensorData::from_vec(answers.values.iter().map(|value| narrow(*value)).collect()),
            _ => TensorData::from_vec(answers.values.clone()),
        };
        let columns = if spec.shape.len() > 1 { Some(self.out.len()) } else { None };
        let shape = [rows].into_iter().chain(columns).collect();
        Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, parameters: Vec::new(), data }
    }
}

impl Backend for TreesBackend {
    fn run(&mut self, request: &InferRequest) -> Result<Ran, InferError> {
        let begun = Instant::now();
        let Some(input) = request.inputs.first() else {
            return Err(InferError::InvalidInput("the request has no input".to_owned()));
        };
        let rows = input.shape.first().copied().unwrap_or_default();
        let bytes = rows.checked_mul(self.out.len() + 1).and_then(|elements| elements.checked_mul(size_of::<f64>()));
        if bytes.is_none_or(|bytes| bytes > OUTPUT_BYTES_MAX) {
            return Err(InferError::TooLarge(format!(
                "the answer for {rows} rows would have more than {} MiB: ask for fewer at a time",
                OUTPUT_BYTES_MAX >> 20
            )));
        }
        let features = features(input)?;
        let read = Instant::now();
        let answers = self.answer(&features, rows);
        let ran = Instant::now();
        let specs = self.model.output();
        let wanted: Vec<&TensorSpec> = match request.outputs.as_slice() {
            [] => specs.iter().collect(),
            some => some.iter().filter_map(|one| specs.iter().find(|spec| spec.name == one.name)).collect(),
        };
        let outputs = wanted.into_iter().map(|spec| self.output(spec, rows, &answers)).collect();
        Ok(Ran { outputs, input: read - begun, infer: ran - read, output: ran.elapsed() })
    }
}

/// The elements of the input, which may be unaligned.
fn features(input: &Tensor) -> Result<Vec<f64>, InferError> {
    match (&input.data, input.datatype) {
        (TensorData::Fixed(bytes), Datatype::Fp32) => {
            let (elements, _) = bytes.as_chunks();
            Ok(elements.iter().map(|element| f64::from(f32::from_le_bytes(*element))).collect())
        }
        (TensorData::Fixed(bytes), Datatype::Fp64) => {
            let (elements, _) = bytes.as_chunks();
            Ok(elements.iter().map(|element| f64::from_le_bytes(*element)).collect())
        }
        _ => Err(InferError::InvalidInput(format!("input `{}` is not of floating-point numbers", input.name))),
    }
}

/// The class of the highest probability, the first of equals.
fn highest(probabilities: &[f64]) -> i64 {
    let (mut best, mut highest) = (0, f64::NEG_INFINITY);
    for (class, probability) in (0_i64..).zip(probabilities) {
        if *probability > highest {
            (best, highest) = (class, *probability);
        }
    }
    best
}

#[expect(clippy::cast_possible_truncation, reason = "XGBoost's values are 32-bit; f64 only carries them")]
fn narrow(value: f64) -> f32 {
    value as f32
}
