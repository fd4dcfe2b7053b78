//! The `data` of a tensor: flat or nested, read straight into a buffer of the tensor's type.

use bytemuck::NoUninit;
use bytes::Bytes;
use half::{bf16, f16};

use super::{
    fault::{Fault, Parsed, quoted},
    reader::Reader,
};
use crate::{
    Datatype, TensorData,
    limits::{JSON_NUMBERS_MAX, RANK_MAX, STRINGS_MAX},
    tensor,
};

/// How many elements the tensors of one body may still have.
pub(super) struct Budget {
    numbers: usize,
    strings: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { numbers: JSON_NUMBERS_MAX, strings: STRINGS_MAX }
    }

    /// Takes one element of `datatype`.
    pub(super) fn one(&mut self, datatype: Datatype) -> Parsed<()> {
        let left = self.left(datatype);
        *left = left.checked_sub(1).ok_or_else(|| {
            Fault::too_large("the request has more elements than it may hold as JSON: send fewer rows at a time")
        })?;
        Ok(())
    }

    fn left(&mut self, datatype: Datatype) -> &mut usize {
        if datatype == Datatype::Bytes { &mut self.strings } else { &mut self.numbers }
    }
}

/// Reads `data` of `datatype`; its number of elements and its nesting must agree with `shape`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    datatype: Datatype,
    shape: &[usize],
    budget: &mut Budget,
) -> Parsed<TensorData> {
    let Some(wanted) = tensor::elements(shape) else {
        return Err(Fault::too_large(format!("shape {shape:?} has more elements than fit in memory")));
    };
    let left = budget.left(datatype);
    if wanted > *left {
        let kind = if datatype == Datatype::Bytes { "strings" } else { "numbers" };
        return Err(Fault::too_large(format!(
            "shape {shape:?} has {wanted} elements, more than the {left} {kind} that a request may still hold as JSON: send them as binary tensors"
        )));
    }
    *left -= wanted;
    let place = Place { datatype, shape, wanted };
    match datatype {
        Datatype::Bool => place.fixed(reader, boolean),
        Datatype::Uint8 => place.fixed(reader, whole::<u8>),
        Datatype::Uint16 => place.fixed(reader, whole::<u16>),
        Datatype::Uint32 => place.fixed(reader, whole::<u32>),
        Datatype::Uint64 => place.fixed(reader, whole::<u64>),
        Datatype::Int8 => place.fixed(reader, whole::<i8>),
        Datatype::Int16 => place.fixed(reader, whole::<i16>),
        Datatype::Int32 => place.fixed(reader, whole::<i32>),
        Datatype::Int64 => place.fixed(reader, whole::<i64>),
        Datatype::Fp16 => place.fixed(reader, half),
        Datatype::Bf16 => place.fixed(reader, brain),
        Datatype::Fp32 => place.fixed(reader, single),
        Datatype::Fp64 => place.fixed(reader, double),
        Datatype::Bytes => place.collect(reader, text).map(TensorData::Strings),
    }
}

/// Reads one element of fixed size and appends its bytes.
#[inline]
pub(super) fn append(reader: &mut Reader<'_>, datatype: Datatype, out: &mut Vec<u8>) -> Parsed<()> {
    match datatype {
        Datatype::Bool => put(out, boolean(reader, datatype)?),
        Datatype::Uint8 => put(out, whole::<u8>(reader, datatype)?),
        Datatype::Uint16 => put(out, whole::<u16>(reader, datatype)?),
        Datatype::Uint32 => put(out, whole::<u32>(reader, datatype)?),
        Datatype::Uint64 => put(out, whole::<u64>(reader, datatype)?),
        Datatype::Int8 => put(out, whole::<i8>(reader, datatype)?),
        Datatype::Int16 => put(out, whole::<i16>(reader, datatype)?),
        Datatype::Int32 => put(out, whole::<i32>(reader, datatype)?),
        Datatype::Int64 => put(out, whole::<i64>(reader, datatype)?),
        Datatype::Fp16 => put(out, half(reader, datatype)?),
        Datatype::Bf16 => put(out, brain(reader, datatype)?),
        Datatype::Fp32 => put(out, single(reader, datatype)?),
        Datatype::Fp64 => put(out, double(reader, datatype)?),
        Datatype::Bytes => return Err(reader.fault("an element of fixed size")),
    }
    Ok(())
}

fn put<T: NoUninit>(out: &mut Vec<u8>, value: T) {
    out.extend_from_slice(bytemuck::bytes_of(&value));
}

/// What a message asks for.
pub(super) const fn expected(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "`true` or `false`, or 1 or 0 (BOOL)",
        Datatype::Uint8 => "a whole number from 0 to 255 (UINT8)",
        Datatype::Uint16 => "a whole number from 0 to 65535 (UINT16)",
        Datatype::Uint32 => "a whole number from 0 to 4294967295 (UINT32)",
        Datatype::Uint64 => "a whole number from 0 to 18446744073709551615 (UINT64)",
        Datatype::Int8 => "a whole number from -128 to 127 (INT8)",
        Datatype::Int16 => "a whole number from -32768 to 32767 (INT16)",
        Datatype::Int32 => "a whole number from -2147483648 to 2147483647 (INT32)",
        Datatype::Int64 => "a whole number from -9223372036854775808 to 9223372036854775807 (INT64)",
        Datatype::Fp16 => "a number (FP16)",
        Datatype::Bf16 => "a number (BF16)",
        Datatype::Fp32 => "a number (FP32)",
        Datatype::Fp64 => "a number (FP64)",
        Datatype::Bytes => "a string (BYTES)",
    }
}

/// What the data must be.
struct Place<'s> {
    datatype: Datatype,
    shape: &'s [usize],
    wanted: usize,
}

impl Place<'_> {
    fn fixed<T: NoUninit + Send + 'static>(
        &self,
        reader: &mut Reader<'_>,
        read: impl Fn(&mut Reader<'_>, Datatype) -> Parsed<T>,
    ) -> Parsed<TensorData> {
        self.collect(reader, read).map(TensorData::from_vec)
    }

    fn collect<T>(
        &self,
        reader: &mut Reader<'_>,
        read: impl Fn(&mut Reader<'_>, Datatype) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let Self { datatype, shape, wanted } = *self;
        // An element takes at least one byte and a comma, so the text bounds what its shape may claim.
        let elements = Vec::with_capacity(wanted.min(reader.rest().len() / 2 + 1));
        let mut nest = Nest { elements, read, datatype, wanted, dimensions: Vec::new(), leaf: None };
        nest.level(reader, 0)?;
        let found = nest.elements.len();
        if found != wanted {
            return Err(Fault::new(format!("expected {wanted} elements for shape {shape:?}, found {found}")));
        }
        nest.agrees(shape)?;
        Ok(nest.elements)
    }
}

/// Elements on the way in, with what is known of their nesting.
struct Nest<T, F> {
    elements: Vec<T>,
    read: F,
    datatype: Datatype,
    wanted: usize,
    /// Length of the arrays at each depth, once the first of them is closed.
    dimensions: Vec<Option<usize>>,
    /// Depth of the arrays that hold elements rather than arrays.
    leaf: Option<usize>,
}

impl<T, F: Fn(&mut Reader<'_>, Datatype) -> Parsed<T>> Nest<T, F> {
    fn level(&mut self, reader: &mut Reader<'_>, depth: usize) -> Parsed<()> {
        if depth >= RANK_MAX {
            return Err(Fault::new(format!("nested deeper than {RANK_MAX} dimensions")));
        }
        if depth == self.dimensions.len() {
            self.dimensions.push(None);
        }
        if !reader.take(b'[') {
            return Err(reader.fault("an array"));
        }
        let length = match reader.peek() {
            Some(b']') => {
                reader.advance(1);
                0
            }
            Some(b'[') => self.arrays(reader, depth)?,
            _ => self.leaves(reader, depth)?,
        };
        note_length(&mut self.dimensions, depth, length)
    }

    fn arrays(&mut self, reader: &mut Reader<'_>, depth: usize) -> Parsed<usize> {
        if self.leaf.is_some_and(|leaf| leaf <= depth) {
            return Err(reader.fault(expected(self.datatype)));
        }
        let mut length = 0;
        loop {
            self.level(reader, depth + 1).map_err(|fault| fault.at(length))?;
            length += 1;
            if !reader.take(b',') {
                return if reader.take(b']') { Ok(length) } else { Err(reader.fault("`,` or `]`")) };
            }
        }
    }

    fn leaves(&mut self, reader: &mut Reader<'_>, depth: usize) -> Parsed<usize> {
        if self.leaf.is_some_and(|leaf| leaf != depth) || self.dimensions.len() != depth + 1 {
            return Err(reader.fault("an array, as elsewhere at this depth"));
        }
        self.leaf = Some(depth);
        let start = self.elements.len();
        loop {
            if self.elements.len() == self.wanted {
                return Err(Fault::new(format!("expected {} elements, as the shape says, found more", self.wanted)));
            }
            let element = (self.read)(reader, self.datatype).map_err(|fault| fault.at(self.elements.len() - start))?;
            self.elements.push(element);
            if !reader.take(b',') {
                let length = self.elements.len() - start;
                return if reader.take(b']') { Ok(length) } else { Err(reader.fault("`,` or `]`")) };
            }
        }
    }

    /// A flat array fits every shape; arrays of arrays must have just the shape's dimensions.
    fn agrees(&self, shape: &[usize]) -> Parsed<()> {
        if self.dimensions.len() <= 1 {
            return Ok(());
        }
        let dimensions: Vec<usize> = self.dimensions.iter().map(|dimension| dimension.unwrap_or(0)).collect();
        // Below an empty array nothing tells the dimensions, so only those above it are compared.
        let open_end = dimensions.last() == Some(&0);
        if dimensions == shape || (open_end && shape.starts_with(&dimensions)) {
            return Ok(());
        }
        Err(Fault::new(format!("expected data nested as shape {shape:?} or flat, found it nested as {dimensions:?}")))
    }
}

#[inline]
fn whole<T: TryFrom<i128>>(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<T> {
    let Some(b'-' | b'0'..=b'9') = reader.peek() else {
        return Err(reader.fault(expected(datatype)));
    };
    let number = reader.number()?;
    let value = number.to_whole().and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| Fault::new(format!("expected {}, found {}", expected(datatype), number.shown())))
}

/// One byte, 0 or 1.
fn boolean(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<u8> {
    match reader.peek() {
        Some(b't') if reader.take_word("true") => Ok(1),
        Some(b'f') if reader.take_word("false") => Ok(0),
        Some(b'-' | b'0'..=b'9') => {
            let number = reader.number()?;
            let value = number.to_whole().and_then(|value| u8::try_from(value).ok()).filter(|&value| value <= 1);
            value.ok_or_else(|| Fault::new(format!("expected {}, found {}", expected(datatype), number.shown())))
        }
        _ => Err(reader.fault(expected(datatype))),
    }
}

#[inline]
fn single(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<f32> {
    if !reader.at_number() {
        return non_finite(reader, datatype);
    }
    let number = reader.number()?;
    number.to_f32().ok_or_else(|| beyond(datatype, &number.shown()))
}

#[inline]
fn double(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<f64> {
    if !reader.at_number() {
        return non_finite(reader, datatype).map(f64::from);
    }
    let number = reader.number()?;
    number.to_f64().ok_or_else(|| beyond(datatype, &number.shown()))
}

fn half(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<f16> {
    let value = double(reader, datatype)?;
    let rounded = f16::from_f64(value);
    if rounded.is_infinite() && value.is_finite() { Err(beyond(datatype, &format!("`{value}`"))) } else { Ok(rounded) }
}

fn brain(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<bf16> {
    let value = double(reader, datatype)?;
    let rounded = bf16::from_f64(value);
    if rounded.is_infinite() && value.is_finite() { Err(beyond(datatype, &format!("`{value}`"))) } else { Ok(rounded) }
}

#[cold]
fn beyond(datatype: Datatype, shown: &str) -> Box<Fault> {
    Fault::new(format!("expected a number within the range of {datatype}, found {shown}"))
}

/// Reads a literal or string that stands for a value that is not finite.
#[cold]
fn non_finite(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<f32> {
    let expected = expected(datatype);
    match reader.peek() {
        Some(b'N') if reader.take_word("NaN") => Ok(f32::NAN),
        Some(b'I') if reader.take_word("Infinity") => Ok(f32::INFINITY),
        Some(b'-') if reader.take_word("-Infinity") => Ok(f32::NEG_INFINITY),
        Some(b'"') => match reader.string()?.as_ref() {
            "NaN" => Ok(f32::NAN),
            "Infinity" => Ok(f32::INFINITY),
            "-Infinity" => Ok(f32::NEG_INFINITY),
            other => Err(Fault::new(format!(
                "expected {expected}, found the string {}: of strings only \"NaN\", \"Infinity\" and \"-Infinity\" are numbers",
                quoted(other)
            ))),
        },
        _ => Err(reader.fault(expected)),
    }
}

#[inline]
pub(super) fn text(reader: &mut Reader<'_>, datatype: Datatype) -> Parsed<Bytes> {
    if reader.peek() != Some(b'"') {
        return Err(reader.fault(expected(datatype)));
    }
    reader.string_bytes()
}

/// Notes that an array at `depth` has `length` elements, as all others there must have.
pub(super) fn note_length(dimensions: &mut [Option<usize>], depth: usize, length: usize) -> Parsed<()> {
    match dimensions.get_mut(depth) {
        Some(Some(other)) if *other != length => {
            Err(Fault::new(format!("expected {other} elements, as in the array before, found {length}")))
        }
        Some(dimension) => {
            *dimension = Some(length);
            Ok(())
        }
        None => Ok(()),
    }
}
