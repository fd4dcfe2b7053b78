//! Encoders with a tokeniser: which files are taken, and which are refused.

use inference::embeddings::settings::{SETTINGS_BYTES_MAX, TOKENISER_BYTES_MAX};

use super::*;
use crate::fixture::{PICKLES, XGBOOST};

const TOKENISER: &str =
    r#"{"version":"1.0","truncation":null,"model":{"type":"WordLevel","vocab":{},"unk_token":"a"}}"#;
const POOLING: &str = r#"{"pooling_mode_mean_tokens": true}"#;

fn refusal(bench: &Bench) -> String {
    let error = bench.store.push(&bench.directory.path().join("e")).unwrap_err();
    assert!(error.is_refusal() && bench.left_over().is_empty(), "{error}");
    error.to_string()
}

fn encoder() -> Bench {
    let bench = Bench::new();
    bench.file("e/model.onnx", identity());
    bench.file("e/tokenizer.json", TOKENISER);
    bench
}

#[test]
fn a_tokeniser_and_settings_stand_beside_a_model() {
    let bench = encoder();
    bench.file("e/1_Pooling/config.json", POOLING);
    bench.file("e/embeddings.json", r#"{"pooling": "cls", "maxTokens": 128}"#);
    bench.file("e/modules.json", "[]");
    bench.file("e/sentence_bert_config.json", r#"{"max_seq_length": 256}"#);
    let manifest = bench.store.push(&bench.directory.path().join("e")).unwrap().manifest;
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let wanted =
        ["1_Pooling/config.json", "embeddings.json", "model.onnx", "modules.json", "sentence_bert_config.json"];
    assert_eq!(paths, [&wanted[..], &["tokenizer.json"]].concat());
    assert_eq!(bench.store.verify(&manifest.digest()).unwrap(), manifest);
}

#[test]
fn settings_need_a_tokeniser_and_trees_need_none() {
    let bench = encoder();
    bench.file("e/1_Pooling/config.json", POOLING);
    fs::remove_file(bench.directory.path().join("e/tokenizer.json")).unwrap();
    assert!(
        refusal(&bench).contains("`1_Pooling/config.json` says how embeddings are made, which needs `tokenizer.json`")
    );
    bench.file("e/tokenizer.json", TOKENISER);
    fs::remove_file(bench.directory.path().join("e/model.onnx")).unwrap();
    bench.file("e/model.json", XGBOOST);
    assert!(refusal(&bench).contains("does not belong in a bundle"));
}

#[test]
fn what_is_no_tokeniser_is_refused_by_its_content() {
    let bench = encoder();
    let said = |content: &[u8]| {
        bench.file("e/tokenizer.json", content);
        refusal(&bench)
    };
    assert!(said(PICKLES[2]).contains("a Python pickle"));
    assert!(said(b"[1]").contains("`tokenizer.json` is not a tokeniser"));
    assert!(said(b"{\"a\": 1}").contains("`tokenizer.json` is not a tokeniser"));
    assert!(said(b"").contains("it is empty"));
    let path = bench.file("e/tokenizer.json", TOKENISER);
    fs::File::options().write(true).open(path).unwrap().set_len(TOKENISER_BYTES_MAX + 1).unwrap();
    assert!(refusal(&bench).contains("64 MiB"));
}

#[test]
fn wrong_settings_are_refused_at_once() {
    let bench = encoder();
    bench.file("e/embeddings.json", r#"{"pooling": "sum"}"#);
    assert!(refusal(&bench).contains("`embeddings.json`: unknown variant `sum`"));
    let path = bench.file("e/embeddings.json", "{}");
    fs::File::options().write(true).open(path).unwrap().set_len(SETTINGS_BYTES_MAX + 1).unwrap();
    assert!(refusal(&bench).contains("keep it shorter"));
}
