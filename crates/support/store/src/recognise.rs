//! Says what a file is by its first bytes, never by its name, and what to do when it is not a model that Berth admits.

/// Bytes that [`refusal`] looks at.
pub const HEAD_BYTES: usize = 4096;

const USE_ONNX: &str = "export the model to ONNX and deploy that";

/// Why a file that starts with `head` and ends with `tail` is refused before anything parses it; `None` when it may be ONNX.
pub fn refusal(head: &[u8], tail: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some("the file is empty: was the export or the download interrupted?".to_owned());
    }
    code_carrier(head, tail).or_else(|| archive(head)).or_else(|| other_format(head))
}

/// Formats that can run code when they are read.
fn code_carrier(head: &[u8], tail: &[u8]) -> Option<String> {
    let binary_pickle = head.first() == Some(&0x80) && head.get(1).is_some_and(|protocol| (2..=5).contains(protocol));
    if binary_pickle || text_pickle(head, tail) {
        return Some(format!(
            "this is a Python pickle (also what joblib writes), which runs code when it is loaded, so it is never loaded: \
             {USE_ONNX}, for scikit-learn with `skl2onnx.to_onnx(model, X[:1], options={{'zipmap': False}})`"
        ));
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Some(format!(
            "this is an HDF5 file, as Keras writes it, which can carry code in Lambda layers: {USE_ONNX}, with `tf2onnx`"
        ));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(zip(head, tail));
    }
    if head.starts_with(b"\x7fELF") || head.starts_with(b"MZ") || head.starts_with(b"#!") {
        return Some("this is a program, not a model: deploy an ONNX file".to_owned());
    }
    None
}

/// Protocols 0 and 1 have no magic number: they end with the opcode `.` and start with one that pushes something.
fn text_pickle(head: &[u8], tail: &[u8]) -> bool {
    let ends = matches!(tail, [.., b'.'] | [.., b'.', b'\n']);
    let starts = match head {
        [b'(', b'l' | b'd' | b't' | b'i' | b'c' | b'o' | b'S' | b'V' | b'I' | b'K' | b'X' | b'U', ..] => true,
        [b']' | b'}' | b')', b'q' | b'.' | b'(' | b'r', ..] => true,
        // `c` and `i` name a module and a class, each on a line of its own.
        [b'c' | b'i', rest @ ..] => {
            rest.iter().take(200).filter(|byte| **byte == b'\n').count() >= 2
                && rest.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        }
        [b'I' | b'F' | b'S' | b'V' | b'L', rest @ ..] => rest.iter().take(200).any(|byte| *byte == b'\n'),
        [b'K' | b'M' | b'J' | b'U' | b'X' | b'G', ..] => tail.len() < 64,
        _ => false,
    };
    ends && starts
}

fn zip(head: &[u8], tail: &[u8]) -> String {
    let has = |name: &[u8]| [head, tail].iter().any(|part| part.windows(name.len()).any(|window| window == name));
    if has(b"data.pkl") || has(b"constants.pkl") || has(b"/code/") {
        return format!(
            "this is a PyTorch or TorchScript archive with a pickle in it, which runs code when it is loaded: {USE_ONNX}, with `torch.onnx.export`"
        );
    }
    if has(b"model.weights.h5") || has(b"keras") {
        return format!("this is a Keras archive, which can carry code in Lambda layers: {USE_ONNX}, with `tf2onnx`");
    }
    format!(
        "this is a zip archive: unpack it and deploy the ONNX file or the bundle directory; from another format, {USE_ONNX}"
    )
}

fn archive(head: &[u8]) -> Option<String> {
    const JOBLIB: &str = "this is a compressed file, as joblib or an archiver writes it";
    let compressed = matches!(
        head,
        [0x1f, 0x8b, ..]
            | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
            | [0x04, 0x22, 0x4d, 0x18, ..]
            | [0xfd, b'7', b'z', b'X', b'Z', ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
    ) || head.starts_with(b"BZh");
    if compressed {
        return Some(format!("{JOBLIB}: unpack it when it holds an ONNX file; if it is a pickled model, {USE_ONNX}"));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("this is a tar archive: unpack it and deploy the ONNX file or the bundle directory".to_owned());
    }
    None
}

fn other_format(head: &[u8]) -> Option<String> {
    let known = if head.starts_with(b"\x93NUMPY") {
        "a NumPy array, not a model: use it as `--input` of `berth infer`".to_owned()
    } else if head.starts_with(b"GGUF") {
        format!("a GGUF language model, which is not served: {USE_ONNX}")
    } else if head.get(4..8) == Some(b"TFL3") {
        format!("a TensorFlow Lite model: {USE_ONNX}, with `tf2onnx --tflite`")
    } else if head.starts_with(b"tree\n") {
        format!("a LightGBM text model: {USE_ONNX}, with `onnxmltools.convert_lightgbm(..., zipmap=False)`")
    } else if is_safetensors(head) {
        format!("a safetensors file, which holds weights without a model: {USE_ONNX}")
    } else if matches!(head.trim_ascii_start().first(), Some(b'{' | b'<'))
        && head.iter().take(64).all(|byte| (9..127).contains(byte))
    {
        format!("a text file (JSON or XML): {USE_ONNX}")
    } else {
        return None;
    };
    Some(format!("this is {known}"))
}

fn is_safetensors(head: &[u8]) -> bool {
    let length: Option<[u8; 8]> = head.get(..8).and_then(|bytes| bytes.try_into().ok());
    length.is_some_and(|length| u64::from_le_bytes(length) < 100_000_000) && head.get(8..10) == Some(b"{\"")
}
