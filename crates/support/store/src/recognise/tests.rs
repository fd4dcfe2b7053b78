//! Tests of the recogniser.

use proptest::prelude::*;

use super::*;
use crate::fixture::{PICKLES, identity, zip as zipped_file};

fn what(bytes: &[u8]) -> String {
    refusal(&sample(bytes)).unwrap_or_default()
}

fn sample(bytes: &[u8]) -> Sample {
    let size = bytes.len() as u64;
    let tail = bytes[bytes.len().saturating_sub(TAIL_BYTES)..].to_vec();
    let members = zip::directory_range(&tail, size)
        .map(|range| usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
        .map(|range| zip::central_names(&bytes[range]))
        .unwrap_or_default();
    Sample { head: bytes[..bytes.len().min(HEAD_BYTES)].to_vec(), tail, size, members }
}

#[test]
fn an_onnx_file_may_be_a_model() {
    assert_eq!(what(&identity()), "");
}

#[test]
fn trees_may_be_a_model() {
    for bytes in
        [&b"{\"learner\": {}}"[..], b"{L\0\0\0\0\0\0\0\x07learner{", b"tree\nversion=v4\n", b"tree\r\nversion=v4\r\n"]
    {
        assert_eq!(what(bytes), "", "{bytes:?}");
    }
}

#[test]
fn pickles_of_every_protocol_are_known() {
    for (protocol, bytes) in PICKLES.iter().enumerate() {
        assert!(what(bytes).starts_with("a Python pickle"), "protocol {protocol}");
    }
    for small in [
        &b"I1\n."[..],
        b"K\x01.",
        b"(lp0\nI1\naI2\na.",
        b"]q\x00(K\x01K\x02e.",
        b"}q\x00X\x01\0\0\0aq\x01K\x01s.",
        b"N.",
    ] {
        assert!(what(small).starts_with("a Python pickle"), "{small:?}");
    }
}

#[test]
fn the_way_out_of_a_pickle_is_that_of_its_library() {
    assert!(what(b"\x80\x04\x8c\x05torch\x94.").contains("torch.onnx.export"));
    assert!(what(b"\x80\x04\x8c\x08lightgbm\x94.").contains("booster_.save_model('model.txt')"));
    assert!(what(b"\x80\x04\x8c\x07xgboost\x94.").contains("model.save_model('model.json')"));
    assert!(what(PICKLES[4]).contains("skl2onnx"));
}

#[test]
fn a_long_pickle_is_known_by_its_start() {
    // What joblib writes without compression: arrays lie between the opcodes, so the rest cannot be walked.
    let raw = [PICKLES[4], &[0xff; 20_000]].concat();
    assert!(what(&raw).starts_with("a Python pickle"));
    let items = "I7\naI8\na".repeat(2000);
    assert!(what(format!("(lp0\n{items}.").as_bytes()).starts_with("a Python pickle"));
}

#[test]
fn text_that_is_no_pickle_is_not_called_one() {
    for text in ["hello, this is a model\n", "I am a model.", "(see below).", ".", "Notes.\n"] {
        assert!(what(text.as_bytes()).starts_with("a text file"), "{text}: {}", what(text.as_bytes()));
    }
}

#[test]
fn archives_are_known_by_their_members() {
    let pickle: (&str, &[u8]) = ("m/data.pkl", PICKLES[2]);
    assert!(what(&zipped_file(&[pickle, ("m/version", b"3")])).contains("torch.save"));
    assert!(
        what(&zipped_file(&[pickle, ("m/code/__torch__.py", b""), ("m/constants.pkl", b"")])).contains("TorchScript")
    );
    assert!(
        what(&zipped_file(&[("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.h5", b"x")]))
            .contains("Keras")
    );
    assert!(what(&zipped_file(&[("a.npy", b"x")])).contains("NumPy"));
    assert!(what(&zipped_file(&[("m/saved_model.pb", b"x")])).contains("SavedModel"));
    assert!(what(&zipped_file(&[("scaler.joblib", b"x")])).contains("pickle"));
    assert!(what(&zipped_file(&[("model.onnx", b"x")])).contains("unpack it"));
    assert!(what(&zipped_file(&[])).contains("a zip archive"));
}

#[test]
fn the_last_member_of_a_large_archive_counts() {
    let names: Vec<String> = (0..2000).map(|at| format!("m/data/{at}")).collect();
    let mut members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"1234"[..])).collect();
    members.push(("m/constants.pkl", b"x"));
    assert!(what(&zipped_file(&members)).contains("TorchScript"));
}

#[test]
fn an_archive_that_is_cut_is_known_by_its_first_members() {
    let whole = zipped_file(&[("m/version", b"3"), ("m/data.pkl", PICKLES[2]), ("m/data/0", &[7; 500])]);
    assert!(what(&whole[..300]).contains("torch.save"));
}

#[test]
fn other_formats_are_named_with_what_to_do() {
    let tar = [&[b'm'; 257][..], b"ustar\x0000", &[0; 300]].concat();
    let cases: [(&[u8], &str); 23] = [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n....", "Keras"),
        (b"\x1f\x8b\x08\0\0", "compressed"),
        (b"\x78\x9c\x01\x02", "compressed"),
        (b"BZh91AY", "compressed"),
        (b"\xfd7zXZ\0", "compressed"),
        (b"\x5d\0\0\x80\0\xff\xff", "compressed"),
        (b"\x04\x22\x4d\x18", "compressed"),
        (b"\x28\xb5\x2f\xfd", "compressed"),
        (b"\x7fELF\x02\x01", "program"),
        (b"MZ\x90\0", "program"),
        (b"#!/bin/sh\n", "program"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x1c\0\0\0ORTM", "ONNX Runtime's own"),
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors"),
        (b"\x08\x01\x12\x10\x0a\x0e\x22\x05serve\x2a\x062.16.1", "SavedModel"),
        (b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder", "frozen TensorFlow graph"),
        (b"binf\0\0\0\x3f", "XGBoost"),
        (b"booster[0]:\n0:[f2<2.45] yes=1,no=2,missing=1\n", "XGBoost"),
        (b"{\"name\": \"tree\", \"tree_info\": []}", "LightGBM"),
        (&tar, "tar archive"),
    ];
    for (bytes, words) in cases {
        let text = what(bytes);
        assert!(
            text.contains(words) && (text.contains("deploy") || bytes.is_empty() || words == "NumPy"),
            "{words}: {text}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = refusal(&sample(&bytes));
    }

    #[test]
    fn changed_archives_have_an_answer(at in any::<prop::sample::Index>(), value in any::<[u8; 4]>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = zipped_file(&[("m/data.pkl", PICKLES[2]), ("config.json", b"{}"), ("metadata.json", b"{}")]);
        let at = at.index(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&value);
        bytes.truncate(cut.index(bytes.len()) + 1);
        prop_assert!(refusal(&sample(&bytes)).is_none_or(|text| !text.is_empty()));
    }

    #[test]
    fn changed_pickles_have_an_answer(which in 0_usize..6, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = PICKLES[which].to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = refusal(&sample(&bytes));
    }
}
