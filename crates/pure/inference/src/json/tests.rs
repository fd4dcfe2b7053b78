//! What the reader takes, what it refuses and how it says so; agreement with `serde_json`; numbers to the last bit.

use bytes::Bytes;
use half::{bf16, f16};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{reader::Reader, write_string};
use crate::{
    Datatype, InferError, InferRequest, InferResponse, OutputEncoding, Parameter, Tensor, TensorData, arbitrary,
    binary, json, limits,
};

fn read(text: &str) -> Result<InferRequest, InferError> {
    json::read_request(&Bytes::copy_from_slice(text.as_bytes()), Bytes::new())
}

/// Reads the data of one tensor.
fn data(datatype: &str, shape: &str, data: &str) -> Result<TensorData, InferError> {
    let text = format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#);
    read(&text).map(|request| request.inputs.into_iter().next().unwrap().data)
}

fn floats(values: &[f32]) -> TensorData {
    TensorData::from_vec(values.to_vec())
}

fn message(result: Result<impl std::fmt::Debug, InferError>) -> String {
    match result.unwrap_err() {
        InferError::InvalidInput(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_as_clients_send_it() {
    let request = read(
        r#" { "id" : "42", "model_name" : "iris", "parameters" : {"a":true,"b":-3,"c":18446744073709551615,"d":0.5,"e":"é"},
        "inputs" : [ { "name" : "x", "shape" : [ 2, 2 ], "datatype" : "FP32", "data" : [ 5.1, -3, 1e-3, 0.0 ] } ],
        "outputs" : [ { "name" : "y", "parameters" : { "binary_data" : false } } ] } "#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("42"));
    assert_eq!(request.parameters[2], ("c".to_owned(), Parameter::Uint(u64::MAX)));
    assert_eq!(request.parameters[3], ("d".to_owned(), Parameter::Double(0.5)));
    assert_eq!(request.inputs[0].shape, [2, 2]);
    assert_eq!(request.inputs[0].data, floats(&[5.1, -3.0, 1e-3, 0.0]));
    assert_eq!(request.outputs[0].name, "y");
}

#[test]
fn keys_come_in_any_order() {
    let request = read(
        r#"{"outputs":[],"inputs":[{"data":[[1,NaN]],"datatype":"FP64","shape":[1,2],"extra":{"a":[null]},"name":"x"}]}"#,
    );
    let TensorData::Fixed(bytes) = request.unwrap().inputs.remove(0).data else { panic!() };
    let values: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    assert_eq!(values[0], 1.0);
    assert!(values[1].is_nan());
}

#[test]
fn data_is_flat_or_nested_as_the_shape() {
    let flat = data("INT8", "[2,2]", "[1,2,3,4]").unwrap();
    assert_eq!(data("INT8", "[2,2]", "[[1,2],[3,4]]").unwrap(), flat);
    assert_eq!(data("INT8", "[4]", "[1,2,3,4]").unwrap(), flat);
    assert_eq!(data("INT8", "[]", "[7]").unwrap(), TensorData::from_vec(vec![7_i8]));
    for (shape, nested) in [("[0]", "[]"), ("[2,0]", "[[],[]]"), ("[2,0,3]", "[[],[]]"), ("[0,5]", "[]")] {
        assert_eq!(data("INT8", shape, nested).unwrap(), TensorData::from_vec(Vec::<i8>::new()), "{shape}");
    }
    for (shape, nested, said) in [
        ("[2,2]", "[[1,2,3,4]]", "nested as shape [2, 2] or flat, found it nested as [1, 4]"),
        ("[4]", "[[1,2],[3,4]]", "found it nested as [2, 2]"),
        ("[2,2]", "[[1,2],[3]]", "`inputs[0].data[1]`: expected 2 elements, as in the array before, found 1"),
        ("[2,2]", "[[1,2],3,4]", "`inputs[0].data[1]`: expected an array, found `3`"),
        (
            "[2,2]",
            "[1,[2,3],4]",
            "`inputs[0].data[1]`: expected a whole number from -128 to 127 (INT8), found an array",
        ),
        ("[2,2]", "[[[1]],[2,3,4]]", "`inputs[0].data[1]`"),
        ("[2,2]", "[[1],[[2],[3]]]", "`inputs[0].data[1]`"),
        ("[2]", "[1,2,3]", "expected 2 elements, as the shape says, found more"),
        ("[4]", "[1,2,3]", "expected 4 elements for shape [4], found 3"),
        ("[]", "7", "`inputs[0].data`: expected an array, found `7`"),
        ("[2]", "[1,2", "expected `,` or `]`, found `}`"),
    ] {
        let text = message(data("INT8", shape, nested));
        assert!(text.contains(said), "{nested} {text}");
    }
}

#[test]
fn whole_numbers_are_exact_and_within_range() {
    assert_eq!(
        data("INT64", "[2]", "[9223372036854775807,-9223372036854775808]").unwrap(),
        TensorData::from_vec(vec![i64::MAX, i64::MIN])
    );
    assert_eq!(data("UINT64", "[1]", "[18446744073709551615]").unwrap(), TensorData::from_vec(vec![u64::MAX]));
    assert_eq!(
        data("INT32", "[5]", "[1.0,2e1,1500e-2,-0,0e999]").unwrap(),
        TensorData::from_vec(vec![1_i32, 20, 15, 0, 0])
    );
    for (datatype, value) in [
        ("UINT8", "256"),
        ("UINT8", "-1"),
        ("INT8", "128"),
        ("INT16", "-32769"),
        ("UINT16", "65536"),
        ("INT32", "2147483648"),
        ("UINT32", "4294967296"),
        ("INT64", "9223372036854775808"),
        ("UINT64", "18446744073709551616"),
        ("UINT64", "1e30"),
        ("INT32", "1.5"),
        ("INT32", "1e-1"),
        ("INT32", "1e999999999999"),
    ] {
        let text = message(data(datatype, "[1]", &format!("[{value}]")));
        assert!(text.starts_with("`inputs[0].data[0]`: expected a whole number from "), "{text}");
        assert!(text.contains(&format!("({datatype}), found `{value}`")), "{text}");
    }
    for value in ["\"1\"", "true", "null", "NaN", "Infinity"] {
        message(data("INT32", "[1]", &format!("[{value}]")));
    }
}

#[test]
fn nan_and_infinity_are_literals_or_strings_for_floats() {
    for datatype in ["FP32", "FP64", "FP16", "BF16"] {
        let literals = data(datatype, "[3]", "[NaN,Infinity,-Infinity]").unwrap();
        assert_eq!(data(datatype, "[3]", r#"["NaN","Infinity","-Infinity"]"#).unwrap(), literals);
        let text = message(data(datatype, "[1]", "[\"nan\"]"));
        assert!(text.contains("of strings only \"NaN\", \"Infinity\" and \"-Infinity\" are numbers"), "{text}");
        message(data(datatype, "[1]", "[-NaN]"));
        message(data(datatype, "[1]", "[null]"));
    }
    let TensorData::Fixed(bytes) = data("FP32", "[3]", "[NaN,Infinity,-Infinity]").unwrap() else { panic!() };
    assert_eq!(bytes, bytemuck::cast_slice::<f32, u8>(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]));
    message(read(r#"{"x":NaN,"inputs":[]}"#));
    message(read(r#"{"parameters":{"x":NaN},"inputs":[]}"#));
}

#[test]
fn a_number_beyond_its_type_is_refused_rather_than_made_infinite() {
    for (datatype, value) in
        [("FP32", "1e39"), ("FP64", "1e309"), ("FP16", "65520"), ("BF16", "-3.4e38"), ("FP32", "-1e999")]
    {
        let text = message(data(datatype, "[1]", &format!("[{value}]")));
        assert!(text.contains("within the range of"), "{text}");
    }
    assert_eq!(data("FP32", "[2]", "[1e-999,-0.0]").unwrap(), floats(&[0.0, -0.0]));
}

#[test]
fn decision_half_floats_in_json_are_numbers_rounded_to_nearest() {
    let halves = data("FP16", "[4]", "[0.1,65504,1e-8,2049]").unwrap();
    assert_eq!(halves, TensorData::from_vec([0.1, 65504.0, 1e-8, 2049.0].map(f16::from_f64).to_vec()));
    let brains = data("BF16", "[3]", "[0.1,1e38,257]").unwrap();
    assert_eq!(brains, TensorData::from_vec([0.1, 1e38, 257.0].map(bf16::from_f64).to_vec()));
}

#[test]
fn booleans_are_literals_or_ones_and_zeros() {
    assert_eq!(data("BOOL", "[4]", "[true,false,1,0]").unwrap(), TensorData::from_vec(vec![1_u8, 0, 1, 0]));
    for value in ["2", "-1", "\"true\"", "null", "0.5"] {
        let text = message(data("BOOL", "[1]", &format!("[{value}]")));
        assert!(text.contains("`true` or `false`, or 1 or 0 (BOOL)"), "{text}");
    }
}

#[test]
fn byte_strings_are_slices_of_the_body_unless_escaped() {
    let body = Bytes::from_static(br#"{"inputs":[{"name":"x","shape":[3],"datatype":"BYTES","data":["plain","",   "\u00e9\ud83d\ude00\n\"\\\/"]}]}"#);
    let request = json::read_request(&body, Bytes::new()).unwrap();
    let TensorData::Strings(strings) = &request.inputs[0].data else { panic!() };
    assert_eq!(strings[0], "plain");
    assert_eq!(strings[1], "");
    assert_eq!(strings[2], "é😀\n\"\\/");
    assert!(body.as_ptr_range().contains(&strings[0].as_ptr()));
    for value in ["1", "true", "null", "[1]", "{}"] {
        let text = message(data("BYTES", "[1]", &format!("[{value}]")));
        assert!(text.contains("expected a string (BYTES)"), "{text}");
    }
}

#[test]
fn broken_strings_are_refused() {
    for text in [
        r#""\ud800""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\ud800\u0041""#,
        r#""\udc00""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\x""#,
        r#""\"#,
        r#"""#,
        "\"\n\"",
        "\"\u{1}\"",
    ] {
        message(read(&format!(r#"{{"id":{text},"inputs":[]}}"#)));
    }
    let error = json::read_request(&Bytes::from_static(b"{\"id\":\"\xff\",\"inputs\":[]}"), Bytes::new());
    assert!(message(error).contains("not UTF-8 at byte 7"));
}

#[test]
fn a_key_that_stands_twice_is_an_error() {
    for text in [
        r#"{"inputs":[],"inputs":[]}"#,
        r#"{"id":"a","id":"a","inputs":[]}"#,
        r#"{"parameters":{"a":1,"a":1},"inputs":[]}"#,
        r#"{"inputs":[{"name":"x","name":"x","shape":[0],"datatype":"FP32","data":[]}]}"#,
        r#"{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[],"data":[]}]}"#,
        r#"{"inputs":[{"data":[],"data":[],"name":"x","shape":[0],"datatype":"FP32"}]}"#,
    ] {
        let error = message(read(text));
        assert!(error.ends_with("the key stands twice: give it once"), "{error}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_place() {
    for (text, said) in [
        ("", "expected an object, found the end of the JSON at byte 0"),
        ("[]", "expected an object, found an array"),
        ("{}", "`inputs`: expected an array of tensors, found nothing"),
        (r#"{"inputs":{}}"#, "`inputs`: expected an array, found an object"),
        (r#"{"inputs":[{}]}"#, "`inputs[0].name`: expected a string, found nothing"),
        (r#"{"inputs":[{"name":"x"}]}"#, "`inputs[0].datatype`: expected a string, found nothing"),
        (r#"{"inputs":[{"name":"x","datatype":"FP8"}]}"#, "`inputs[0].datatype`: expected a datatype, one of BOOL, "),
        (r#"{"inputs":[{"name":"x","datatype":"fp32"}]}"#, "found `fp32`"),
        (r#"{"inputs":[{"name":"x","datatype":"FP32"}]}"#, "`inputs[0].shape`: expected an array of whole numbers"),
        (
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}"#,
            "`inputs[0].data`: expected an array, or the parameter",
        ),
        (
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1]}]}"#,
            "`inputs[0].shape[0]`: expected a whole number from 0 on, found `-1`",
        ),
        (r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1.5]}]}"#, "`inputs[0].shape[0]`"),
        (r#"{"inputs":[{"name":7}]}"#, "`inputs[0].name`: expected a string, found `7`"),
        (
            r#"{"inputs":[],"parameters":{"a":null}}"#,
            "`parameters.a`: expected a string, a number, `true` or `false`, found `null`",
        ),
        (r#"{"inputs":[],"parameters":{"a":{}}}"#, "`parameters.a`"),
        (r#"{"inputs":[],"outputs":[{"name":"a"},{}]}"#, "`outputs[1].name`: expected a string, found nothing"),
        (r#"{"inputs":[]} x"#, "expected the end of the JSON, found `x` at byte 14"),
        (r#"{"inputs":[],}"#, "expected a key in double quotes, found `}`"),
        (
            r#"{"inputs":[{"name":"x","shape":[2],"datatype":"INT8","data":[1,x]}]}"#,
            "`inputs[0].data[1]`: expected a whole number from -128 to 127 (INT8), found `x`",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,01]}]}"#,
            "`inputs[0].data[1]`: the number that begins with `01`",
        ),
    ] {
        let error = message(read(text));
        assert!(error.contains(said), "{text}\n{error}");
    }
}

#[test]
fn limits_hold() {
    let many = |count: usize, item: &str| vec![item; count].join(",");
    let input = r#"{"name":"x","shape":[0],"datatype":"FP32","data":[]}"#;
    assert!(read(&format!(r#"{{"inputs":[{}]}}"#, many(limits::INPUTS_MAX, input))).is_ok());
    message(read(&format!(r#"{{"inputs":[{}]}}"#, many(limits::INPUTS_MAX + 1, input))));
    message(read(&format!(r#"{{"inputs":[],"outputs":[{}]}}"#, many(limits::OUTPUTS_MAX + 1, r#"{"name":"y"}"#))));
    let parameters: Vec<String> = (0..=limits::PARAMETERS_MAX).map(|n| format!("\"{n}\":1")).collect();
    message(read(&format!(r#"{{"inputs":[],"parameters":{{{}}}}}"#, parameters.join(","))));
    message(read(&format!(r#"{{"inputs":[],"id":"{}"}}"#, "x".repeat(limits::NAME_BYTES_MAX + 1))));
    message(data("FP32", &format!("[{}]", many(limits::RANK_MAX + 1, "1")), "[1]"));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(&format!(r#"{{"inputs":[],"x":{}}}"#, deep(limits::DEPTH_MAX))).is_ok());
    message(read(&format!(r#"{{"inputs":[],"x":{}}}"#, deep(100_000))));
    message(data("FP32", "[1]", &deep(100_000)));
    for shape in ["[16777217]", "[18446744073709551615]", "[4294967296,4294967296]"] {
        assert!(matches!(data("FP32", shape, "[1]"), Err(InferError::TooLarge(_))), "{shape}");
    }
    assert!(matches!(data("BYTES", "[2097153]", "[]"), Err(InferError::TooLarge(_))));
}

#[test]
fn a_long_key_does_not_come_back_whole() {
    let error = message(read(&format!(r#"{{"{}":x}}"#, "k".repeat(10_000))));
    assert!(error.len() < 300, "{error}");
}

fn tensor(name: &str, datatype: Datatype, shape: &[usize], data: TensorData) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), parameters: Vec::new(), data }
}

fn written(outputs: Vec<Tensor>, id: Option<&str>) -> Result<String, InferError> {
    let response = InferResponse {
        model_name: "iris".to_owned(),
        model_version: "1".to_owned(),
        id: id.map(str::to_owned),
        parameters: Vec::new(),
        outputs,
    };
    let encoded = binary::write_response(&response, &OutputEncoding::default())?;
    Ok(String::from_utf8(encoded.into_bytes().to_vec()).unwrap())
}

#[test]
fn answers_are_written_with_the_shortest_digits() {
    let outputs = vec![
        tensor("p", Datatype::Fp32, &[1, 3], floats(&[0.1, 1e20, -0.0])),
        tensor("n", Datatype::Int64, &[1], TensorData::from_vec(vec![i64::MIN])),
        tensor("b", Datatype::Bool, &[2], TensorData::from_vec(vec![1_u8, 0])),
        tensor("s", Datatype::Bytes, &[1], TensorData::Strings(vec![Bytes::from_static("é\"\u{1}".as_bytes())])),
        tensor("e", Datatype::Fp64, &[0], TensorData::from_vec(Vec::<f64>::new())),
    ];
    let text = written(outputs, Some("7")).unwrap();
    assert!(text.starts_with(r#"{"model_name":"iris","model_version":"1","id":"7","outputs":[{"name":"p","datatype":"FP32","shape":[1,3],"data":[0.1,"#), "{text}");
    assert!(text.contains(r#""data":[-9223372036854775808]"#) && text.contains(r#""data":[true,false]"#), "{text}");
    assert!(text.contains(r#""data":["é\"\u0001"]"#) && text.contains(r#""shape":[0],"data":[]"#), "{text}");
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
}

#[test]
fn decision_non_finite_floats_are_written_as_strings() {
    let text =
        written(vec![tensor("p", Datatype::Fp32, &[3], floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]))], None);
    assert!(text.unwrap().contains(r#""data":["NaN","Infinity","-Infinity"]"#));
}

#[test]
fn decision_6_an_id_is_answered_only_when_one_was_given() {
    assert!(!written(Vec::new(), None).unwrap().contains("\"id\""));
    assert!(written(Vec::new(), Some("a")).unwrap().contains(r#""id":"a""#));
    assert_eq!(read(r#"{"id":"","inputs":[]}"#).unwrap().id, None);
    assert_eq!(read(r#"{"id":null,"inputs":[]}"#).unwrap().id, None);
}

#[test]
fn decision_4_a_tensor_with_fewer_elements_than_its_shape_is_refused() {
    let text = message(data("BOOL", "[3]", "[true]"));
    assert_eq!(text, "`inputs[0].data`: expected 3 elements for shape [3], found 1");
}

#[test]
fn decision_3_bf16_is_a_datatype_like_the_others() {
    assert_eq!(Datatype::parse("BF16"), Some(Datatype::Bf16));
    assert_eq!(data("BF16", "[1]", "[1.5]").unwrap(), TensorData::from_vec(vec![bf16::from_f32(1.5)]));
}

#[test]
fn text_that_json_cannot_carry_is_an_error_that_says_what_to_ask_for() {
    let error =
        written(vec![tensor("s", Datatype::Bytes, &[1], TensorData::Strings(vec![Bytes::from_static(b"\xff")]))], None);
    let text = message(error);
    assert!(text.starts_with("`outputs[0].data[0]`") && text.contains("`binary_data`"), "{text}");
}

fn number(text: &str) -> (Option<f64>, Option<f32>) {
    let source = Bytes::copy_from_slice(text.as_bytes());
    let number = Reader::new(&source).unwrap().number().unwrap();
    (number.to_f64(), number.to_f32())
}

/// Pieces that valid and nearly valid JSON is made of.
const PIECES: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\\",
    "0",
    "-",
    "1",
    "12",
    ".",
    "e",
    "E+",
    "0.5",
    "-1e-3",
    "true",
    "false",
    "null",
    "nul",
    "NaN",
    "Infinity",
    " ",
    "\n",
    "\t",
    "\u{1}",
    "é",
    "\"\\n\"",
    "\"k\":",
];

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter_map("finite", |x| serde_json::Number::from_f64(x).map(Into::into)),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepts_and_refuses_what_serde_json_does(pieces in vec(select(&PIECES[..]), 0..12)) {
        let text = format!("{{\"inputs\":[],\"x\":{}}}", pieces.concat());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // Where our names are met again they have a meaning of their own.
        prop_assume!(!text.contains("NaN") || theirs.is_err());
        prop_assert_eq!(read(&text).is_ok(), theirs.is_ok(), "{}", text);
    }

    #[test]
    fn any_valid_value_is_skipped(value in value()) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let text = format!("{{\"x\":{text},\"inputs\":[]}}");
            prop_assert!(read(&text).is_ok(), "{}", text);
            let cut = text.strip_suffix('}').unwrap();
            prop_assert!(read(cut).is_err());
        }
    }

    #[test]
    fn strings_are_those_of_serde_json(text in any::<String>()) {
        let theirs = serde_json::to_string(&text).unwrap();
        let request = read(&format!("{{\"inputs\":[],\"parameters\":{{\"x\":{theirs}}}}}")).unwrap();
        prop_assert_eq!(&request.parameters[0].1, &Parameter::String(text.clone()));
        let mut ours = Vec::new();
        write_string(&mut ours, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&ours).unwrap(), text);
    }

    #[test]
    fn decimals_round_correctly(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?") {
        let (double, single) = number(&text);
        prop_assert_eq!(double, text.parse::<f64>().ok().filter(|x| x.is_finite()), "{}", text);
        prop_assert_eq!(single, text.parse::<f32>().ok().filter(|x| x.is_finite()), "{}", text);
    }

    #[test]
    fn decimals_halfway_between_two_floats_round_correctly(bits in 0x0080_0000_u32..0x7f7f_ffff, nudge in 0_u8..3) {
        let middle = (f64::from(f32::from_bits(bits)) + f64::from(f32::from_bits(bits + 1))) / 2.0;
        let text = format!("{middle}{}", ["", "0", "1"][usize::from(nudge)]);
        let text = if text.contains('.') { text } else { format!("{middle}.0{nudge}") };
        prop_assert_eq!(number(&text).1, text.parse::<f32>().ok().filter(|x| x.is_finite()), "{}", text);
    }

    #[test]
    fn shortest_digits_read_back(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let single = f32::from_bits(bits as u32);
        if double.is_finite() {
            prop_assert_eq!(number(&format!("{double:e}")).0.map(f64::to_bits), Some(bits));
            prop_assert_eq!(number(&format!("{double}")).0.map(f64::to_bits), Some(bits));
        }
        if single.is_finite() {
            prop_assert_eq!(number(&format!("{single:e}")).1.map(f32::to_bits), Some(single.to_bits()));
            prop_assert_eq!(number(&format!("{}", f64::from(single))).1.map(f32::to_bits), Some(single.to_bits()));
        }
    }

    #[test]
    fn numbers_are_those_of_serde_json(values in vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..8)) {
        let text = serde_json::to_string(&values).unwrap();
        let ours = data("FP64", &format!("[{}]", values.len()), &text).unwrap();
        prop_assert_eq!(ours, TensorData::from_vec(serde_json::from_str::<Vec<f64>>(&text).unwrap()));
    }

    #[test]
    fn requests_survive_json(request in arbitrary::request()) {
        let encoded = binary::write_request(&request, false).unwrap();
        prop_assert!(!encoded.binary);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&encoded.json).is_ok());
        prop_assert_eq!(json::read_request(&encoded.json, Bytes::new()).unwrap(), request);
    }

    #[test]
    fn responses_survive_json(response in arbitrary::response()) {
        let encoded = binary::write_response(&response, &OutputEncoding::default()).unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&encoded.json).is_ok());
        prop_assert_eq!(json::read_response(&encoded.json, Bytes::new()).unwrap(), response);
    }

    #[test]
    fn damaged_requests_are_answered(request in arbitrary::request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = binary::write_request(&request, false).unwrap().json.to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let agreed = json::read_request(&Bytes::from(bytes.clone()), Bytes::new());
        if agreed.is_ok() && !bytes.windows(3).any(|window| window == b"NaN") {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
        bytes.truncate(place);
        prop_assert!(json::read_request(&Bytes::from(bytes), Bytes::new()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in vec(any::<u8>(), 0..64)) {
        prop_assert!(json::read_request(&Bytes::from(bytes), Bytes::new()).is_err());
    }
}
