//! From the elements of an array to the datatype that a model takes, where nothing but precision can be lost.

use half::{bf16, f16};
use inference::Datatype;

use super::npy::{Array, Element, Width};

/// The array's bytes as elements of `to`.
pub(super) fn bytes(array: &Array, to: Datatype) -> Result<Vec<u8>, String> {
    if same(array.element) == Some(to) {
        return Ok(array.bytes.clone());
    }
    let mut out = Vec::with_capacity(array.bytes.len());
    for element in array.bytes.chunks_exact(array.element.size()) {
        match number(array.element, element) {
            Number::Int(value) => put_int(value, to, &mut out)?,
            Number::Float(value) => put_float(value, to, &mut out)?,
            Number::Bool(value) if to == Datatype::Bool => out.push(u8::from(value)),
            Number::Bool(value) => put_int(i128::from(value), to, &mut out)?,
        }
    }
    Ok(out)
}

enum Number {
    Bool(bool),
    Int(i128),
    Float(f64),
}

/// The datatype with the same bytes.
fn same(element: Element) -> Option<Datatype> {
    Some(match element {
        // A byte that is neither 0 nor 1 is made one of them.
        Element::Bool => return None,
        Element::Int(Width::W1) => Datatype::Int8,
        Element::Int(Width::W2) => Datatype::Int16,
        Element::Int(Width::W4) => Datatype::Int32,
        Element::Int(Width::W8) => Datatype::Int64,
        Element::Uint(Width::W1) => Datatype::Uint8,
        Element::Uint(Width::W2) => Datatype::Uint16,
        Element::Uint(Width::W4) => Datatype::Uint32,
        Element::Uint(Width::W8) => Datatype::Uint64,
        Element::Float(Width::W2) => Datatype::Fp16,
        Element::Float(Width::W4) => Datatype::Fp32,
        Element::Float(Width::W8) => Datatype::Fp64,
        Element::Float(Width::W1) => return None,
    })
}

fn number(element: Element, bytes: &[u8]) -> Number {
    let mut wide = [0; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    let unsigned = u64::from_le_bytes(wide);
    match element {
        Element::Bool => Number::Bool(unsigned != 0),
        Element::Uint(_) => Number::Int(i128::from(unsigned)),
        Element::Int(width) => {
            let unused = match width {
                Width::W1 => 56,
                Width::W2 => 48,
                Width::W4 => 32,
                Width::W8 => 0,
            };
            // The sign comes down from the highest bit.
            Number::Int(i128::from((unsigned.cast_signed() << unused) >> unused))
        }
        Element::Float(Width::W4) => {
            let [a, b, c, d, ..] = wide;
            Number::Float(f64::from(f32::from_le_bytes([a, b, c, d])))
        }
        Element::Float(Width::W8) => Number::Float(f64::from_bits(unsigned)),
        Element::Float(_) => {
            let [a, b, ..] = wide;
            Number::Float(f16::from_le_bytes([a, b]).to_f64())
        }
    }
}

fn put_int(value: i128, to: Datatype, out: &mut Vec<u8>) -> Result<(), String> {
    let outside = |_| format!("{value} is outside {to}");
    match to {
        Datatype::Uint8 => out.extend(u8::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Uint16 => out.extend(u16::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Uint32 => out.extend(u32::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Uint64 => out.extend(u64::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Int8 => out.extend(i8::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Int16 => out.extend(i16::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Int32 => out.extend(i32::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Int64 => out.extend(i64::try_from(value).map_err(outside)?.to_le_bytes()),
        Datatype::Bool => return Err("whole numbers are not BOOL: use `a.astype(bool)`".to_owned()),
        Datatype::Bytes => return Err("numbers are not BYTES: use JSON".to_owned()),
        #[expect(clippy::cast_precision_loss, reason = "a float is asked for, and rounds")]
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => return put_float(value as f64, to, out),
    }
    Ok(())
}

fn put_float(value: f64, to: Datatype, out: &mut Vec<u8>) -> Result<(), String> {
    match to {
        Datatype::Fp64 => out.extend(value.to_le_bytes()),
        #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest, as NumPy does")]
        Datatype::Fp32 => out.extend((value as f32).to_le_bytes()),
        Datatype::Fp16 => out.extend(f16::from_f64(value).to_le_bytes()),
        Datatype::Bf16 => out.extend(bf16::from_f64(value).to_le_bytes()),
        Datatype::Bytes => return Err("numbers are not BYTES: use JSON".to_owned()),
        whole => return Err(format!("the array has fractions and the model takes {whole}: convert it yourself")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(element: Element, bytes: &[u8]) -> Array {
        Array { element, shape: vec![bytes.len() / element.size()], bytes: bytes.to_vec() }
    }

    #[test]
    fn numbers_keep_their_value() {
        let doubles: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let singles: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let halves: Vec<u8> = [1.5, -2.0].iter().flat_map(|number| f16::from_f64(*number).to_le_bytes()).collect();
        assert_eq!(bytes(&array(Element::Float(Width::W8), &doubles), Datatype::Fp32).unwrap(), singles);
        assert_eq!(bytes(&array(Element::Float(Width::W2), &halves), Datatype::Fp64).unwrap(), doubles);
        assert_eq!(bytes(&array(Element::Float(Width::W4), &singles), Datatype::Fp16).unwrap(), halves);
        let small = array(Element::Int(Width::W1), &[0xfe, 5]);
        assert_eq!(bytes(&small, Datatype::Int32).unwrap(), [(-2_i32).to_le_bytes(), 5_i32.to_le_bytes()].concat());
        assert_eq!(bytes(&array(Element::Bool, &[2, 0]), Datatype::Bool).unwrap(), [1, 0]);
        assert_eq!(bytes(&array(Element::Bool, &[1]), Datatype::Fp32).unwrap(), 1_f32.to_le_bytes());
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let said = |element, raw: &[u8], to| bytes(&array(element, raw), to).unwrap_err();
        assert_eq!(said(Element::Int(Width::W1), &[0xff], Datatype::Uint64), "-1 is outside UINT64");
        assert!(said(Element::Float(Width::W4), &[0; 4], Datatype::Int64).contains("fractions"));
        assert!(said(Element::Uint(Width::W1), &[1], Datatype::Bytes).contains("JSON"));
    }
}
