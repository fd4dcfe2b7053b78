//! Writes small ONNX models for the tests: just enough of `onnx.proto` by hand.

/// A protobuf message being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn varint(mut self, field: u64, value: u64) -> Self {
        self.raw(field << 3);
        self.raw(value);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.raw(field << 3 | 2);
        self.raw(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn raw(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A tensor's type: ONNX's number of the element type, and dimensions, `None` for a variable one.
pub(crate) fn tensor_type(element: u64, dims: &[Option<u64>]) -> Message {
    let dim = |dim: &Option<u64>| match dim {
        Some(size) => Message::default().varint(1, *size),
        None => Message::default().bytes(2, "n"),
    };
    let shape = dims.iter().fold(Message::default(), |shape, one| shape.message(1, &dim(one)));
    Message::default().message(1, &Message::default().varint(1, element).message(2, &shape))
}

/// A named and typed input or output.
pub(crate) fn value(name: &str, kind: &Message) -> Message {
    Message::default().bytes(1, name).message(2, kind)
}

/// A node of the default domain, or of another.
pub(crate) fn node(operator: &str, domain: &str) -> Message {
    let node = Message::default().bytes(1, "x").bytes(2, "y").bytes(4, operator);
    if domain.is_empty() { node } else { node.bytes(7, domain) }
}

/// An initialiser, with its data in `location` when that is given.
pub(crate) fn tensor(name: &str, location: Option<&str>) -> Message {
    let tensor = Message::default().varint(1, 1).varint(2, 1).bytes(8, name);
    match location {
        None => tensor.bytes(9, [0, 0, 128, 63]),
        Some(location) => {
            let entry = |key: &str, value: &str| Message::default().bytes(1, key).bytes(2, value);
            tensor.message(13, &entry("location", location)).message(13, &entry("offset", "0")).varint(14, 1)
        }
    }
}

/// A model around a graph.
pub(crate) fn model(graph: &Message) -> Message {
    let opset = Message::default().varint(2, 21);
    Message::default().varint(1, 10).bytes(2, "test").bytes(3, "1.2").message(7, graph).message(8, &opset)
}

/// A graph of `y = f(x)` for rows of two.
pub(crate) fn graph() -> Message {
    let rows = tensor_type(1, &[None, Some(2)]);
    Message::default()
        .message(1, &node("Identity", ""))
        .bytes(2, "g")
        .message(11, &value("x", &rows))
        .message(12, &value("y", &rows))
}

/// The model of [`graph`].
pub(crate) fn identity() -> Vec<u8> {
    model(&graph()).0
}

/// A model with weights in files beside it.
pub(crate) fn external(locations: &[&str]) -> Vec<u8> {
    let graph = locations.iter().fold(graph(), |graph, at| graph.message(5, &tensor(&format!("w-{at}"), Some(at))));
    model(&graph).0
}

/// A zip archive of stored members.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut central) = (Vec::new(), Vec::new());
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    for (name, content) in members {
        let start = file.len();
        // Flags, method, time, date, CRC, both sizes, the name's length and the extra field's.
        let sizes = [long(content.len()), long(content.len())].concat();
        let common = [&[0; 12][..], &sizes, &short(name.len()), &short(0)].concat();
        file.extend([b"PK\x03\x04\x14\0", &common[..], name.as_bytes(), content].concat());
        central.extend([b"PK\x01\x02\x14\0\x14\0", &common[..], &[0; 10], &long(start), name.as_bytes()].concat());
    }
    let counts = [short(members.len()), short(members.len())].concat();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &counts, &long(central.len()), &long(file.len()), &short(0)].concat();
    [file, central, end].concat()
}

/// Pickles of one `OrderedDict` by CPython, protocols 0 to 5.
pub(crate) const PICKLES: [&[u8]; 6] = [
    b"ccollections\nOrderedDict\np0\n(tRp1\nVa\np2\n(lp3\nI1\naF-2.5\nasVb\np4\n(Vx\np5\nNI01\ntp6\nsVc\np7\n(dp8\nI1\nc_codecs\nencode\np9\n(Vzz\np10\nVlatin1\np11\ntp12\nRp13\nss.",
    b"ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02]q\x03(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x04(X\x01\x00\x00\x00xq\x05NI01\ntq\x06X\x01\x00\x00\x00cq\x07}q\x08K\x01c_codecs\nencode\nq\x09(X\x02\x00\x00\x00zzq\nX\x06\x00\x00\x00latin1q\x0btq\x0cRq\x0dsu.",
    b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02]q\x03(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x04X\x01\x00\x00\x00xq\x05N\x88\x87q\x06X\x01\x00\x00\x00cq\x07}q\x08K\x01c_codecs\nencode\nq\x09X\x02\x00\x00\x00zzq\nX\x06\x00\x00\x00latin1q\x0b\x86q\x0cRq\x0dsu.",
    b"\x80\x03ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02]q\x03(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x04X\x01\x00\x00\x00xq\x05N\x88\x87q\x06X\x01\x00\x00\x00cq\x07}q\x08K\x01C\x02zzq\x09su.",
    b"\x80\x04\x95Q\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94(\x8c\x01a\x94]\x94(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00e\x8c\x01b\x94\x8c\x01x\x94N\x88\x87\x94\x8c\x01c\x94}\x94K\x01C\x02zz\x94su.",
    b"\x80\x05\x95Q\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94(\x8c\x01a\x94]\x94(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00e\x8c\x01b\x94\x8c\x01x\x94N\x88\x87\x94\x8c\x01c\x94}\x94K\x01C\x02zz\x94su.",
];

/// A binary classifier of LightGBM: two features, one tree of two leaves.
pub(crate) const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\n\
    objective=binary sigmoid:1\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=0.5\ndecision_type=2\n\
    left_child=-1\nright_child=-2\nleaf_value=-1 2\n\nend of trees\n";

/// A regression of XGBoost: two features, one tree of two leaves.
pub(crate) const XGBOOST: &str = r#"{"learner": {"gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [{
    "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0], "default_left": [1, 0, 0],
    "split_conditions": [0.5, -1, 2], "tree_param": {}}]}}, "objective": {"name": "reg:squarederror"},
    "learner_model_param": {"base_score": "0", "num_class": "0", "num_feature": "2"}}, "version": [3, 2, 0]}"#;
