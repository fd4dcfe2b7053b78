//! Whether a request fits the model that it is for: names, datatypes, ranks and dimensions.

use crate::{InferError, InferRequest, ModelMetadata, RequestedOutput, Tensor, TensorData, TensorSpec, tensor};

/// Checks `request` against `metadata`.
///
/// # Errors
///
/// [`InferError::InvalidInput`] with the place, what was expected there and what was found.
pub fn check(request: &InferRequest, metadata: &ModelMetadata) -> Result<(), InferError> {
    for (index, input) in request.inputs.iter().enumerate() {
        let earlier = request.inputs.iter().take(index).any(|other| other.name == input.name);
        check_input(input, earlier, metadata).map_err(|what| wrong("inputs", index, &what))?;
    }
    let given = |spec: &TensorSpec| request.inputs.iter().any(|input| input.name == spec.name);
    if let Some(absent) = metadata.inputs.iter().find(|spec| !given(spec)) {
        return Err(InferError::InvalidInput(format!(
            "`inputs`: expected the input `{}` ({} {:?}), found nothing",
            absent.name, absent.datatype, absent.shape
        )));
    }
    for (index, output) in request.outputs.iter().enumerate() {
        let earlier = request.outputs.iter().take(index).any(|other| other.name == output.name);
        check_output(output, earlier, metadata).map_err(|what| wrong("outputs", index, &what))?;
    }
    Ok(())
}

fn wrong(list: &str, index: usize, what: &str) -> InferError {
    InferError::InvalidInput(format!("`{list}[{index}]`: {what}"))
}

fn check_input(input: &Tensor, earlier: bool, metadata: &ModelMetadata) -> Result<(), String> {
    let name = &input.name;
    if earlier {
        return Err(format!("the input `{name}` is given twice"));
    }
    let Some(spec) = metadata.inputs.iter().find(|spec| spec.name == *name) else {
        return Err(format!("the model has no input `{name}`: {}", choices(&metadata.inputs)));
    };
    if input.datatype != spec.datatype {
        return Err(format!("expected the datatype {} for `{name}`, found {}", spec.datatype, input.datatype));
    }
    let fits = |(wanted, given): (&i64, &usize)| *wanted < 0 || i64::try_from(*given) == Ok(*wanted);
    if input.shape.len() != spec.shape.len() || !spec.shape.iter().zip(&input.shape).all(fits) {
        return Err(format!(
            "expected the shape {:?} (-1 is any size) for `{name}`, found {:?}",
            spec.shape, input.shape
        ));
    }
    let found = match (&input.data, input.datatype.size()) {
        (TensorData::Fixed(bytes), Some(size)) => bytes.len().is_multiple_of(size).then(|| bytes.len() / size),
        (TensorData::Strings(strings), None) => Some(strings.len()),
        _ => None,
    };
    if found.is_none() || found != tensor::elements(&input.shape) {
        return Err(format!("`{name}` does not have the elements that its shape {:?} says", input.shape));
    }
    Ok(())
}

fn check_output(output: &RequestedOutput, earlier: bool, metadata: &ModelMetadata) -> Result<(), String> {
    let name = &output.name;
    if earlier {
        return Err(format!("the output `{name}` is asked for twice"));
    }
    if !metadata.outputs.iter().any(|spec| spec.name == *name) {
        return Err(format!("the model has no output `{name}`: {}", choices(&metadata.outputs)));
    }
    Ok(())
}

/// The names that exist, as many as help.
pub(crate) fn choices(specs: &[TensorSpec]) -> String {
    const SHOWN_MAX: usize = 16;
    let shown: Vec<String> = specs.iter().take(SHOWN_MAX).map(|spec| format!("`{}`", spec.name)).collect();
    let more = if specs.len() > SHOWN_MAX { ", …" } else { "" };
    format!("it has {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests;
