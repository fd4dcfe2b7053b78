//! Requests joined row by row, and the answer taken apart again. Pure.

use bytes::Bytes;
use inference::{InferRequest, ModelMetadata, Tensor, TensorData, TensorSpec, tensor::elements};

/// Names of the inputs and outputs of a model whose every one has a variable first dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// What requests must have in common to be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Dimensions of the inputs but the first, in the model's order. Names, datatypes and ranks are the model's.
    dims: Vec<usize>,
    /// Wanted outputs; empty for all in the model's order.
    outputs: Vec<String>,
}

impl Signature {
    /// The signature of a model; `None` when an input or output has no variable first dimension.
    pub fn of(metadata: &ModelMetadata) -> Option<Self> {
        let varies = |spec: &TensorSpec| spec.shape.first().is_some_and(|dim| *dim < 0);
        let every = metadata.inputs.iter().chain(&metadata.outputs).all(varies);
        let names = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.clone()).collect();
        (every && !metadata.inputs.is_empty())
            .then(|| Self { inputs: names(&metadata.inputs), outputs: names(&metadata.outputs) })
    }

    /// The group of a request that fits the model; `None` when its inputs do not agree in rows, or have none.
    pub fn group(&self, request: &InferRequest) -> Option<Group> {
        let mut dims = Vec::new();
        let mut rows = None;
        for name in &self.inputs {
            let (first, rest) = input(request, name)?.shape.split_first()?;
            if *first == 0 || rows.is_some_and(|rows| rows != *first) {
                return None;
            }
            rows = Some(*first);
            dims.extend_from_slice(rest);
        }
        let wanted = || request.outputs.iter().map(|output| &output.name);
        let outputs = if wanted().eq(&self.outputs) { Vec::new() } else { wanted().cloned().collect() };
        Some(Group { dims, outputs })
    }

    /// One request with the rows of all `members`, which are of one group; `None` when they are not.
    pub fn join(&self, members: &[&InferRequest]) -> Option<InferRequest> {
        let first = members.first()?;
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let parts = members.iter().map(|member| input(member, name)).collect::<Option<Vec<_>>>()?;
            inputs.push(concatenate(&parts)?);
        }
        Some(InferRequest { inputs, outputs: first.outputs.clone(), ..InferRequest::default() })
    }
}

/// The outputs of each member, which had so many `rows`. Fixed-size elements are not copied: the parts keep the whole alive.
///
/// `None` when an output has another number of rows.
pub fn split(outputs: Vec<Tensor>, rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let mut members: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    let total = rows.iter().try_fold(0_usize, |sum, rows| sum.checked_add(*rows))?;
    for output in outputs {
        let Tensor { name, datatype, shape, parameters: _, data } = output;
        let (first, rest) = shape.split_first()?;
        let row = elements(rest)?;
        if *first != total || data.elements(datatype) != total.checked_mul(row)? {
            return None;
        }
        let mut rest_of = data;
        for (member, rows) in members.iter_mut().zip(rows) {
            let count = rows.checked_mul(row)?;
            let data = take(&mut rest_of, count, datatype.size().unwrap_or(1));
            let shape = std::iter::once(*rows).chain(rest.iter().copied()).collect();
            member.push(Tensor { name: name.clone(), datatype, shape, parameters: Vec::new(), data });
        }
    }
    Some(members)
}

/// The input `name` of `request`.
pub(super) fn input<'a>(request: &'a InferRequest, name: &str) -> Option<&'a Tensor> {
    request.inputs.iter().find(|tensor| tensor.name == name)
}

fn concatenate(parts: &[&Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let mut shape = first.shape.clone();
    let rows = parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(*part.shape.first()?))?;
    *shape.first_mut()? = rows;
    let alike = |part: &&Tensor| part.datatype == first.datatype && part.shape.get(1..) == first.shape.get(1..);
    if !parts.iter().all(alike) {
        return None;
    }
    let data = match &first.data {
        TensorData::Fixed(_) => {
            let bytes = parts.iter().map(|part| fixed(part)).collect::<Option<Vec<_>>>()?;
            TensorData::Fixed(Bytes::from(bytes.concat()))
        }
        TensorData::Strings(_) => {
            let strings = parts.iter().map(|part| strings(part)).collect::<Option<Vec<_>>>()?;
            TensorData::Strings(strings.concat())
        }
    };
    Some(Tensor { name: first.name.clone(), datatype: first.datatype, shape, parameters: Vec::new(), data })
}

fn fixed(tensor: &Tensor) -> Option<&[u8]> {
    match &tensor.data {
        TensorData::Fixed(bytes) => Some(bytes),
        TensorData::Strings(_) => None,
    }
}

fn strings(tensor: &Tensor) -> Option<&[Bytes]> {
    match &tensor.data {
        TensorData::Strings(strings) => Some(strings),
        TensorData::Fixed(_) => None,
    }
}

/// Takes the first `count` elements of `size` bytes. There are as many: their number was checked.
fn take(data: &mut TensorData, count: usize, size: usize) -> TensorData {
    match data {
        TensorData::Fixed(bytes) => TensorData::Fixed(bytes.split_to(count.saturating_mul(size).min(bytes.len()))),
        TensorData::Strings(strings) => TensorData::Strings(strings.drain(..count.min(strings.len())).collect()),
    }
}

#[cfg(test)]
mod tests;
