//! Says what a file is by its bytes, never by its name, and what to do when it is not a model that Berth admits.

use inference::trees;

use zip::Members;

pub(crate) mod pickle;
pub(crate) mod zip;

#[cfg(test)]
mod tests;

/// Bytes at the start of a file that [`refusal`] looks at.
pub const HEAD_BYTES: usize = 4096;
/// Bytes at the end of a file that [`refusal`] looks at: a zip's last record with its longest comment (APPNOTE 4.3.16).
pub const TAIL_BYTES: usize = 22 + 65_535;

const USE_ONNX: &str = "export the model to ONNX and deploy that";

/// What is looked at of a file.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The first [`HEAD_BYTES`] bytes.
    pub head: Vec<u8>,
    /// The last [`TAIL_BYTES`] bytes.
    pub tail: Vec<u8>,
    /// Bytes of the file.
    pub size: u64,
    /// Names in the central directory, when the file is a zip.
    pub members: Vec<String>,
}

/// What the file of `sample` is when that is no model to serve, and what to do: words that follow "is".
/// `None` when it may be ONNX, or trees of XGBoost or LightGBM.
pub fn refusal(sample: &Sample) -> Option<String> {
    if sample.head.is_empty() {
        return Some("empty: was the export or the download interrupted?".to_owned());
    }
    let known = || if trees::recognise(&sample.head).is_some() { None } else { foreign(&sample.head) };
    code_carrier(sample).or_else(known)
}

/// Formats without code that are not served.
fn foreign(head: &[u8]) -> Option<String> {
    archive(head).or_else(|| other_format(head))
}

/// Formats that can run code when they are read.
fn code_carrier(sample: &Sample) -> Option<String> {
    let head = sample.head.as_slice();
    if pickle::looks_like(head, sample.size) {
        return Some(format!(
            "a Python pickle (joblib and cloudpickle write it too), which runs code when it is loaded, so nobody loads it \
             here: {}",
            pickled_by(head)
        ));
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Some(format!(
            "an HDF5 file, as Keras writes it, which can carry code in Lambda layers: {USE_ONNX}, with `tf2onnx`"
        ));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(zipped(&Members::new(&sample.members, head)));
    }
    if head.starts_with(b"\x7fELF") || head.starts_with(b"MZ") || head.starts_with(b"#!") {
        return Some("a program, not a model: deploy an ONNX file".to_owned());
    }
    None
}

/// How to save what is in a pickle otherwise, by the modules that it names at its start.
fn pickled_by(head: &[u8]) -> String {
    let names = |module: &[u8]| head.windows(module.len()).any(|window| window == module);
    if names(b"torch") {
        format!("{USE_ONNX}, with `torch.onnx.export(model, example, path)`")
    } else if names(b"xgboost") {
        format!(
            "save an XGBoost model with `model.save_model('model.json')` and deploy that; for a pipeline, {USE_ONNX}"
        )
    } else if names(b"lightgbm") {
        format!(
            "save a LightGBM model with `model.booster_.save_model('model.txt')` and deploy that; for a pipeline, {USE_ONNX}"
        )
    } else {
        format!("{USE_ONNX}, with `skl2onnx.to_onnx(model, X[:1], options={{'zipmap': False}})` for scikit-learn")
    }
}

fn zipped(members: &Members) -> String {
    if members.any(|name| name.ends_with("constants.pkl") || name.contains("/code/")) {
        return format!(
            "a TorchScript archive of PyTorch with pickles in it, which run code when they are loaded: {USE_ONNX}, with \
             `torch.onnx.export`"
        );
    }
    if members.any(|name| name.ends_with("data.pkl")) {
        return format!(
            "a PyTorch archive (`torch.save`) with a pickle in it, which runs code when it is loaded: {USE_ONNX}, with \
             `torch.onnx.export`"
        );
    }
    if members.any(|name| name.ends_with(".weights.h5"))
        || members.any(|name| name == "metadata.json") && members.any(|name| name == "config.json")
    {
        return format!("a Keras archive, which can carry code in Lambda layers: {USE_ONNX}, with `tf2onnx`");
    }
    if members.any(|name| name.ends_with("saved_model.pb")) {
        return format!("a zip archive with a TensorFlow SavedModel in it: {USE_ONNX}, with `tf2onnx`");
    }
    if members.any(|name| [".pkl", ".pickle", ".joblib"].iter().any(|end| name.ends_with(end))) {
        return format!("a zip archive with a pickle in it, which runs code when it is loaded: {USE_ONNX}");
    }
    if members.any(|name| name.ends_with(".npy")) {
        return "a zip archive of NumPy arrays, not a model: use an array as `--input` of `berth infer`".to_owned();
    }
    format!(
        "a zip archive: unpack it and deploy the ONNX file or the bundle directory; from another format, {USE_ONNX}"
    )
}

fn archive(head: &[u8]) -> Option<String> {
    let compressed = matches!(
        head,
        [0x1f, 0x8b, ..]
            | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
            | [0x04, 0x22, 0x4d, 0x18, ..]
            | [0xfd, b'7', b'z', b'X', b'Z', ..]
            | [0x5d, 0x00, 0x00, _, _, 0xff, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', ..]
    );
    if compressed {
        return Some(format!(
            "a compressed file, as joblib or an archiver writes it: unpack it when it holds an ONNX file; when it holds \
             a pickled model, {USE_ONNX}"
        ));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("a tar archive: unpack it and deploy the ONNX file or the bundle directory".to_owned());
    }
    let packed = head.starts_with(b"7z\xbc\xaf\x27\x1c") || head.starts_with(b"Rar!\x1a\x07");
    packed.then(|| "an archive: unpack it and deploy the ONNX file or the bundle directory".to_owned())
}

fn other_format(head: &[u8]) -> Option<String> {
    if head.starts_with(b"\x93NUMPY") {
        Some("a NumPy array, not a model: use it as `--input` of `berth infer`".to_owned())
    } else if head.starts_with(b"GGUF") {
        Some(format!("a GGUF language model, which is not served: {USE_ONNX}"))
    } else if head.get(4..8) == Some(b"TFL3") {
        Some(format!("a TensorFlow Lite model: {USE_ONNX}, with `tf2onnx --tflite`"))
    } else if head.get(4..8) == Some(b"ORTM") {
        Some("a model in ONNX Runtime's own format: deploy the ONNX file that it was made of".to_owned())
    } else if head.starts_with(b"CBM1") {
        Some(format!("a CatBoost model: {USE_ONNX}, with `model.save_model(path, format='onnx')`"))
    } else if head.starts_with(b"binf") || head.starts_with(b"bs64") {
        Some(
            "a model in XGBoost's old binary format: load it with XGBoost, save it with `booster.save_model('model.ubj')` and \
             deploy that"
                .to_owned(),
        )
    } else if is_safetensors(head) {
        Some(format!("a safetensors file, which holds weights without a model: {USE_ONNX}"))
    } else if is_saved_model(head) {
        Some(format!("a TensorFlow SavedModel: {USE_ONNX}, with `tf2onnx --saved-model`"))
    } else if is_graph_def(head) {
        Some(format!("a frozen TensorFlow graph: {USE_ONNX}, with `tf2onnx --graphdef`"))
    } else {
        text(head)
    }
}

/// Eight bytes of length, then a JSON object (safetensors' format).
fn is_safetensors(head: &[u8]) -> bool {
    let length: Option<[u8; 8]> = head.get(..8).and_then(|bytes| bytes.try_into().ok());
    let plausible = length.is_some_and(|length| (2..100_000_000).contains(&u64::from_le_bytes(length)));
    plausible && head.get(8) == Some(&b'{')
}

/// `SavedModel` of TensorFlow: schema version 1, then a `MetaGraphDef` that starts with its `meta_info_def`. ONNX has the
/// producer's name there, which does not start with a line feed.
fn is_saved_model(head: &[u8]) -> bool {
    head.starts_with(&[0x08, 0x01, 0x12]) && after_length(head, 3).first() == Some(&0x0a)
}

/// `GraphDef` of TensorFlow: a `NodeDef` with its name, then its operator.
fn is_graph_def(head: &[u8]) -> bool {
    let node = if head.first() == Some(&0x0a) { after_length(head, 1) } else { &[] };
    let (Some(0x0a), Some(length)) = (node.first(), node.get(1)) else { return false };
    let end = usize::from(*length).saturating_add(2);
    *length < 0x80 && node.get(2..end).is_some_and(|name| name.is_ascii()) && node.get(end) == Some(&0x12)
}

/// What follows the protobuf length at `start`.
fn after_length(head: &[u8], start: usize) -> &[u8] {
    let length = head.iter().skip(start).take(10).position(|byte| byte & 0x80 == 0);
    length.and_then(|last| head.get(start + last + 1..)).unwrap_or_default()
}

fn text(head: &[u8]) -> Option<String> {
    if !head.iter().all(|byte| (0x20..0x7f).contains(byte) || matches!(byte, b'\t' | b'\n' | b'\r')) {
        return None;
    }
    let has = |words: &[u8]| head.windows(words.len()).any(|window| window == words);
    let what = if has(b"\"tree_info\"") {
        "a dump of a LightGBM model for people to read: save the model with `booster.save_model('model.txt')` and deploy that"
    } else if has(b"\"nodeid\"") || has(b":[f") && has(b"yes=") {
        "a dump of an XGBoost model for people to read: save the model with `booster.save_model('model.json')` and deploy that"
    } else if has(b"<PMML") {
        "a PMML model: export it to ONNX from the library that made it and deploy that"
    } else if has(b"git-lfs.github.com/spec") {
        "a Git LFS pointer, not the model itself: run `git lfs pull` and deploy the file that it fetches"
    } else {
        "a text file (JSON, XML or the like): export the model to ONNX and deploy that"
    };
    Some(what.to_owned())
}
