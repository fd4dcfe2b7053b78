//! Golden cases: requests that came with the model, and what it must answer. Pure.

use half::{bf16, f16};
use inference::{Datatype, InferRequest, Tensor, TensorData};

/// How far a number may be from the expected one, relative to it when it is above one, when the case does not say.
pub const TOLERANCE: f64 = 1e-4;

/// Most golden cases: they run at every start.
pub const CASES_MAX: usize = 1024;

/// One case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name, or its place.
    pub name: String,
    /// What is asked.
    pub request: InferRequest,
    /// The outputs that must be in the answer.
    pub expected: Vec<Tensor>,
    /// How far numbers may be off.
    pub tolerance: f64,
}

/// Compares `answered` with the expected outputs of `case`.
///
/// # Errors
///
/// The first difference, in words.
pub fn compare(case: &Case, answered: &[Tensor]) -> Result<(), String> {
    for expected in &case.expected {
        let name = &expected.name;
        let Some(got) = answered.iter().find(|tensor| tensor.name == *name) else {
            return Err(format!("output `{name}` is not in the answer"));
        };
        if got.datatype != expected.datatype {
            return Err(format!("output `{name}` is {}, expected {}", got.datatype, expected.datatype));
        }
        if got.shape != expected.shape {
            return Err(format!("output `{name}` has the shape {:?}, expected {:?}", got.shape, expected.shape));
        }
        compare_elements(expected, got, case.tolerance)?;
    }
    Ok(())
}

fn compare_elements(expected: &Tensor, got: &Tensor, tolerance: f64) -> Result<(), String> {
    let (wanted, found) = match (&expected.data, &got.data) {
        (TensorData::Fixed(wanted), TensorData::Fixed(found)) => (wanted, found),
        (TensorData::Strings(wanted), TensorData::Strings(found)) => {
            return match wanted.iter().zip(found).position(|(wanted, found)| wanted != found) {
                None if wanted.len() == found.len() => Ok(()),
                at => Err(format!("output `{}` differs at element {}", expected.name, at.unwrap_or(0))),
            };
        }
        _ => return Err(format!("output `{}` has elements of another kind", expected.name)),
    };
    let Some(read) = reader(expected.datatype) else {
        // Whole numbers and booleans are equal or wrong.
        if wanted == found {
            return Ok(());
        }
        return Err(format!("output `{}` differs", expected.name));
    };
    let size = expected.datatype.size().unwrap_or(1);
    let pairs = wanted.chunks_exact(size).zip(found.chunks_exact(size));
    for (at, (wanted, found)) in pairs.enumerate() {
        let (wanted, found) = (read(wanted), read(found));
        if !close(wanted, found, tolerance) {
            return Err(format!(
                "output `{}` is {found} at element {at}, expected {wanted} within {tolerance}",
                expected.name
            ));
        }
    }
    Ok(())
}

fn close(wanted: f64, found: f64, tolerance: f64) -> bool {
    let same = wanted == found || wanted.is_nan() && found.is_nan();
    same || (wanted - found).abs() <= tolerance * wanted.abs().max(1.0)
}

/// Reads one little-endian element of a datatype with fractions.
fn reader(datatype: Datatype) -> Option<fn(&[u8]) -> f64> {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0xff; N])
    }
    match datatype {
        Datatype::Fp16 => Some(|bytes| f16::from_le_bytes(array(bytes)).to_f64()),
        Datatype::Bf16 => Some(|bytes| bf16::from_le_bytes(array(bytes)).to_f64()),
        Datatype::Fp32 => Some(|bytes| f32::from_le_bytes(array(bytes)).into()),
        Datatype::Fp64 => Some(|bytes| f64::from_le_bytes(array(bytes))),
        _ => None,
    }
}
