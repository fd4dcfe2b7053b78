//! Inputs made up to try a model with. Pure.

use bytes::Bytes;
use inference::{InferRequest, Tensor, TensorData, TensorSpec, tensor::elements};

use crate::size;

/// Sizes tried for variable dimensions: one, a small batch, what an 8-fold pooling needs, and usual image sizes.
const SIZES: [usize; 5] = [1, 2, 8, 32, 224];

/// Most bytes of made-up inputs: trying a model must not take the memory that serving it needs.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests to try, from the smallest. Variable first dimensions are one (a batch), then like the others.
pub fn requests(inputs: &[TensorSpec]) -> Vec<InferRequest> {
    let alone = SIZES.map(|size| (1, size));
    let together = SIZES.map(|size| (size, size));
    let mut shapes_tried: Vec<Vec<Vec<usize>>> = Vec::new();
    let mut requests = Vec::new();
    for (batch, size) in alone.into_iter().chain(together) {
        let shapes: Vec<_> = inputs.iter().map(|spec| shape(spec, batch, size)).collect();
        if shapes_tried.contains(&shapes) {
            continue;
        }
        let made = inputs.iter().zip(&shapes).map(|(spec, shape)| tensor(spec, shape)).collect::<Option<Vec<_>>>();
        shapes_tried.push(shapes);
        let fits = |tensors: &Vec<Tensor>| tensors.iter().map(size::tensor_bytes).sum::<usize>() <= BYTES_MAX;
        if let Some(tensors) = made.filter(fits) {
            requests.push(InferRequest { inputs: tensors, ..InferRequest::default() });
        }
    }
    requests
}

fn shape(spec: &TensorSpec, batch: usize, size: usize) -> Vec<usize> {
    let dim = |(at, dim): (usize, &i64)| match usize::try_from(*dim) {
        Ok(fixed) => fixed,
        Err(_) if at == 0 => batch,
        Err(_) => size,
    };
    spec.shape.iter().enumerate().map(dim).collect()
}

/// Zeros, or empty strings; `None` when they would take too much memory.
fn tensor(spec: &TensorSpec, shape: &[usize]) -> Option<Tensor> {
    let elements = elements(shape)?;
    let bytes = elements.checked_mul(spec.datatype.size().unwrap_or(size_of::<Bytes>()))?;
    if bytes > BYTES_MAX {
        return None;
    }
    let data = match spec.datatype.size() {
        Some(_) => TensorData::Fixed(Bytes::from(vec![0; bytes])),
        None => TensorData::Strings(vec![Bytes::new(); elements]),
    };
    Some(Tensor {
        name: spec.name.clone(),
        datatype: spec.datatype,
        shape: shape.to_vec(),
        parameters: Vec::new(),
        data,
    })
}

#[cfg(test)]
mod tests {
    use inference::Datatype;

    use super::*;

    fn shapes(dims: &[i64], datatype: Datatype) -> Vec<Vec<usize>> {
        let spec = TensorSpec { name: "x".into(), datatype, shape: dims.into() };
        requests(&[spec]).into_iter().map(|request| request.inputs[0].shape.clone()).collect()
    }

    #[test]
    fn a_fixed_shape_is_tried_once() {
        assert_eq!(shapes(&[1, 4], Datatype::Fp32), vec![vec![1, 4]]);
        assert_eq!(shapes(&[], Datatype::Bytes), vec![Vec::<usize>::new()]);
    }

    #[test]
    fn variable_dimensions_grow_and_the_batch_last() {
        let tried = shapes(&[-1, 3, -1, -1], Datatype::Fp32);
        assert_eq!(tried[0], vec![1, 3, 1, 1]);
        assert!(tried.contains(&vec![1, 3, 224, 224]));
        assert!(tried.contains(&vec![32, 3, 32, 32]));
        // 224 images of 224 x 224 are over the bound.
        assert!(!tried.contains(&vec![224, 3, 224, 224]));
    }

    #[test]
    fn a_shape_beyond_memory_is_not_made() {
        assert_eq!(shapes(&[i64::MAX, i64::MAX], Datatype::Fp64), Vec::<Vec<usize>>::new());
    }
}
