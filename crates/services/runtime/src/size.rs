//! How big a request is, as counters, queues and placement measure it. Pure.

use inference::{InferRequest, ModelMetadata, Tensor, TensorData, TensorSpec};

/// How many inferences a request counts for: the size of a variable first dimension, else one.
pub fn batch(metadata: &ModelMetadata, request: &InferRequest) -> u64 {
    let variable = metadata.inputs.first().filter(|spec| spec.shape.first() == Some(&-1));
    let tensor = variable.and_then(|spec| request.inputs.iter().find(|tensor| tensor.name == spec.name));
    let size = tensor.and_then(|tensor| tensor.shape.first()).copied().unwrap_or(1);
    u64::try_from(size).unwrap_or(1)
}

/// Bytes of the elements of `request`: what it makes the process hold, and a measure of its work.
pub fn bytes(request: &InferRequest) -> usize {
    request.inputs.iter().map(tensor_bytes).fold(0, usize::saturating_add)
}

/// Bytes of the elements of `tensor`, with the handle of each string.
pub fn tensor_bytes(tensor: &Tensor) -> usize {
    match &tensor.data {
        TensorData::Fixed(bytes) => bytes.len(),
        TensorData::Strings(strings) => strings.iter().map(|string| string.len() + size_of_val(string)).sum(),
    }
}

/// Whether the size of an input varies with the batch alone.
pub fn is_known_but_batch(spec: &TensorSpec) -> bool {
    spec.datatype.size().is_some() && spec.shape.iter().skip(1).all(|dim| *dim >= 0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inference::Datatype;

    use super::*;

    #[test]
    fn a_batch_is_what_varies_first() {
        let data = TensorData::Fixed(Bytes::from(vec![0; 24]));
        let x = Tensor { name: "x".into(), datatype: Datatype::Fp32, shape: vec![3, 2], parameters: vec![], data };
        let data = TensorData::Strings(vec![Bytes::from("a"), Bytes::new()]);
        let s = Tensor { name: "s".into(), datatype: Datatype::Bytes, shape: vec![2], parameters: vec![], data };
        let request = InferRequest { inputs: vec![s, x], ..InferRequest::default() };
        let metadata = |dims: &[i64]| ModelMetadata {
            name: "m".into(),
            versions: vec![],
            platform: String::new(),
            inputs: vec![TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: dims.into() }],
            outputs: vec![],
        };
        assert_eq!(batch(&metadata(&[-1, 2]), &request), 3);
        assert_eq!(batch(&metadata(&[3, 2]), &request), 1);
        assert!(is_known_but_batch(&metadata(&[-1, 2]).inputs[0]));
        assert!(!is_known_but_batch(&metadata(&[-1, -1]).inputs[0]));
        assert_eq!(bytes(&request), 24 + 1 + 2 * size_of::<Bytes>());
    }
}
