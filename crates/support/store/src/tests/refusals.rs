//! Every kind of file that is refused, made here, under a name that says it is fine.

use std::{fs::File, os::unix::net::UnixListener};

use super::*;
use crate::fixture::{Message, PICKLES, graph, model, node, zip};

fn refusal(bench: &Bench, source: &Path) -> String {
    let error = bench.store.push(source).unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(bench.store.list().unwrap().is_empty() && bench.left_over().is_empty());
    let text = error.to_string();
    assert!(!text.ends_with('.') && !text.contains('\n') && text.len() < 600, "{text}");
    text
}

fn refuses(bytes: &[u8], words: &[&str]) {
    let bench = Bench::new();
    // Whatever the file is called, its content decides.
    for name in ["model.onnx", "b/model.onnx"] {
        let text = refusal(&bench, &bench.file(name, bytes));
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }
    let text = refusal(&bench, &bench.directory.path().join("b"));
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn files_that_run_code() {
    for pickle in PICKLES {
        refuses(pickle, &["pickle", "runs code", "ONNX", "skl2onnx"]);
    }
    let joblib = [PICKLES[4], &[0xee; 5000], b"."].concat();
    refuses(&joblib, &["pickle", "joblib"]);
    refuses(b"\x78\x9c\x4b\xcb\xcf\x07\x00", &["compressed", "joblib", "ONNX"]);
    refuses(&zip(&[("m/data.pkl", PICKLES[2])]), &["torch.save", "torch.onnx.export"]);
    refuses(&zip(&[("m/code/x.py", b""), ("m/constants.pkl", b"")]), &["TorchScript", "torch.onnx.export"]);
    refuses(
        &zip(&[("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.h5", b"")]),
        &["Keras", "tf2onnx"],
    );
    refuses(b"\x89HDF\r\n\x1a\n\0\0\0\0", &["HDF5", "Keras", "tf2onnx"]);
    refuses(b"\x7fELF\x02\x01\x01\0", &["program"]);
    refuses(b"#!/bin/sh\nrm -rf /\n", &["program"]);
}

#[test]
fn files_that_are_something_else() {
    refuses(b"", &["empty"]);
    refuses(b"\x08\x01\x12\x10\x0a\x0e\x22\x05serve\x2a\x062.16.1", &["SavedModel", "tf2onnx"]);
    refuses(b"\x1f\x8b\x08\0\0\0\0\0", &["compressed", "unpack"]);
    refuses(&[&[b'm'; 257][..], b"ustar\x0000", &[0; 300]].concat(), &["tar", "unpack"]);
    refuses(&zip(&[("model.onnx", &identity())]), &["zip", "unpack"]);
    refuses(b"just a text\n", &["text file", "ONNX"]);
    refuses(&[0; 4096], &["not a whole ONNX model", "ONNX"]);
    let noise: Vec<u8> = (0..4096_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    refuses(&noise, &["not a whole ONNX model", "ONNX"]);
}

#[test]
fn onnx_that_cannot_be_served() {
    let whole = identity();
    refuses(&whole[..whole.len() / 2], &["cut off", "interrupted"]);
    refuses(&whole[..whole.len() - 1], &["not a whole ONNX model"]);
    refuses(&model(&graph().message(1, &node("Shout", "com.evil"))).0, &["`com.evil`", "standard operators"]);
    refuses(&model(&Message::default()).0, &["no outputs"]);
}

#[test]
fn a_file_over_the_limit() {
    let bench = Bench::new();
    let sized = |bytes: u64| {
        // Sparse: it takes no room.
        File::options().write(true).open(bench.file("m.onnx", identity())).unwrap().set_len(bytes).unwrap();
        bench.directory.path().join("m.onnx")
    };
    assert!(refusal(&bench, &sized(FILE_BYTES_MAX + 1)).contains("4 GiB"));
    let text = refusal(&bench, &sized(MODEL_BYTES_MAX + 1));
    assert!(text.contains("2 GiB") && text.contains("external data"), "{text}");
}

/// What is wrong with a bundle directory.
fn changed(change: impl Fn(&Path), words: &[&str]) {
    let bench = Bench::new();
    let source = bench.bundle();
    change(&source);
    let text = refusal(&bench, &source);
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn links_and_devices() {
    changed(
        |bundle| {
            fs::rename(bundle.join("weights.bin"), bundle.join("../out.bin")).unwrap();
            symlink("../out.bin", bundle.join("weights.bin")).unwrap();
        },
        &["weights.bin", "symbolic link", "copy"],
    );
    changed(
        |bundle| {
            fs::rename(bundle.join("more"), bundle.join("../outside")).unwrap();
            symlink("../outside", bundle.join("more")).unwrap();
        },
        &["more", "symbolic link"],
    );
    changed(
        |bundle| fs::hard_link(bundle.join("weights.bin"), bundle.join("../twin")).unwrap(),
        &["weights.bin", "hard link", "cp"],
    );
    changed(
        |bundle| {
            fs::remove_file(bundle.join("weights.bin")).unwrap();
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, bundle.join("weights.bin"), mode).unwrap();
        },
        &["weights.bin", "pipe"],
    );
    changed(
        |bundle| {
            fs::remove_file(bundle.join("weights.bin")).unwrap();
            drop(UnixListener::bind(bundle.join("weights.bin")).unwrap());
        },
        &["weights.bin", "socket"],
    );
    let bench = Bench::new();
    let twin = bench.directory.path().join("link.onnx");
    symlink(bench.file("m.onnx", identity()), &twin).unwrap();
    assert!(refusal(&bench, &twin).contains("symbolic link"));
    assert!(refusal(&bench, Path::new("/dev/zero")).contains("`/dev/zero` is a device"));
    let missing = bench.store.push(&bench.directory.path().join("nowhere")).unwrap_err();
    assert!(!missing.is_refusal() && missing.to_string().contains("nowhere"), "{missing}");
}

#[test]
fn weights_outside_the_bundle() {
    for location in ["../out.bin", "more/../../out.bin", "/etc/passwd", "", ".", "*/_ORT_MEM_ADDR_/*", "a\\b"] {
        changed(
            |bundle| fs::write(bundle.join("model.onnx"), external(&["weights.bin", "more/w", location])).unwrap(),
            &["outside its bundle", location],
        );
    }
    changed(|bundle| fs::remove_file(bundle.join("more/w")).unwrap(), &["more//w", "not there"]);
    changed(|bundle| fs::write(bundle.join("model.onnx"), external(&["a\u{1b}[2J\n"])).unwrap(), &["`a\\u{1b}[2J\\n`"]);
    changed(
        |bundle| fs::write(bundle.join("model.onnx"), external(&["weights.bin", "more/w", "golden.json"])).unwrap(),
        &["golden.json", "under another"],
    );
    let bench = Bench::new();
    let text = refusal(&bench, &bench.file("m.onnx", external(&["weights.bin"])));
    assert!(text.contains("weights.bin") && text.contains("directory"), "{text}");
}

#[test]
fn what_does_not_belong_in_a_bundle() {
    changed(|bundle| fs::write(bundle.join("notes.txt"), "x").unwrap(), &["notes.txt", "does not belong"]);
    changed(|bundle| fs::write(bundle.join("more/scaler.pkl"), PICKLES[2]).unwrap(), &["more/scaler.pkl"]);
    changed(|bundle| fs::write(bundle.join(MANIFEST_FILE), "{}").unwrap(), &[MANIFEST_FILE]);
    changed(|bundle| fs::remove_file(bundle.join("model.onnx")).unwrap(), &["no `model.onnx`"]);
    changed(
        |bundle| fs::rename(bundle.join("model.onnx"), bundle.join("spam.onnx")).unwrap(),
        &["rename `spam.onnx`", "no `model.onnx`"],
    );
    changed(
        |bundle| (0..80).for_each(|at| fs::write(bundle.join(format!("{at}.bin")), "x").unwrap()),
        &["more than 64 files"],
    );
    changed(|bundle| fs::create_dir_all(bundle.join("1/2/3/4/5/6/7/8/9")).unwrap(), &["nested"]);
}

#[test]
fn notes_that_are_wrong() {
    let notes = |yaml: &str, words: &[&str]| changed(|bundle| fs::write(bundle.join(NOTES_FILE), yaml).unwrap(), words);
    notes("licence: MIT\n", &["bundle.yaml", "licence", "did you mean `license`?"]);
    notes("zzzzzzzzzzz: MIT\n", &["bundle.yaml", "zzzzzzzzzzz"]);
    notes("a: [1", &["bundle.yaml"]);
    notes("classes: {z: [a, b]}", &["`z`", "it has `y`"]);
    notes("classes: {y: [a, b, c]}", &["3 labels", "`y`"]);
    notes("classes: [a]", &["bundle.yaml"]);
    changed(|bundle| fs::write(bundle.join(NOTES_FILE), [0xff, 0xfe]).unwrap(), &["UTF-8"]);
    changed(|bundle| fs::write(bundle.join(NOTES_FILE), vec![b'#'; 300_000]).unwrap(), &["bundle.yaml", "bytes"]);
    let bench = Bench::new();
    let source = bench.bundle();
    fs::write(source.join(NOTES_FILE), "# nothing yet\n").unwrap();
    bench.store.push(&source).unwrap();
}

#[test]
fn golden_cases_that_are_wrong() {
    let golden =
        |json: &str, words: &[&str]| changed(|bundle| fs::write(bundle.join(GOLDEN_FILE), json).unwrap(), words);
    golden("{", &["golden.json"]);
    golden("[]", &["golden.json"]);
    golden(r#"{"cases": []}"#, &["no cases"]);
    golden(r#"{"cases": [{"request": {"inputs": []}}]}"#, &["response"]);
    golden(r#"{"cases": [{"request": {}, "response": {"outputs": []}}]}"#, &["case `0`", "`inputs`"]);
    golden(
        r#"{"cases": [{"request": {"inputs": []}, "response": {"outputs": []}, "tolerence": 1}]}"#,
        &["`tolerance`"],
    );
    golden(
        r#"{"cases": [{"request": {"inputs": []}, "response": {"outputs": []}, "tolerance": -1}]}"#,
        &["zero or more"],
    );
    golden(&"[".repeat(100_000), &["golden.json"]);
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let bench = Bench::new();
    let source = bench.bundle();
    let weights = source.join("weights.bin");
    let mut grown = false;
    let error = bench
        .store
        .push_with_progress(&source, &mut |_, _| {
            if !grown {
                grown = true;
                fs::write(&weights, [3; 5000]).unwrap();
            }
        })
        .unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("changed while it was read"), "{error}");
}
