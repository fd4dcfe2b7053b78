//! Writes small ONNX models for the tests: just enough of `onnx.proto` by hand. Field numbers are those of the specification.

use inference::Datatype;

/// A protobuf message being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, field: u64, value: u64) -> Self {
        self.raw_varint(field << 3);
        self.raw_varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.raw_varint(field << 3 | 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    fn raw_varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

/// A dimension: a size, or a name for a variable one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dim {
    Size(u64),
    Named(&'static str),
}

/// ONNX's number of an element type.
fn element(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Fp32 => 1,
        Datatype::Uint8 => 2,
        Datatype::Int8 => 3,
        Datatype::Uint16 => 4,
        Datatype::Int16 => 5,
        Datatype::Int32 => 6,
        Datatype::Int64 => 7,
        Datatype::Bytes => 8,
        Datatype::Bool => 9,
        Datatype::Fp16 => 10,
        Datatype::Fp64 => 11,
        Datatype::Uint32 => 12,
        Datatype::Uint64 => 13,
        Datatype::Bf16 => 16,
    }
}

/// Type of a tensor.
pub(crate) fn tensor_type(datatype: Datatype, dims: &[Dim]) -> Message {
    let dim = |dim: &Dim| match dim {
        Dim::Size(size) => Message::default().varint(1, *size),
        Dim::Named(name) => Message::default().bytes(2, name),
    };
    let shape = dims.iter().fold(Message::default(), |shape, one| shape.message(1, &dim(one)));
    let tensor = Message::default().varint(1, element(datatype)).message(2, &shape);
    Message::default().message(1, &tensor)
}

/// Type of a sequence of maps from integers to floats, as scikit-learn's `ZipMap` gives.
pub(crate) fn zipmap_type() -> Message {
    let map = Message::default().varint(1, element(Datatype::Int64)).message(2, &tensor_type(Datatype::Fp32, &[]));
    let element = Message::default().message(5, &map);
    Message::default().message(4, &Message::default().message(1, &element))
}

/// A graph's node.
pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
    outputs.iter().fold(node, |node, output| node.bytes(2, output)).bytes(4, operator)
}

/// A node that turns elements into those of another type.
pub(crate) fn cast(input: &str, output: &str, to: Datatype) -> Message {
    let attribute = Message::default().bytes(1, "to").varint(3, element(to)).varint(20, 2);
    node("Cast", &[input], &[output]).message(5, &attribute)
}

/// A node of the machine-learning operators, with integer-list attributes.
pub(crate) fn ml_node(operator: &str, inputs: &[&str], outputs: &[&str], ints: &[(&str, &[u64])]) -> Message {
    let attribute = |(name, values): &(&str, &[u64])| {
        let attribute = Message::default().bytes(1, name).varint(20, 7);
        values.iter().fold(attribute, |attribute, value| attribute.varint(8, *value))
    };
    let node = node(operator, inputs, outputs).bytes(7, "ai.onnx.ml");
    ints.iter().fold(node, |node, ints| node.message(5, &attribute(ints)))
}

/// A model of `nodes` with named and typed inputs and outputs.
pub(crate) fn model(nodes: &[Message], inputs: &[(&str, Message)], outputs: &[(&str, Message)]) -> Vec<u8> {
    let value = |(name, kind): &(&str, Message)| Message::default().bytes(1, name).message(2, kind);
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node)).bytes(2, "g");
    let graph = inputs.iter().fold(graph, |graph, input| graph.message(11, &value(input)));
    let graph = outputs.iter().fold(graph, |graph, output| graph.message(12, &value(output)));
    let opset = Message::default().bytes(1, "").varint(2, 21);
    let ml = Message::default().bytes(1, "ai.onnx.ml").varint(2, 3);
    let model = Message::default().varint(1, 10).message(7, &graph).message(8, &opset).message(8, &ml);
    model.0
}

/// `y = x`, for one datatype and a variable number of elements.
pub(crate) fn identity(datatype: Datatype) -> Vec<u8> {
    let kind = tensor_type(datatype, &[Dim::Named("n")]);
    model(&[node("Identity", &["x"], &["y"])], &[("x", kind.clone())], &[("y", kind)])
}

/// `sum = a + b`, `difference = a - b`, rows of four.
pub(crate) fn sum_and_difference() -> Vec<u8> {
    let kind = tensor_type(Datatype::Fp32, &[Dim::Named("batch"), Dim::Size(4)]);
    model(
        &[node("Add", &["a", "b"], &["sum"]), node("Sub", &["a", "b"], &["difference"])],
        &[("a", kind.clone()), ("b", kind.clone())],
        &[("sum", kind.clone()), ("difference", kind)],
    )
}
