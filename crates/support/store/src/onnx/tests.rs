//! Tests of the ONNX reader.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::fixture::{self, Message, graph, model, node, tensor, tensor_type, value};

fn read_bytes(bytes: &[u8]) -> Result<OnnxModel, OnnxError> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

fn info(name: &str, datatype: &str, shape: &[i64]) -> TensorInfo {
    TensorInfo { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec() }
}

#[test]
fn inputs_outputs_operator_sets_and_producer_are_read() {
    let graph = graph().message(12, &value("label", &tensor_type(8, &[None])));
    let ml = Message::default().bytes(1, "ai.onnx.ml").varint(2, 3);
    let read = read_bytes(&model(&graph).message(8, &ml).0).unwrap();
    assert_eq!(read.inputs, [info("x", "FP32", &[-1, 2])]);
    assert_eq!(read.outputs, [info("y", "FP32", &[-1, 2]), info("label", "BYTES", &[-1])]);
    assert_eq!(
        read.opsets.iter().map(|(name, version)| (name.as_str(), *version)).collect::<Vec<_>>(),
        [("ai.onnx", 21), ("ai.onnx.ml", 3)]
    );
    assert_eq!(read.producer.as_deref(), Some("test 1.2"));
    assert!(read.external.is_empty());
}

#[test]
fn every_datatype_has_its_name_and_others_are_refused() {
    for (element, name) in [(1, "FP32"), (9, "BOOL"), (10, "FP16"), (11, "FP64"), (13, "UINT64"), (16, "BF16")] {
        let graph = graph().message(11, &value("z", &tensor_type(element, &[])));
        assert_eq!(read_bytes(&model(&graph).0).unwrap().inputs[1], info("z", name, &[]));
    }
    let complex = graph().message(11, &value("z", &tensor_type(14, &[])));
    assert!(read_bytes(&model(&complex).0).unwrap_err().to_string().contains("`z` has the element type 14"));
    let sequence = graph().message(12, &value("z", &Message::default().message(4, &Message::default())));
    assert!(read_bytes(&model(&sequence).0).unwrap_err().to_string().contains("zipmap"));
}

#[test]
fn an_initialiser_is_no_input() {
    let rows = tensor_type(1, &[]);
    let graph = graph().message(11, &value("w", &rows)).message(11, &value("s", &rows)).message(5, &tensor("w", None));
    let sparse = Message::default().message(1, &tensor("s", None));
    let read = read_bytes(&model(&graph.message(15, &sparse)).0).unwrap();
    assert_eq!(read.inputs, [info("x", "FP32", &[-1, 2])]);
}

#[test]
fn external_data_is_found_wherever_it_can_be() {
    let outside = |name: &str| tensor(name, Some(name));
    let attribute = |field: u64, message: &Message| Message::default().bytes(1, "a").message(field, message);
    let inner = Message::default().message(5, &outside("in-a-subgraph"));
    let deep = Message::default().message(1, &node("If", "").message(5, &attribute(11, &inner)));
    let sparse = Message::default().message(1, &outside("sparse-values")).message(2, &outside("sparse-indices"));
    let node = node("Loop", "")
        .message(5, &attribute(5, &outside("attribute")))
        .message(5, &attribute(10, &outside("attributes")))
        .message(5, &attribute(22, &sparse))
        .message(5, &attribute(6, &deep));
    let graph = graph().message(1, &node).message(5, &outside("initialiser"));
    let function = Message::default()
        .bytes(10, "own")
        .message(7, &Message::default().message(5, &attribute(5, &outside("function"))))
        .message(11, &attribute(5, &outside("function-default")));
    let training = Message::default().message(2, &Message::default().message(5, &outside("training")));
    let read = read_bytes(&model(&graph).message(25, &function).message(20, &training).0).unwrap();
    let found: Vec<&str> = read.external.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "attribute",
            "attributes",
            "function",
            "function-default",
            "in-a-subgraph",
            "initialiser",
            "sparse-indices",
            "sparse-values",
            "training"
        ]
    );
}

#[test]
fn operators_of_unknown_domains_are_refused_unless_the_model_defines_them() {
    let graph = graph().message(1, &node("Shout", "com.evil"));
    let text = read_bytes(&model(&graph).0).unwrap_err().to_string();
    assert!(text.contains("`com.evil`"), "{text}");
    let function = Message::default().bytes(1, "Shout").bytes(10, "com.evil");
    assert!(read_bytes(&model(&graph).message(25, &function).0).is_ok());
    let nested = Message::default().message(1, &node("Shout", "com.evil"));
    let attribute = Message::default().message(6, &nested);
    let graph = fixture::graph().message(1, &node("If", "").message(5, &attribute));
    assert!(read_bytes(&model(&graph).0).is_err());
    // An import alone runs nothing.
    let import = Message::default().bytes(1, "com.evil").varint(2, 1);
    assert!(read_bytes(&model(&fixture::graph()).message(8, &import).0).is_ok());
}

#[test]
fn graphs_nest_so_deep_and_no_deeper() {
    let nest = |levels: u32| {
        let mut inner = Message::default();
        for _ in 0..levels {
            inner = Message::default().message(1, &node("If", "").message(5, &Message::default().message(6, &inner)));
        }
        model(&graph().message(1, &node("If", "").message(5, &Message::default().message(6, &inner)))).0
    };
    assert!(read_bytes(&nest(DEPTH_MAX - 1)).is_ok());
    assert!(read_bytes(&nest(DEPTH_MAX)).is_err());
    // Each level costs bytes of its own, so this file is as deep as one can be: nothing may overflow.
    assert!(read_bytes(&nest(2000)).is_err());
}

#[test]
fn lists_that_are_too_long_are_refused() {
    let dims: Vec<_> = (0..=RANK_MAX as u64).map(Some).collect();
    let graph = graph().message(11, &value("z", &tensor_type(1, &dims)));
    assert!(read_bytes(&model(&graph).0).is_err());
    let name = "n".repeat(65 * 1024);
    let graph = fixture::graph().message(11, &value(&name, &tensor_type(1, &[])));
    assert!(matches!(read_bytes(&model(&graph).0), Err(OnnxError::NotOnnx(_))));
}

#[test]
fn a_cut_file_is_never_a_model() {
    let whole = model(&graph()).0;
    assert!(read_bytes(&whole).is_ok());
    // The operator set comes last, so that every cut loses something that a model must have.
    for length in 0..whole.len() {
        assert!(matches!(read_bytes(&whole[..length]), Err(OnnxError::NotOnnx(_))), "{length}");
    }
    assert!(read_bytes(&[&whole[..], &[0xff, 0xff]].concat()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn a_changed_model_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let attribute = Message::default().message(6, &graph()).message(22, &Message::default().message(1, &tensor("s", Some("f"))));
        let graph = graph().message(1, &node("If", "a").message(5, &attribute)).message(5, &tensor("w", Some("f")));
        let mut bytes = model(&graph).0;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = read_bytes(&bytes);
    }

    /// What the reader gives is what was written, whatever the names and sizes.
    #[test]
    fn names_and_shapes_survive(name in "\\PC{1,20}", dims in prop::collection::vec(prop::option::of(0..i64::MAX as u64), 0..6)) {
        let graph = Message::default().message(12, &value(&name, &tensor_type(7, &dims)));
        let read = read_bytes(&model(&graph).0).unwrap();
        let shape: Vec<i64> = dims.iter().map(|dim| dim.map_or(-1, |size| i64::try_from(size).unwrap())).collect();
        prop_assert_eq!(read.outputs, [info(&name, "INT64", &shape)]);
    }
}
