//! Walks over an encoded request and counts its parts, which in memory are up to a hundred times as large as on the wire.

use inference::limits::{INPUTS_MAX, OUTPUTS_MAX, PARAMETERS_MAX, STRINGS_MAX};

/// Counts the parts of a `ModelInferRequest`; the error says which are too many.
///
/// What is malformed is left to the decoder, which stops at the same place.
pub(crate) fn infer_request(encoded: &[u8]) -> Result<(), String> {
    let mut parameters = Count::new("parameters", PARAMETERS_MAX);
    let mut inputs = Count::new("inputs", INPUTS_MAX);
    let mut outputs = Count::new("outputs", OUTPUTS_MAX);
    let mut raw = Count::new("raw input contents", INPUTS_MAX);
    let mut strings = Count::new("BYTES elements", STRINGS_MAX);
    for (number, payload) in Fields(encoded) {
        match number {
            4 => parameters.one()?,
            5 => {
                inputs.one()?;
                input(payload, &mut strings)?;
            }
            6 => {
                outputs.one()?;
                output(payload)?;
            }
            7 => raw.one()?,
            _ => {}
        }
    }
    Ok(())
}

fn input(encoded: &[u8], strings: &mut Count) -> Result<(), String> {
    let mut parameters = Count::new("parameters of an input", PARAMETERS_MAX);
    for (number, payload) in Fields(encoded) {
        match number {
            4 => parameters.one()?,
            5 => {
                for (number, _) in Fields(payload) {
                    if number == 8 {
                        strings.one()?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn output(encoded: &[u8]) -> Result<(), String> {
    let mut parameters = Count::new("parameters of an output", PARAMETERS_MAX);
    for (number, _) in Fields(encoded) {
        if number == 2 {
            parameters.one()?;
        }
    }
    Ok(())
}

struct Count {
    what: &'static str,
    found: usize,
    max: usize,
}

impl Count {
    fn new(what: &'static str, max: usize) -> Self {
        Self { what, found: 0, max }
    }

    fn one(&mut self) -> Result<(), String> {
        self.found += 1;
        if self.found > self.max {
            return Err(format!("the request has more than {} {}", self.max, self.what));
        }
        Ok(())
    }
}

/// The length-delimited fields of a message, by number. Ends at the first malformed byte.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.varint()?;
            match key & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    return Some((key >> 3, self.take(length)?));
                }
                5 => drop(self.take(4)?),
                _ => return None,
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
