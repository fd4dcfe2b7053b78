//! Golden cases: requests that came with the model, and what it must answer. Pure.

use bytes::Bytes;
use half::{bf16, f16};
use inference::{Datatype, InferError, InferRequest, ModelMetadata, Tensor, TensorData, binary};
use serde::Deserialize;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<FileCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCase {
    #[serde(default)]
    name: Option<String>,
    request: Box<RawValue>,
    response: Box<RawValue>,
    #[serde(default)]
    tolerance: Option<f64>,
}

/// Reads the text of `golden.json`: requests and responses are as the protocol writes them in JSON.
///
/// # Errors
///
/// What is wrong, with the case.
pub fn parse(json: &[u8]) -> Result<Vec<Case>, String> {
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if file.cases.len() > CASES_MAX {
        return Err(format!("it has {} cases: keep at most {CASES_MAX}", file.cases.len()));
    }
    let numbered = file.cases.into_iter().enumerate();
    numbered.map(|(at, case)| read_case(case, at)).collect()
}

fn read_case(case: FileCase, at: usize) -> Result<Case, String> {
    let name = case.name.unwrap_or_else(|| at.to_string());
    let tolerance = case.tolerance.unwrap_or(TOLERANCE);
    if !tolerance.is_finite() || tolerance < 0.0 {
        return Err(format!("case `{name}`: `tolerance` must be zero or more"));
    }
    let wrong = |error: InferError| format!("case `{name}`: {error}");
    let text = |raw: &RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
    let request = binary::read_request(text(&case.request), None, &NO_MODEL).map_err(wrong)?.0;
    let expected = binary::read_response(text(&case.response), None).map_err(wrong)?.outputs;
    Ok(Case { name, request, expected, tolerance })
}

/// A request that is JSON throughout needs no metadata to be read.
const NO_MODEL: ModelMetadata = ModelMetadata {
    name: String::new(),
    versions: Vec::new(),
    platform: String::new(),
    inputs: Vec::new(),
    outputs: Vec::new(),
};

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
pub(crate) fn reader(datatype: Datatype) -> Option<fn(&[u8]) -> f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn case(data: &str, datatype: &str, tolerance: &str) -> Case {
        let json = format!(
            r#"{{"cases":[{{"request":{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[1]}}]}},
            "response":{{"outputs":[{{"name":"y","shape":[2],"datatype":"{datatype}","data":{data}}}]}}{tolerance}}}]}}"#
        );
        parse(json.as_bytes()).unwrap().remove(0)
    }

    fn compared(wanted: (&str, &str), found: (&str, &str)) -> Result<(), String> {
        compare(&case(wanted.0, wanted.1, ""), &case(found.0, found.1, "").expected)
    }

    #[test]
    fn numbers_may_be_off_by_the_tolerance_and_the_rest_not_at_all() {
        assert_eq!(compared(("[1000, 0.5]", "FP32"), ("[1000.09, 0.50009]", "FP32")), Ok(()));
        assert!(compared(("[1000, 0.5]", "FP32"), ("[1000.2, 0.5]", "FP32")).unwrap_err().contains("element 0"));
        assert!(compared(("[0, 0.5]", "FP64"), ("[0, 0.5002]", "FP64")).unwrap_err().contains("element 1"));
        assert_eq!(compared(("[1, 2]", "INT64"), ("[1, 2]", "INT64")), Ok(()));
        assert!(compared(("[1, 2]", "INT64"), ("[1, 3]", "INT64")).is_err());
        assert!(compared(("[\"a\", \"b\"]", "BYTES"), ("[\"a\", \"c\"]", "BYTES")).unwrap_err().contains("element 1"));
        assert!(compared(("[1, 2]", "INT64"), ("[1, 2]", "INT32")).unwrap_err().contains("INT32"));
        let exact = case("[1, 2]", "FP32", ",\"tolerance\":0");
        assert!(compare(&exact, &case("[1, 2.0001]", "FP32", "").expected).is_err());
        assert!(compare(&exact, &[]).unwrap_err().contains("not in the answer"));
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said() {
        for (json, said) in [
            ("{", "EOF"),
            (r#"{"cases":[],"x":1}"#, "unknown field `x`"),
            (r#"{"cases":[{"request":{},"response":{}}]}"#, "case `0`"),
            (r#"{"cases":[{"name":"n","tolerance":-1,"request":{},"response":{}}]}"#, "case `n`: `tolerance`"),
        ] {
            let text = parse(json.as_bytes()).unwrap_err();
            assert!(text.contains(said), "{text}");
        }
    }
}
