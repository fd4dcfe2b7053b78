//! Makes one vector of a model's output (as Sentence Transformers' `Pooling` and `Normalize` do), without padding in it.

use half::f16;

use super::settings::Pooling;
use crate::{Datatype, InferError, Tensor, TensorData};

/// Shortest length that a vector is divided by, as in PyTorch's `normalize`.
const LENGTH_MIN: f64 = 1e-12;

/// The vector of the one input that `output` is of: `[1, tokens, dimensions]`, which are pooled, or `[1, dimensions]`.
///
/// # Errors
///
/// [`InferError::Internal`] when the output has another shape or datatype, or numbers that are not finite.
pub fn vector(output: &Tensor, pooling: Pooling, normalise: bool) -> Result<Vec<f32>, InferError> {
    let wrong = || {
        InferError::Internal(format!(
            "output `{}` is {} of shape {:?}, not one sequence of vectors",
            output.name, output.datatype, output.shape
        ))
    };
    let numbers = floats(output).ok_or_else(wrong)?;
    let (tokens, dimensions) = match *output.shape {
        [1, tokens, dimensions] => (tokens, dimensions),
        [1, dimensions] => (1, dimensions),
        _ => return Err(wrong()),
    };
    if tokens == 0 || dimensions == 0 || tokens.checked_mul(dimensions) != Some(numbers.len()) {
        return Err(wrong());
    }
    let mut rows = numbers.chunks_exact(dimensions);
    let pooled = match pooling {
        Pooling::Mean => mean(rows, tokens, dimensions),
        Pooling::Cls => rows.next().unwrap_or_default().to_vec(),
        Pooling::Last => rows.next_back().unwrap_or_default().to_vec(),
        Pooling::Max => maximum(rows, dimensions),
    };
    let vector = if normalise { normalised(pooled) } else { pooled };
    if vector.iter().all(|number| number.is_finite()) {
        return Ok(vector);
    }
    Err(InferError::Internal(format!("output `{}` has numbers that are not finite", output.name)))
}

fn floats(output: &Tensor) -> Option<Vec<f32>> {
    let TensorData::Fixed(bytes) = &output.data else { return None };
    match output.datatype {
        Datatype::Fp32 => Some(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()),
        Datatype::Fp16 => Some(bytes.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect()),
        _ => None,
    }
}

/// Summed up in 64 bits, so that the order of the sum does not show.
#[expect(clippy::cast_possible_truncation, reason = "the result has the precision of the model's output")]
#[expect(clippy::cast_precision_loss, reason = "an input has fewer than 2^53 tokens")]
fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, tokens: usize, dimensions: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dimensions];
    for row in rows {
        for (sum, number) in sums.iter_mut().zip(row) {
            *sum += f64::from(*number);
        }
    }
    sums.into_iter().map(|sum| (sum / tokens as f64) as f32).collect()
}

fn maximum<'a>(rows: impl Iterator<Item = &'a [f32]>, dimensions: usize) -> Vec<f32> {
    let mut most = vec![f32::NEG_INFINITY; dimensions];
    for row in rows {
        for (most, number) in most.iter_mut().zip(row) {
            *most = most.max(*number);
        }
    }
    most
}

/// The vector with length one.
#[expect(clippy::cast_possible_truncation, reason = "the result has the precision of the model's output")]
pub fn normalised(vector: Vec<f32>) -> Vec<f32> {
    let squares: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
    let length = squares.sqrt().max(LENGTH_MIN);
    vector.into_iter().map(|number| (f64::from(number) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn output(shape: &[usize], numbers: &[f32]) -> Tensor {
        let data = TensorData::Fixed(Bytes::from(numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()));
        Tensor { name: "y".into(), datatype: Datatype::Fp32, shape: shape.to_vec(), parameters: Vec::new(), data }
    }

    #[test]
    fn each_way_of_pooling() {
        let tokens = output(&[1, 3, 2], &[1.0, -2.0, 5.0, 4.0, 3.0, 1.0]);
        for (pooling, wanted) in [
            (Pooling::Mean, [3.0, 1.0]),
            (Pooling::Cls, [1.0, -2.0]),
            (Pooling::Max, [5.0, 4.0]),
            (Pooling::Last, [3.0, 1.0]),
        ] {
            assert_eq!(vector(&tokens, pooling, false).unwrap(), wanted, "{pooling:?}");
        }
        assert_eq!(vector(&output(&[1, 2], &[3.0, 4.0]), Pooling::Mean, true).unwrap(), [0.6, 0.8]);
        assert_eq!(vector(&output(&[1, 2], &[0.0, 0.0]), Pooling::Cls, true).unwrap(), [0.0, 0.0]);
        let halves = [f16::from_f32(0.5).to_le_bytes(), f16::from_f32(-2.0).to_le_bytes()].concat();
        let halves =
            Tensor { datatype: Datatype::Fp16, data: TensorData::Fixed(halves.into()), ..output(&[1, 2], &[]) };
        assert_eq!(vector(&halves, Pooling::Mean, false).unwrap(), [0.5, -2.0]);
    }

    #[test]
    fn another_shape_is_refused() {
        for (shape, numbers) in
            [(&[2, 1][..], &[1.0, 2.0][..]), (&[2], &[1.0, 2.0]), (&[1, 0, 2], &[]), (&[1, 3], &[1.0])]
        {
            assert!(vector(&output(shape, numbers), Pooling::Mean, true).is_err(), "{shape:?}");
        }
        for number in [f32::NAN, f32::INFINITY] {
            assert!(vector(&output(&[1, 2], &[1.0, number]), Pooling::Cls, false).is_err(), "{number}");
        }
        let texts = Tensor { datatype: Datatype::Int64, ..output(&[1, 2], &[1.0; 4]) };
        assert!(vector(&texts, Pooling::Mean, true).is_err());
    }
}
