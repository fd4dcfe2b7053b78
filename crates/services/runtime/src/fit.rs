//! Whether a request fits the model: pure, so that what does not fit never waits in a queue.

use inference::{InferError, InferRequest, ModelMetadata, Tensor, TensorData, TensorSpec};

/// Checks names, datatypes and shapes of `request` against `metadata`.
///
/// # Errors
///
/// [`InferError::InvalidInput`] names the first thing that is wrong and what would be right.
pub fn check(metadata: &ModelMetadata, request: &InferRequest) -> Result<(), InferError> {
    for (at, tensor) in request.inputs.iter().enumerate() {
        let Some(spec) = metadata.inputs.iter().find(|spec| spec.name == tensor.name) else {
            let known = names(metadata.inputs.iter().map(|spec| spec.name.as_str()));
            return invalid(format!("the model has no input `{}`: its inputs are {known}", tensor.name));
        };
        if request.inputs.iter().take(at).any(|earlier| earlier.name == tensor.name) {
            return invalid(format!("input `{}` is given twice", tensor.name));
        }
        check_tensor(spec, tensor)?;
    }
    let missing = |spec: &&TensorSpec| !request.inputs.iter().any(|tensor| tensor.name == spec.name);
    if let Some(spec) = metadata.inputs.iter().find(missing) {
        return invalid(format!("input `{}` ({} {:?}) is missing", spec.name, spec.datatype, spec.shape));
    }
    for (at, wanted) in request.outputs.iter().enumerate() {
        if !metadata.outputs.iter().any(|spec| spec.name == wanted.name) {
            let known = names(metadata.outputs.iter().map(|spec| spec.name.as_str()));
            return invalid(format!("the model has no output `{}`: its outputs are {known}", wanted.name));
        }
        if request.outputs.iter().take(at).any(|earlier| earlier.name == wanted.name) {
            return invalid(format!("output `{}` is asked for twice", wanted.name));
        }
    }
    Ok(())
}

/// How many inferences a request counts for: the size of a variable first dimension, else one.
pub fn batch_size(metadata: &ModelMetadata, request: &InferRequest) -> u64 {
    let variable = metadata.inputs.first().filter(|spec| spec.shape.first() == Some(&-1));
    let tensor = variable.and_then(|spec| request.inputs.iter().find(|tensor| tensor.name == spec.name));
    let size = tensor.and_then(|tensor| tensor.shape.first()).copied().unwrap_or(1);
    u64::try_from(size).unwrap_or(1)
}

/// Bytes of the elements of `request`: what it makes the process hold, and a measure of its work.
pub fn bytes(request: &InferRequest) -> usize {
    let of = |tensor: &Tensor| match &tensor.data {
        TensorData::Fixed(bytes) => bytes.len(),
        TensorData::Strings(strings) => strings.iter().map(|string| string.len() + size_of_val(string)).sum(),
    };
    request.inputs.iter().map(of).fold(0, usize::saturating_add)
}

fn check_tensor(spec: &TensorSpec, tensor: &Tensor) -> Result<(), InferError> {
    let name = &spec.name;
    if spec.datatype != tensor.datatype {
        return invalid(format!("input `{name}` is {}, the model takes {}", tensor.datatype, spec.datatype));
    }
    let fits = |(wanted, given): (&i64, &usize)| *wanted < 0 || i64::try_from(*given) == Ok(*wanted);
    if spec.shape.len() != tensor.shape.len() || !spec.shape.iter().zip(&tensor.shape).all(fits) {
        return invalid(format!(
            "input `{name}` has the shape {:?}, the model takes {:?} (-1 is any size)",
            tensor.shape, spec.shape
        ));
    }
    let elements = tensor.shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let given = match (&tensor.data, tensor.datatype.size()) {
        (TensorData::Fixed(bytes), Some(size)) => (bytes.len() % size == 0).then(|| bytes.len() / size),
        (TensorData::Strings(strings), None) => Some(strings.len()),
        _ => None,
    };
    if elements.is_none() || elements != given {
        return invalid(format!("input `{name}` does not have as many elements as its shape {:?} says", tensor.shape));
    }
    Ok(())
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn invalid<T>(text: String) -> Result<T, InferError> {
    Err(InferError::InvalidInput(text))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inference::{Datatype, RequestedOutput};

    use super::*;

    fn metadata() -> ModelMetadata {
        let spec =
            |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.into(), datatype, shape: shape.into() };
        ModelMetadata {
            name: "m".into(),
            versions: vec!["1".into()],
            platform: String::new(),
            inputs: vec![spec("x", Datatype::Fp32, &[-1, 2]), spec("s", Datatype::Bytes, &[1])],
            outputs: vec![spec("y", Datatype::Fp32, &[-1])],
        }
    }

    fn request() -> InferRequest {
        let tensor = |name: &str, datatype, shape: &[usize], data| Tensor {
            name: name.into(),
            datatype,
            shape: shape.into(),
            parameters: vec![],
            data,
        };
        let inputs = vec![
            tensor("x", Datatype::Fp32, &[3, 2], TensorData::Fixed(Bytes::from(vec![0; 24]))),
            tensor("s", Datatype::Bytes, &[1], TensorData::Strings(vec![Bytes::from("a")])),
        ];
        InferRequest { inputs, ..InferRequest::default() }
    }

    fn said(request: &InferRequest) -> String {
        check(&metadata(), request).unwrap_err().to_string()
    }

    #[test]
    fn a_fitting_request_passes() {
        assert_eq!(check(&metadata(), &request()), Ok(()));
        assert_eq!(batch_size(&metadata(), &request()), 3);
        assert!(bytes(&request()) > 24);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut wrong = request();
        wrong.inputs[0].name = "z".into();
        assert_eq!(said(&wrong), "the model has no input `z`: its inputs are `x`, `s`");
        let mut wrong = request();
        wrong.inputs.pop();
        assert_eq!(said(&wrong), "input `s` (BYTES [1]) is missing");
        let mut wrong = request();
        wrong.inputs.push(wrong.inputs[0].clone());
        assert_eq!(said(&wrong), "input `x` is given twice");
        let mut wrong = request();
        wrong.inputs[0].datatype = Datatype::Int32;
        assert_eq!(said(&wrong), "input `x` is INT32, the model takes FP32");
        for shape in [vec![3, 3], vec![6], vec![]] {
            let mut wrong = request();
            wrong.inputs[0].shape = shape;
            assert!(said(&wrong).contains("the model takes [-1, 2]"));
        }
        for shape in [vec![4, 2], vec![usize::MAX, 2]] {
            let mut wrong = request();
            wrong.inputs[0].shape = shape;
            assert!(said(&wrong).contains("as many elements"));
        }
        let mut wrong = request();
        wrong.outputs = vec![RequestedOutput { name: "q".into(), parameters: vec![] }];
        assert_eq!(said(&wrong), "the model has no output `q`: its outputs are `y`");
        wrong.outputs = vec![RequestedOutput { name: "y".into(), parameters: vec![] }; 2];
        assert_eq!(said(&wrong), "output `y` is asked for twice");
    }
}
