//! Tests of the store: what it takes, what it refuses, and what is left when a push does not end.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;
use crate::fixture::{external, identity};

mod crash;
mod encoder;
mod refusals;
mod trees;

/// A store and a place for sources.
struct Bench {
    directory: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// A file outside the store.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A bundle directory with everything in it.
    fn bundle(&self) -> PathBuf {
        self.file("b/model.onnx", external(&["weights.bin", "./more//w"]));
        self.file("b/weights.bin", [1; 100]);
        self.file("b/more/w", [2; 100]);
        self.file("b/golden.json", r#"{"cases": [{"request": {"inputs": []}, "response": {"outputs": []}}]}"#);
        self.file("b/bundle.yaml", "name: spam\nlicense: MIT\nclasses: {y: [ham, spam]}\n");
        self.directory.path().join("b")
    }

    /// Files below the store that are not in a whole bundle and not a blob.
    fn left_over(&self) -> Vec<PathBuf> {
        files_below(&self.root().join("tmp"))
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.is_dir() {
            found.extend(files_below(&path));
        }
    }
    found
}

#[test]
fn a_file_becomes_a_bundle() {
    let bench = Bench::new();
    let pushed = bench.store.push(&bench.file("anything.bin", identity())).unwrap();
    assert!(pushed.is_new && pushed.digest.starts_with("sha256:"));
    assert_eq!(pushed.manifest.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["model.onnx"]);
    assert_eq!(pushed.manifest.inputs[0].shape, [-1, 2]);
    assert_eq!(bench.store.list().unwrap(), std::slice::from_ref(&pushed.digest));
    assert_eq!(bench.store.verify(&pushed.digest).unwrap(), pushed.manifest);
    assert_eq!(bench.store.manifest(&pushed.digest).unwrap(), pushed.manifest);
    let directory = bench.store.bundle_dir(&pushed.digest).unwrap();
    assert_eq!(fs::read(directory.join(MODEL_FILE)).unwrap(), identity());
    assert!(bench.left_over().is_empty());
}

#[test]
fn a_directory_becomes_a_bundle_with_all_it_needs() {
    let bench = Bench::new();
    let manifest = bench.store.push(&bench.bundle()).unwrap().manifest;
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["bundle.yaml", "golden.json", "model.onnx", "more/w", "weights.bin"]);
    assert_eq!(manifest.name.as_deref(), Some("spam"));
    assert_eq!(manifest.license.as_deref(), Some("MIT"));
    assert_eq!(manifest.classes["y"], ["ham", "spam"]);
}

#[test]
fn the_manifest_is_canonical_and_its_digest_is_pinned() {
    let manifest = BundleManifest {
        schema_version: 1,
        format: "onnx".to_owned(),
        files: vec![BundleFile { path: "model.onnx".to_owned(), size: 3, sha256: "00".repeat(32) }],
        inputs: vec![TensorInfo { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1, 2] }],
        outputs: Vec::new(),
        opsets: [("ai.onnx".to_owned(), 21)].into(),
        producer: None,
        classes: [("y".to_owned(), vec!["ham".to_owned()])].into(),
        name: None,
        description: None,
        license: Some("MIT".to_owned()),
        source: None,
    };
    let expected = format!(
        r#"{{"classes":{{"y":["ham"]}},"files":[{{"path":"model.onnx","sha256":"{}","size":3}}],"format":"onnx","inputs":[{{"datatype":"FP32","name":"x","shape":[-1,2]}}],"license":"MIT","opsets":{{"ai.onnx":21}},"outputs":[],"schemaVersion":1}}"#,
        "00".repeat(32)
    );
    assert_eq!(String::from_utf8(manifest.canonical()).unwrap(), expected);
    assert_eq!(manifest.digest(), "sha256:7e48929915234eef36f1823eda4bdc85513694fe51be031d0415387822c287a0");
}

#[test]
fn what_is_stored_is_read_only_and_the_owners_alone() {
    let bench = Bench::new();
    let digest = bench.store.push(&bench.bundle()).unwrap().digest;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let directory = bench.store.bundle_dir(&digest).unwrap();
    for file in ["model.onnx", "more/w", MANIFEST_FILE] {
        assert_eq!(mode(&directory.join(file)), 0o444, "{file}");
    }
    for path in [&directory, &directory.join("more"), &bench.root(), &bench.root().join("bundles")] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
}

#[test]
fn the_same_content_is_the_same_bundle_and_the_same_file() {
    let bench = Bench::new();
    let source = bench.bundle();
    let first = bench.store.push(&source).unwrap();
    let again = bench.store.push(&source).unwrap();
    assert_eq!((again.digest.clone(), again.is_new), (first.digest.clone(), false));
    fs::write(source.join("bundle.yaml"), "name: ham\n").unwrap();
    let other = bench.store.push(&source).unwrap();
    assert_ne!(other.digest, first.digest);
    let inode =
        |digest: &str, file: &str| fs::metadata(bench.store.bundle_dir(digest).unwrap().join(file)).unwrap().ino();
    assert_eq!(inode(&first.digest, "model.onnx"), inode(&other.digest, "model.onnx"));
    assert_ne!(inode(&first.digest, "bundle.yaml"), inode(&other.digest, "bundle.yaml"));
    assert!(bench.left_over().is_empty());
    bench.store.verify(&first.digest).unwrap();
    bench.store.verify(&other.digest).unwrap();
}

#[test]
fn pushes_at_the_same_time_agree() {
    let bench = Bench::new();
    let source = bench.bundle();
    let digests: BTreeSet<String> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..8).map(|_| scope.spawn(|| bench.store.push(&source).unwrap().digest)).collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    assert_eq!(digests.len(), 1);
    bench.store.verify(digests.first().unwrap()).unwrap();
    assert!(bench.left_over().is_empty());
}

#[test]
fn progress_reaches_the_whole() {
    let bench = Bench::new();
    let source = bench.bundle();
    fs::write(source.join("weights.bin"), vec![7; 1_000_000]).unwrap();
    let mut told = Vec::new();
    bench.store.push_with_progress(&source, &mut |done, total| told.push((done, total))).unwrap();
    let (done, total) = told.last().copied().unwrap();
    assert_eq!(done, total);
    assert!(told.len() > 5 && told.is_sorted());
    assert!(told.iter().all(|(done, of)| done <= of && *of == total));
}

#[test]
fn damage_is_found_and_a_new_push_repairs_it() {
    let bench = Bench::new();
    let source = bench.bundle();
    let digest = bench.store.push(&source).unwrap().digest;
    let directory = bench.store.bundle_dir(&digest).unwrap();
    let change = |file: &str, content: &[u8]| {
        let path = directory.join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, content).unwrap();
    };
    change("weights.bin", &[9; 100]);
    let error = bench.store.verify(&digest).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("weights.bin"), "{error}");
    // The blob is the same file, so it is damaged too and must not come back.
    assert!(bench.store.push(&source).unwrap().is_new);
    bench.store.verify(&digest).unwrap();
    change(MANIFEST_FILE, b"{}");
    assert!(bench.store.verify(&digest).is_err());
    bench.store.push(&source).unwrap();
    fs::remove_file(directory.join("model.onnx")).unwrap();
    assert!(bench.store.verify(&digest).unwrap_err().to_string().contains("model.onnx"));
    bench.store.push(&source).unwrap();
    fs::write(directory.join("more/evil.so"), "x").unwrap();
    assert!(bench.store.verify(&digest).unwrap_err().to_string().contains("more/evil.so"));
    bench.store.push(&source).unwrap();
    bench.store.verify(&digest).unwrap();
    assert!(bench.left_over().is_empty());
}

#[test]
fn a_link_in_a_stored_bundle_is_damage() {
    let bench = Bench::new();
    let digest = bench.store.push(&bench.bundle()).unwrap().digest;
    let directory = bench.store.bundle_dir(&digest).unwrap();
    let twin = bench.file("twin", [1; 100]);
    fs::remove_file(directory.join("weights.bin")).unwrap();
    symlink(twin, directory.join("weights.bin")).unwrap();
    assert!(matches!(bench.store.verify(&digest), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_bundle_under_the_name_of_another_is_damage() {
    let bench = Bench::new();
    let first = bench.store.push(&bench.bundle()).unwrap().digest;
    let other = bench.store.push(&bench.file("m.onnx", identity())).unwrap().digest;
    let directory = bench.store.bundle_dir(&first).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(bench.store.bundle_dir(&other).unwrap(), &directory).unwrap();
    assert!(matches!(bench.store.verify(&first), Err(StoreError::Damaged { .. })));
}

#[test]
fn digests_are_checked_before_they_become_paths() {
    let bench = Bench::new();
    for wrong in ["", "sha256:", "sha256:../../x", &"a".repeat(64), &format!("sha256:{}", "A".repeat(64))] {
        assert!(matches!(bench.store.verify(wrong), Err(StoreError::NotADigest(_))), "{wrong}");
    }
    let unknown = format!("sha256:{}", "a".repeat(64));
    assert!(matches!(bench.store.bundle_dir(&unknown), Err(StoreError::UnknownBundle(_))));
    assert!(matches!(bench.store.remove(&unknown), Err(StoreError::UnknownBundle(_))));
}

#[test]
fn what_nothing_refers_to_is_collected() {
    let bench = Bench::new();
    let source = bench.bundle();
    let old = bench.store.push(&source).unwrap().digest;
    fs::write(source.join("bundle.yaml"), "name: ham\n").unwrap();
    let live = bench.store.push(&source).unwrap().digest;
    let blobs = || fs::read_dir(bench.root().join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 6);
    assert!(bench.store.collect(&BTreeSet::new(), Duration::from_secs(3600)).unwrap().is_empty(), "both are young");
    let removed = bench.store.collect(&BTreeSet::from([live.clone()]), Duration::ZERO).unwrap();
    assert_eq!(removed, std::slice::from_ref(&old));
    assert_eq!(blobs(), 5);
    bench.store.verify(&live).unwrap();
    assert!(matches!(bench.store.verify(&old), Err(StoreError::UnknownBundle(_))));
    bench.store.remove(&live).unwrap();
    bench.store.collect(&BTreeSet::new(), Duration::ZERO).unwrap();
    assert_eq!(blobs(), 0);
    assert!(bench.store.list().unwrap().is_empty() && bench.left_over().is_empty());
}

#[test]
fn opening_removes_rubbish_unless_somebody_is_at_work() {
    let bench = Bench::new();
    let rubbish = bench.root().join("tmp/push-dead/bundle");
    fs::create_dir_all(&rubbish).unwrap();
    {
        let _push = bench.store.at_work().unwrap();
        Store::open(&bench.root()).unwrap();
        assert!(rubbish.exists());
    }
    Store::open(&bench.root()).unwrap();
    assert!(bench.left_over().is_empty());
}
