//! Where a model comes from: the values of `storageUri`.

use std::path::PathBuf;

use super::walk::clipped;
use crate::id::BundleDigest;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageSource {
    /// A model file or a bundle directory on this machine; an absolute path.
    File(PathBuf),
    /// A bundle of the store.
    Bundle(BundleDigest),
}

/// Schemes that are known from elsewhere and refused, each with the first step of what to do instead.
pub const SCHEMES: &[(&str, &str)] = &[
    ("s3", "fetch the model (`aws s3 cp --recursive`)"),
    ("gs", "fetch the model (`gcloud storage cp -r`)"),
    ("hf", "export the model to ONNX (docs/guide/embeddings.md)"),
    ("modelscope", "export the model to ONNX (docs/guide/embeddings.md)"),
    ("http", "fetch the model (`curl -O`)"),
    ("https", "fetch the model (`curl -O`)"),
    ("pvc", "copy the model from the volume (`kubectl cp`)"),
    ("oci", "take the model out of the image"),
    ("oci+native", "take the model out of the image"),
    ("oci+fetch", "take the model out of the image"),
    ("hdfs", "fetch the model (`hdfs dfs -get`)"),
    ("webhdfs", "fetch the model (`hdfs dfs -get`)"),
    ("git", "clone the repository"),
];

/// Longest path that Linux takes (`PATH_MAX`).
const PATH_LEN_MAX: usize = 4096;

/// Reads `file:///absolute/path` or `bundle://sha256:<hex>`. The path is taken as it is written; `%20` is no space.
///
/// # Errors
///
/// What is wrong, in words.
pub fn storage_source(uri: &str) -> Result<StorageSource, String> {
    if uri.chars().any(char::is_control) {
        return Err("has a control character: write the path without it".to_owned());
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        let instead = if uri.starts_with('/') { format!("file://{}", clipped(uri)) } else { "file:///…".to_owned() };
        return Err(format!("`{}` has no scheme: write `{instead}`", clipped(uri)));
    };
    match scheme {
        "file" => file(rest),
        "bundle" => bundle(rest),
        _ => Err(elsewhere(uri).unwrap_or_else(|| {
            format!("`{}://` is no known scheme: write `file:///…` or `bundle://sha256:…`", clipped(scheme))
        })),
    }
}

/// What to say of a place that Berth does not fetch from; nothing for another URI.
pub(super) fn elsewhere(uri: &str) -> Option<String> {
    let scheme = uri.split_once("://")?.0;
    let (_, how) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
    let uri = clipped(uri);
    Some(format!("`{uri}`: `{scheme}://` is not supported yet: {how} and write `file:///…` with its path"))
}

/// `file://./…` and `file://../…` as absolute, from the directory `base`; nothing for another URI.
pub(super) fn beside(uri: &str, base: &str) -> Option<String> {
    let relative = uri
        .strip_prefix("file://")
        .filter(|path| matches!(*path, "." | "..") || path.starts_with("./") || path.starts_with("../"))?;
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(format!("file:///{}", parts.join("/")))
}

fn file(path: &str) -> Result<StorageSource, String> {
    if !path.starts_with('/') {
        return Err(format!("`file://{}` is not absolute: write `file:///` and the whole path", clipped(path)));
    }
    if path.len() > PATH_LEN_MAX {
        return Err(format!("the path is longer than {PATH_LEN_MAX} bytes"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("`{}` has `..` in it: write the path without", clipped(path)));
    }
    Ok(StorageSource::File(PathBuf::from(path)))
}

fn bundle(digest: &str) -> Result<StorageSource, String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if hex.len() != 64 || !hex.bytes().all(is_digit) {
        return Err(format!(
            "`bundle://{}` names no bundle: write `bundle://sha256:` and 64 hexadecimal digits",
            clipped(digest)
        ));
    }
    Ok(StorageSource::Bundle(BundleDigest(digest.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        assert_eq!(storage_source("file:///a b/m.onnx"), Ok(StorageSource::File("/a b/m.onnx".into())));
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(storage_source(&format!("bundle://{digest}")), Ok(StorageSource::Bundle(BundleDigest(digest))));
    }

    #[test]
    fn paths_beside_the_manifest() {
        let beside = |uri| beside(uri, "/a/b");
        assert_eq!(beside("file://./m.onnx").as_deref(), Some("file:///a/b/m.onnx"));
        assert_eq!(beside("file://../x/./m").as_deref(), Some("file:///a/x/m"));
        assert_eq!(beside("file://../../../m").as_deref(), Some("file:///m"));
        assert_eq!(beside("file://.").as_deref(), Some("file:///a/b"));
        assert_eq!((beside("file:///m"), beside("file://m"), beside("s3://./m")), (None, None, None));
    }

    #[test]
    fn what_is_refused() {
        let upper = format!("bundle://sha256:{}", "0A".repeat(32));
        let long = format!("file:///{}", "a".repeat(5000));
        for (uri, word) in [
            ("/models/a.onnx", "file:///models/a.onnx"),
            ("file://a.onnx", "not absolute"),
            ("file:///a/../b", "`..`"),
            ("file:///a\nb", "control character"),
            ("s3://bucket/a", "not supported yet"),
            ("ftp://a", "no known scheme"),
            ("bundle://sha256:12", "64 hexadecimal"),
            (&upper, "64 hexadecimal"),
            (&long, "longer than"),
            ("", "no scheme"),
        ] {
            let message = storage_source(uri).unwrap_err();
            assert!(message.contains(word), "{uri}: {message}");
        }
    }
}
