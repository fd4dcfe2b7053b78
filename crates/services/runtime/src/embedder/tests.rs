//! A small tokeniser, and what comes of texts, tokens and models.

use inference::embeddings::settings::Files;

use super::*;

/// Words of a line, between `[CLS]` and `[SEP]`; it pads and cuts, which must not show.
pub(crate) const TOKENISER: &str = r#"{"version":"1.0",
    "truncation":{"direction":"Right","max_length":7,"strategy":"LongestFirst","stride":0},
    "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[UNK]"},
    "added_tokens":[],"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},
    "post_processor":{"type":"TemplateProcessing",
        "single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],
        "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
        "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[2],"tokens":["[SEP]"]}}},
    "decoder":null,
    "model":{"type":"WordLevel","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"ship":3,"berth":4,"the":5},"unk_token":"[UNK]"}}"#;

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() }
}

fn metadata(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> ModelMetadata {
    let (name, versions, platform) = ("m".to_owned(), vec!["1".to_owned()], String::new());
    ModelMetadata { name, versions, platform, inputs, outputs }
}

fn bert() -> ModelMetadata {
    let names = ["input_ids", "attention_mask", "token_type_ids", "position_ids"];
    let inputs = names.map(|name| spec(name, Datatype::Int64, &[-1, -1])).to_vec();
    metadata(inputs, vec![spec("last_hidden_state", Datatype::Fp32, &[-1, -1, 4])])
}

fn files(settings: &str) -> EncoderFiles {
    let settings = Settings::read(&Files { settings: Some(settings.as_bytes()), ..Files::default() }).unwrap();
    EncoderFiles { tokeniser: TOKENISER.as_bytes().to_vec(), settings }
}

fn embedder(settings: &str) -> Embedder {
    Embedder::new(&files(settings), &bert()).unwrap()
}

fn ids(embedder: &Embedder, text: &str) -> Result<Vec<u32>, Wrong> {
    embedder.tokens(&Input::Text(text.to_owned())).map(|tokens| tokens.ids)
}

/// A model whose vectors are one, two, three, … for every token.
fn counting(request: &InferRequest) -> Result<Vec<Tensor>, InferError> {
    let len = request.inputs[0].shape[1];
    let numbers: Vec<f32> = (0..len).flat_map(|_| [1.0, 2.0, 2.0, 4.0]).collect();
    let data = TensorData::from_vec(numbers);
    let (name, shape) = (request.outputs[0].name.clone(), vec![1, len, 4]);
    Ok(vec![Tensor { name, datatype: Datatype::Fp32, shape, parameters: Vec::new(), data }])
}

#[test]
fn texts_become_tokens_without_padding() {
    let embedder = embedder("{}");
    assert_eq!(ids(&embedder, "The ship").unwrap(), [1, 5, 3, 2]);
    assert_eq!(ids(&embedder, "ſ Ünknøwn 🚢").unwrap(), [1, 0, 0, 0, 2]);
    assert_eq!(ids(&embedder, "   ").unwrap(), [1, 2]);
    // Seven, as the tokeniser says where no other file does.
    assert_eq!(ids(&embedder, "the the the the the").unwrap().len(), 7);
    let wrong = ids(&embedder, "the the the the the the").unwrap_err();
    assert_eq!(wrong.param, Some("input"));
    assert!(wrong.message.contains("8 tokens, more than the 7"), "{wrong}");
    let wrong = ids(&embedder, &" ".repeat(7 * 256 + 1)).unwrap_err();
    assert!(wrong.message.contains("1793 bytes, more than the 7 tokens"), "{wrong}");
}

#[test]
fn settings_prefix_cut_and_allow() {
    let other = embedder(r#"{"maxTokens":5,"truncate":true,"prefix":"ship: "}"#);
    assert_eq!(ids(&other, "berth").unwrap(), [1, 3, 0, 4, 2]);
    assert_eq!(ids(&other, "berth berth berth").unwrap(), [1, 3, 0, 4, 2]);
    assert_eq!(ids(&other, &"é".repeat(5000)).unwrap(), [1, 3, 0, 0, 2]);
    assert_eq!(other.tokens(&Input::Tokens(vec![5; 9])).unwrap().len(), 5);
    let text = Embedder::new(&files(r#"{"maxTokens":2}"#), &bert()).unwrap_err();
    assert!(text.contains("no room for a word"), "{text}");
}

#[test]
fn tokens_run_as_they_are() {
    let embedder = embedder("{}");
    let tokens = embedder.tokens(&Input::Tokens(vec![1, 5, 2])).unwrap();
    let request = embedder.request(&tokens);
    let numbers = |at: usize| match &request.inputs[at].data {
        TensorData::Fixed(bytes) => bytes.as_chunks::<8>().0.iter().map(|eight| i64::from_le_bytes(*eight)).collect(),
        TensorData::Strings(_) => Vec::new(),
    };
    assert_eq!((numbers(0), numbers(1)), (vec![1, 5, 2], vec![1, 1, 1]));
    assert_eq!((numbers(2), numbers(3)), (vec![0, 0, 0], vec![0, 1, 2]));
    assert_eq!((&request.inputs[0].shape, request.outputs[0].name.as_str()), (&vec![1, 3], "last_hidden_state"));
    assert!(embedder.tokens(&Input::Tokens(vec![6])).unwrap_err().message.contains("go from 0 to 5"));
    assert!(embedder.tokens(&Input::Tokens(vec![1; 8])).is_err());
}

#[test]
fn vectors_are_cut_only_where_that_means_something() {
    let mut plain = embedder("{}");
    let requests = plain.try_on(counting).unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(plain.vector(&counting(&requests[0]).unwrap()).unwrap(), [0.2, 0.4, 0.4, 0.8]);
    assert_eq!((plain.dimensions(None), plain.dimensions(Some(4))), (Ok(4), Ok(4)));
    assert_eq!(plain.dimensions(Some(2)).unwrap_err().param, Some("dimensions"));
    let mut nested = embedder(r#"{"matryoshka":true}"#);
    nested.try_on(counting).unwrap();
    assert_eq!(nested.dimensions(Some(2)), Ok(2));
    assert!(nested.dimensions(Some(5)).unwrap_err().message.contains("have 4"));
    assert_eq!(nested.cut(vec![3.0, 4.0, 9.0], 2), [0.6, 0.8]);
    let mut raw = embedder(r#"{"matryoshka":true,"normalise":false}"#);
    raw.try_on(counting).unwrap();
    assert_eq!(raw.cut(vec![3.0, 4.0, 9.0], 2), [3.0, 4.0]);
}

#[test]
fn models_that_make_no_embeddings_say_why() {
    let refused = |metadata: &ModelMetadata, words: &str| {
        let text = Embedder::new(&files("{}"), metadata).unwrap_err();
        assert!(text.contains(words), "{text}");
    };
    let vectors = || vec![spec("y", Datatype::Fp32, &[-1, 8])];
    let input = |name: &str, datatype, shape: &[i64]| metadata(vec![spec(name, datatype, shape)], vectors());
    refused(&input("x", Datatype::Int64, &[-1, -1]), "an input `x`");
    refused(&input("attention_mask", Datatype::Int64, &[-1, -1]), "no input `input_ids`");
    refused(&input("input_ids", Datatype::Int64, &[-1, 128]), "variable length");
    refused(&input("input_ids", Datatype::Fp32, &[-1, -1]), "not INT64 or INT32");
    refused(&metadata(bert().inputs, vec![spec("y", Datatype::Int64, &[-1, 8])]), "no output");
    let broken = EncoderFiles { tokeniser: b"{}".to_vec(), ..files("{}") };
    assert!(Embedder::new(&broken, &bert()).unwrap_err().contains("`tokenizer.json` cannot be used"));
    let outputs = vec![spec("y", Datatype::Fp32, &[-1, 2, 3]), spec("sentence_embedding", Datatype::Fp16, &[-1, 3])];
    assert_eq!(Embedder::new(&files("{}"), &metadata(bert().inputs, outputs)).unwrap().output, "sentence_embedding");
    let mut failing = embedder("{}");
    let text = failing.try_on(|_| Err(InferError::Internal("no".to_owned()))).unwrap_err();
    assert_eq!(text, "no");
}
