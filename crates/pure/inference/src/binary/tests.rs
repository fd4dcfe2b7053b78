//! Sizes to the byte, slices instead of copies, raw requests, and every datatype through every mixture of JSON and bytes.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{Encoded, OutputEncoding, decode, encode, read_request, read_response, write_request, write_response};
use crate::{
    Datatype, InferError, InferRequest, ModelMetadata, Parameter, RequestedOutput, TensorData, TensorSpec, arbitrary,
};

fn metadata(inputs: &[(&str, Datatype, &[i64])]) -> ModelMetadata {
    let spec = |(name, datatype, shape): &(&str, Datatype, &[i64])| TensorSpec {
        name: (*name).to_owned(),
        datatype: *datatype,
        shape: shape.to_vec(),
    };
    ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned()],
        platform: "onnx_onnxv1".to_owned(),
        inputs: inputs.iter().map(spec).collect(),
        outputs: Vec::new(),
    }
}

fn body(json: &str, tensors: &[&[u8]]) -> (Bytes, Option<usize>) {
    let whole = [json.as_bytes(), &tensors.concat()].concat();
    (Bytes::from(whole), Some(json.len()))
}

fn read(json: &str, tensors: &[&[u8]]) -> Result<InferRequest, InferError> {
    let (body, length) = body(json, tensors);
    read_request(body, length, &metadata(&[])).map(|(request, _)| request)
}

#[test]
fn binary_and_json_inputs_mix_in_one_body() {
    let json = r#"{"inputs":[
        {"name":"a","shape":[2],"datatype":"UINT16","parameters":{"binary_data_size":4,"k":"v"}},
        {"name":"b","shape":[1],"datatype":"INT8","data":[-1]},
        {"name":"c","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":11}}]}"#;
    let (body, length) = body(json, &[&[1, 0, 2, 1], &[3, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0]]);
    let (request, encoding) = read_request(body.clone(), length, &metadata(&[])).unwrap();
    let TensorData::Fixed(first) = &request.inputs[0].data else { panic!() };
    assert_eq!(first.as_ref(), [1, 0, 2, 1]);
    assert!(body.as_ptr_range().contains(&first.as_ptr()), "a slice of the body, not a copy");
    assert_eq!(request.inputs[0].parameters, [("k".to_owned(), Parameter::String("v".to_owned()))]);
    assert_eq!(request.inputs[1].data, TensorData::from_vec(vec![-1_i8]));
    let TensorData::Strings(strings) = &request.inputs[2].data else { panic!() };
    assert_eq!(strings, &[Bytes::from_static(b"abc"), Bytes::new()]);
    assert_eq!(encoding, OutputEncoding::default());
}

#[test]
fn sizes_must_match_to_the_byte() {
    let with = |datatype: &str, shape: &str, size: i64, bytes: &[u8]| {
        let json = format!(
            r#"{{"inputs":[{{"name":"a","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
        );
        read(&json, &[bytes]).map(drop)
    };
    assert_eq!(with("FP32", "[2]", 8, &[0; 8]), Ok(()));
    for (datatype, shape, size, length, said) in [
        ("FP32", "[2]", 7, 7, "expected 8 bytes for FP32 of shape [2], found 7"),
        ("FP32", "[2]", 8, 7, "only 7 bytes of binary data are left"),
        ("FP32", "[2]", 8, 9, "1 bytes of binary data belong to no tensor"),
        ("FP32", "[2]", -8, 8, "expected a whole number of bytes"),
        ("BYTES", "[1]", 3, 3, "expected 1 BYTES elements, found 0 and 3 bytes after them"),
        ("BYTES", "[2]", 4, 4, "expected 2 BYTES elements, found 1"),
        ("BYTES", "[0]", 4, 4, "expected 0 BYTES elements, found 0 and 4 bytes after them"),
    ] {
        let error = with(datatype, shape, size, &vec![0; length]).unwrap_err();
        assert!(matches!(&error, InferError::InvalidInput(text) if text.contains(said)), "{error}");
    }
    let long = with("BYTES", "[1]", 8, &[255, 255, 255, 255, 1, 2, 3, 4]).unwrap_err();
    assert!(long.to_string().contains("says that it has 4294967295 bytes, but only 4 are left"), "{long}");
    let bool_error = with("BOOL", "[2]", 2, &[1, 2]).unwrap_err();
    assert!(bool_error.to_string().contains("expected 0 or 1"), "{bool_error}");
    assert!(matches!(with("FP64", "[4611686018427387904]", 8, &[0; 8]), Err(InferError::TooLarge(_))));
    assert!(matches!(with("BYTES", "[2097153]", 0, &[]), Err(InferError::TooLarge(_))));
}

/// The example of the KServe web site says "16" for 2x2 and 3x2 of FP16, and "32" for 2x2 of FP32.
#[test]
fn decision_5_wrong_sizes_of_published_examples_are_refused() {
    assert!(decode(Datatype::Fp16, &[2, 2], Bytes::from(vec![0; 16])).is_err());
    assert!(decode(Datatype::Fp16, &[3, 2], Bytes::from(vec![0; 16])).is_err());
    assert!(decode(Datatype::Fp32, &[2, 2], Bytes::from(vec![0; 32])).is_err());
    assert!(decode(Datatype::Fp16, &[2, 2], Bytes::from(vec![0; 8])).is_ok());
    assert!(decode(Datatype::Fp16, &[3, 2], Bytes::from(vec![0; 12])).is_ok());
    assert!(decode(Datatype::Fp32, &[2, 2], Bytes::from(vec![0; 16])).is_ok());
}

#[test]
fn data_and_binary_size_exclude_each_other() {
    let json =
        r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":[1],"parameters":{"binary_data_size":1}}]}"#;
    let error = read(json, &[&[1]]).unwrap_err();
    assert!(error.to_string().contains("`inputs[0]`: found both `data` and `binary_data_size`"), "{error}");
}

#[test]
fn the_header_must_lie_within_the_body() {
    let error = read_request(Bytes::from_static(b"{}"), Some(3), &metadata(&[])).unwrap_err();
    assert!(error.to_string().contains("is 3, but the body has only 2 bytes"), "{error}");
}

fn raw(inputs: &[(&str, Datatype, &[i64])], bytes: usize) -> Result<Vec<usize>, InferError> {
    let (request, encoding) = read_request(Bytes::from(vec![0; bytes]), Some(0), &metadata(inputs))?;
    assert!(encoding.is_binary("anything"));
    assert_eq!(request.inputs[0].name, inputs[0].0);
    Ok(request.inputs[0].shape.clone())
}

#[test]
fn a_raw_request_is_the_one_input_of_the_model() {
    let fp32 = Datatype::Fp32;
    assert_eq!(raw(&[("x", fp32, &[-1, 4])], 32), Ok(vec![2, 4]));
    assert_eq!(raw(&[("x", fp32, &[1, 4])], 16), Ok(vec![1, 4]));
    assert_eq!(raw(&[("x", fp32, &[-1, 3, -1])], 24), Ok(vec![1, 3, 2]));
    assert_eq!(raw(&[("x", fp32, &[-1, 4])], 0), Ok(vec![0, 4]));
    assert_eq!(raw(&[("x", fp32, &[])], 4), Ok(vec![]));
    assert_eq!(raw(&[("x", Datatype::Bytes, &[1])], 5), Ok(vec![1]));
    assert_eq!(raw(&[("x", Datatype::Bytes, &[-1, 1])], 5), Ok(vec![1, 1]));
    for (inputs, bytes) in [
        (&[("x", fp32, &[-1_i64, 4][..])][..], 33),
        (&[("x", fp32, &[1, 4])], 32),
        (&[("x", fp32, &[1, 4])], 0),
        (&[("x", fp32, &[1, 0])], 4),
        (&[("x", fp32, &[3, -1, -1])], 24),
        (&[("x", fp32, &[-1, -1, -1])], 24),
        (&[("x", fp32, &[-1, i64::MAX, 8])], 24),
        (&[("x", Datatype::Bytes, &[2])], 5),
        (&[("x", fp32, &[1]), ("y", fp32, &[1])], 8),
        (&[], 8),
    ] {
        assert!(matches!(raw(inputs, bytes), Err(InferError::InvalidInput(_))), "{inputs:?} {bytes}");
    }
}

#[test]
fn a_raw_string_has_no_length_prefix() {
    let model = metadata(&[("x", Datatype::Bytes, &[1])]);
    let (request, _) = read_request(Bytes::from_static(b"text"), Some(0), &model).unwrap();
    assert_eq!(request.inputs[0].data, TensorData::Strings(vec![Bytes::from_static(b"text")]));
}

#[test]
fn outputs_are_bytes_where_asked() {
    let output = |name: &str, binary: Option<bool>| RequestedOutput {
        name: name.to_owned(),
        parameters: binary.map(|binary| ("binary_data".to_owned(), Parameter::Bool(binary))).into_iter().collect(),
    };
    let asked = |all: bool| InferRequest {
        parameters: vec![("binary_data_output".to_owned(), Parameter::Bool(all))],
        outputs: vec![output("yes", Some(true)), output("no", Some(false)), output("silent", None)],
        ..InferRequest::default()
    };
    for all in [false, true] {
        let encoding = OutputEncoding::asked(&asked(all)).unwrap();
        assert!(encoding.is_binary("yes"));
        assert!(!encoding.is_binary("no"));
        assert_eq!(encoding.is_binary("silent"), all);
        assert_eq!(encoding.is_binary("unnamed"), all);
    }
    let mut wrong = asked(true);
    wrong.parameters[0].1 = Parameter::Int(1);
    let error = OutputEncoding::asked(&wrong).unwrap_err();
    assert_eq!(error.to_string(), "`parameters.binary_data_output`: expected `true` or `false`");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_binary(request in arbitrary::request()) {
        let encoded = write_request(&request, true).unwrap();
        let length = encoded.binary.then_some(encoded.json.len());
        prop_assert_eq!(encoded.len(), encoded.clone().into_bytes().len());
        let (read, _) = read_request(encoded.into_bytes(), length, &metadata(&[])).unwrap();
        prop_assert_eq!(read, request);
    }

    #[test]
    fn responses_survive_every_mixture(response in arbitrary::response(), binary in any::<bool>(), exceptions in vec(any::<bool>(), 4)) {
        let mixed = response.outputs.iter().zip(exceptions).filter(|(_, except)| *except);
        let encoding = OutputEncoding { binary, exceptions: mixed.map(|(output, _)| output.name.clone()).collect() };
        let encoded = write_response(&response, &encoding).unwrap();
        let length = encoded.binary.then_some(encoded.json.len());
        prop_assert_eq!(read_response(encoded.into_bytes(), length).unwrap(), response);
    }

    #[test]
    fn strings_of_any_bytes_survive(strings in vec(vec(any::<u8>(), 0..9).prop_map(Bytes::from), 0..6)) {
        let count = strings.len();
        let data = TensorData::Strings(strings);
        let bytes = encode(&data).unwrap();
        prop_assert_eq!(decode(Datatype::Bytes, &[count], bytes.clone()).unwrap(), data);
        prop_assert!(decode(Datatype::Bytes, &[count + 1], bytes.clone()).is_err());
        let short = bytes.slice(..bytes.len().saturating_sub(1));
        prop_assert!(count == 0 || decode(Datatype::Bytes, &[count], short).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in vec(any::<u8>(), 0..48), length in prop::option::of(0_usize..64), dims in vec(-1_i64..5, 0..4)) {
        let model = metadata(&[("x", Datatype::Int16, dims.as_slice())]);
        drop(read_request(Bytes::from(bytes.clone()), length, &model));
        for datatype in Datatype::ALL {
            drop(decode(datatype, &[bytes.len() / 4], Bytes::from(bytes.clone())));
        }
    }

    #[test]
    fn damaged_bodies_are_answered(request in arbitrary::request(), at in any::<prop::sample::Index>(), byte in any::<u8>(), shift in -3_isize..4) {
        let Encoded { json, .. } = write_request(&request, true).unwrap();
        let mut whole = write_request(&request, true).unwrap().into_bytes().to_vec();
        let place = at.index(whole.len());
        whole[place] = byte;
        let length = json.len().saturating_add_signed(shift);
        drop(read_request(Bytes::from(whole), Some(length), &metadata(&[])));
    }
}
