//! NumPy's `.npy` files, versions 1 to 3: little-endian numbers and booleans.
//!
//! The format is described in `numpy.lib.format`: magic, version, length of the header, and a Python dictionary.

/// An array as it is in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    /// Row-major, little-endian.
    pub(super) bytes: Vec<u8>,
}

/// Type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    Int(Width),
    Uint(Width),
    Float(Width),
}

/// Bytes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    W1,
    W2,
    W4,
    W8,
}

impl Element {
    pub(super) fn size(self) -> usize {
        match self {
            Self::Bool | Self::Int(Width::W1) | Self::Uint(Width::W1) | Self::Float(Width::W1) => 1,
            Self::Int(Width::W2) | Self::Uint(Width::W2) | Self::Float(Width::W2) => 2,
            Self::Int(Width::W4) | Self::Uint(Width::W4) | Self::Float(Width::W4) => 4,
            Self::Int(Width::W8) | Self::Uint(Width::W8) | Self::Float(Width::W8) => 8,
        }
    }
}

/// Longest header: it has three entries.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Dimensions that NumPy permits.
const DIMENSIONS_MAX: usize = 64;
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a NumPy file does: write it with `numpy.save`")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(TRUNCATED)?;
    let (length, rest) = match version {
        [1, _] => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or(TRUNCATED)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        [2 | 3, _] => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
            (usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX), rest)
        }
        [major, _] => return Err(format!("version {major} of the format is not known")),
    };
    if length > HEADER_BYTES_MAX {
        return Err("its header is too long".to_owned());
    }
    let (header, data) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let Header { descr, fortran, shape } = Header::parse(header)?;
    let element = element(&descr)?;
    let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    let wanted = count.and_then(|count| count.checked_mul(element.size())).ok_or("its shape is too large")?;
    if data.len() != wanted {
        return Err(format!("its shape {shape:?} needs {wanted} bytes of `{descr}`, and it has {}", data.len()));
    }
    let bytes = if fortran && shape.len() > 1 { row_major(data, &shape, element.size()) } else { data.to_vec() };
    Ok(Array { element, shape, bytes })
}

const TRUNCATED: &str = "it ends too early";

fn element(descr: &str) -> Result<Element, String> {
    let mut letters = descr.chars();
    let (order, kind, width) = (letters.next(), letters.next(), letters.as_str());
    if order == Some('>') {
        return Err(format!(
            "its elements (`{descr}`) are big-endian: save it with `a.astype(a.dtype.newbyteorder('<'))`"
        ));
    }
    let width = match (order, width) {
        (Some('<' | '|'), "1") => Width::W1,
        (Some('<'), "2") => Width::W2,
        (Some('<'), "4") => Width::W4,
        (Some('<'), "8") => Width::W8,
        _ => return Err(unsupported(descr)),
    };
    match (kind, width) {
        (Some('b'), Width::W1) => Ok(Element::Bool),
        (Some('i'), _) => Ok(Element::Int(width)),
        (Some('u'), _) => Ok(Element::Uint(width)),
        (Some('f'), Width::W2 | Width::W4 | Width::W8) => Ok(Element::Float(width)),
        _ => Err(unsupported(descr)),
    }
}

fn unsupported(descr: &str) -> String {
    if descr.contains('O') {
        return "it holds Python objects, which would have to be unpickled: save numbers, or use JSON".to_owned();
    }
    format!("its elements (`{descr}`) are neither numbers nor booleans: use JSON")
}

/// From the first dimension fastest to the last dimension fastest.
fn row_major(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut at = vec![0_usize; shape.len()];
    for _ in 0..data.len() / size {
        let (mut offset, mut stride) = (0, 1);
        for (index, length) in at.iter().zip(shape) {
            offset += index * stride;
            stride *= length;
        }
        out.extend(data.get(offset * size..(offset + 1) * size).unwrap_or_default());
        for (index, length) in at.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *length {
                break;
            }
            *index = 0;
        }
    }
    out
}

/// The header's dictionary.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// A value of the dictionary.
enum Literal {
    Text(String),
    Bool(bool),
    Tuple(Vec<usize>),
}

impl Header {
    fn parse(text: &str) -> Result<Self, String> {
        let mut scanner = Scanner { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        scanner.expect('{')?;
        while !scanner.take('}') {
            let key = scanner.text()?;
            scanner.expect(':')?;
            match (key.as_str(), scanner.literal()?) {
                ("descr", Literal::Text(text)) if descr.is_none() => descr = Some(text),
                ("fortran_order", Literal::Bool(value)) if fortran.is_none() => fortran = Some(value),
                ("shape", Literal::Tuple(sizes)) if shape.is_none() => shape = Some(sizes),
                _ => return Err(format!("its header has a wrong `{key}`")),
            }
            if !scanner.take(',') {
                scanner.expect('}')?;
                break;
            }
        }
        if !scanner.rest.trim().is_empty() {
            return Err("its header goes on after the dictionary".to_owned());
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Self { descr, fortran, shape }),
            _ => Err("its header lacks `descr`, `fortran_order` or `shape`".to_owned()),
        }
    }
}

/// Reads the few Python literals that a header has.
struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("its header has no `{wanted}` where it should")) }
    }

    fn text(&mut self) -> Result<String, String> {
        let quote = if self.take('\'') { '\'' } else { '"' };
        if quote == '"' {
            self.expect('"')?;
        }
        let (text, rest) = self.rest.split_once(quote).ok_or("its header has a text without an end")?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn word(&mut self) -> &str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn literal(&mut self) -> Result<Literal, String> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            Some('\'' | '"') => self.text().map(Literal::Text),
            Some('(') => self.tuple().map(Literal::Tuple),
            Some('[') => Err("its elements have fields: save one plain array for each input".to_owned()),
            _ => match self.word() {
                "True" => Ok(Literal::Bool(true)),
                "False" => Ok(Literal::Bool(false)),
                _ => Err("its header has a value that is not known".to_owned()),
            },
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut sizes = Vec::new();
        while !self.take(')') {
            // Python 2 wrote `3L`.
            let word = self.word().trim_end_matches('L').to_owned();
            sizes.push(word.parse().map_err(|_| "its shape has something that is no size")?);
            if sizes.len() > DIMENSIONS_MAX {
                return Err("its shape has too many dimensions".to_owned());
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes()),
            _ => bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}    \n")
    }

    #[test]
    fn arrays_of_every_version() {
        for version in 1..=3 {
            let array = read(&file(version, &header("<i2", "False", "(2, 1)"), &[1, 0, 2, 0])).unwrap();
            assert_eq!(array, Array { element: Element::Int(Width::W2), shape: vec![2, 1], bytes: vec![1, 0, 2, 0] });
        }
        let scalar = read(&file(1, &header("|b1", "False", "()"), &[1])).unwrap();
        assert_eq!((scalar.element, scalar.shape.len()), (Element::Bool, 0));
        assert_eq!(read(&file(1, &header("<f8", "False", "(0,)"), &[])).unwrap().shape, [0]);
    }

    #[test]
    fn columns_first_become_rows_first() {
        let array = read(&file(1, &header("|u1", "True", "(2, 3)"), &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(array.bytes, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_refused() {
        let said = |bytes: &[u8]| read(bytes).unwrap_err();
        assert!(said(b"hello").contains("numpy.save"));
        assert!(said(&file(1, &header(">f4", "False", "(1,)"), &[0; 4])).contains("big-endian"));
        assert!(said(&file(1, &header("|O", "False", "(1,)"), &[])).contains("unpickled"));
        assert!(said(&file(1, &header("<U3", "False", "(1,)"), &[])).contains("use JSON"));
        assert!(said(&file(1, &header("<f4", "False", "(2,)"), &[0; 4])).contains("needs 8 bytes"));
        assert!(
            said(&file(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[])).contains("fields")
        );
        assert!(said(&file(9, "", &[])).contains("version 9"));
        let huge = format!("({0}, {0})", usize::MAX);
        assert!(said(&file(1, &header("<f8", "False", &huge), &[])).contains("too large"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(read(&bytes));
            let mut begun = MAGIC.to_vec();
            begun.extend(&bytes);
            drop(read(&begun));
        }

        #[test]
        fn any_header_is_read_or_refused(text in "[{}(),:' a-zA-Z0-9<|]{0,80}", data in proptest::collection::vec(any::<u8>(), 0..8)) {
            drop(read(&file(1, &text, &data)));
            drop(read(&file(1, &format!("{{'descr': '<f4', {text}"), &data)));
        }

        #[test]
        fn what_is_written_is_read(
            shape in proptest::collection::vec(0_usize..5, 0..4),
            fill in any::<u8>(),
        ) {
            let count: usize = shape.iter().product();
            let bytes: Vec<u8> = (0..count * 4).map(|index| fill.wrapping_add(index.to_le_bytes()[0])).collect();
            let text: String = shape.iter().map(|size| format!("{size}, ")).collect();
            let array = read(&file(2, &header("<f4", "False", &format!("({text})")), &bytes)).unwrap();
            prop_assert_eq!(&array.shape, &shape);
            prop_assert_eq!(array.bytes, bytes.clone());
            // Turned twice, an array is itself.
            let there = row_major(&bytes, &shape, 4);
            let back: Vec<usize> = shape.iter().rev().copied().collect();
            prop_assert_eq!(row_major(&there, &back, 4), bytes);
        }
    }
}
