//! Makes tokens of texts, requests of tokens, and vectors of a model's outputs.
//!
//! The tokeniser is a stranger's file. It is parsed after the process has restricted itself, and opens nothing afterwards.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use inference::{
    Datatype, InferError, InferRequest, ModelMetadata, RequestedOutput, Tensor, TensorData, TensorSpec,
    embeddings::{
        pooling,
        request::{Input, Wrong},
        settings::{SETTINGS_FILE, Settings, TOKENS_MAX},
    },
};
use tokenizers::{Tokenizer, TruncationParams};

use crate::load::encoder::EncoderFiles;

/// Tokens of an input where no file says how many the model takes: what BERT and its kin have positions for.
const TOKENS_DEFAULT: usize = 512;

/// Bytes of text for each token that a model takes. Beyond it a text is not made into tokens to be refused or cut: the longest
/// words of a vocabulary have a few dozen bytes.
const TEXT_BYTES_PER_TOKEN_MAX: usize = 256;

/// What the model is tried with.
const TRIAL: &str = "The ship lies at its berth.";

/// Names of the output with a vector for each token, and of that with one for each input; else there must be one of the rank.
const TOKEN_OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];
const INPUT_OUTPUTS: [&str; 2] = ["sentence_embedding", "text_embeds"];

/// Makes embeddings with a model.
pub struct Embedder {
    tokeniser: Tokenizer,
    settings: Settings,
    tokens_max: usize,
    token_max: u32,
    feeds: Vec<Feed>,
    output: String,
    dimensions: usize,
}

/// One input in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    types: Vec<u32>,
}

/// An input of the model and what goes into it.
struct Feed {
    name: String,
    datatype: Datatype,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Ids,
    Types,
    Ones,
    Positions,
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, tokens_max, output, dimensions, .. } = self;
        let mut shown = f.debug_struct("Embedder");
        shown.field("settings", settings).field("tokens_max", tokens_max);
        shown.field("output", output).field("dimensions", dimensions).finish_non_exhaustive()
    }
}

impl Embedder {
    /// Parses the tokeniser, and finds the inputs and the output that embeddings need.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the tokeniser or the model, and what to do.
    pub fn new(files: &EncoderFiles, metadata: &ModelMetadata) -> Result<Self, String> {
        let settings = files.settings.clone();
        let unusable = |error: &dyn fmt::Display| format!("`tokenizer.json` cannot be used: {error}");
        let mut tokeniser = Tokenizer::from_bytes(&files.tokeniser).map_err(|error| unusable(&error))?;
        let said = tokeniser.get_truncation().map(|truncation| truncation.max_length);
        // What a tokeniser pads and cuts is meant for training; here inputs have their own lengths.
        tokeniser.with_padding(None).with_truncation(None).map_err(|error| unusable(&error))?;
        let special = encode(&tokeniser, "").map_err(|error| unusable(&error))?.ids.len();
        let tokens_max = settings.tokens_max.or(said).unwrap_or(TOKENS_DEFAULT).min(TOKENS_MAX);
        if tokens_max <= special {
            return Err(format!(
                "an input of {tokens_max} tokens has no room for a word: set `maxTokens` in `{SETTINGS_FILE}`"
            ));
        }
        if settings.truncate {
            let truncation = TruncationParams { max_length: tokens_max, ..TruncationParams::default() };
            tokeniser.with_truncation(Some(truncation)).map_err(|error| unusable(&error))?;
        }
        let token_max = tokeniser.get_vocab(true).into_values().max().unwrap_or_default();
        let feeds = metadata.inputs.iter().map(feed).collect::<Result<Vec<_>, String>>()?;
        if !feeds.iter().any(|feed| matches!(feed.what, What::Ids)) {
            return Err("it has no input `input_ids`".to_owned());
        }
        let output = output(metadata)?;
        Ok(Self { tokeniser, settings, tokens_max, token_max, feeds, output, dimensions: 0 })
    }

    /// Makes a vector with the model, and remembers how many numbers it has. Gives requests that the model answers.
    ///
    /// # Errors
    ///
    /// Says why no vector came of it.
    pub fn try_on(
        &mut self,
        mut run: impl FnMut(&InferRequest) -> Result<Vec<Tensor>, InferError>,
    ) -> Result<Vec<InferRequest>, String> {
        let mut tokens = encode(&self.tokeniser, TRIAL)?;
        tokens.ids.truncate(self.tokens_max);
        tokens.types.truncate(self.tokens_max);
        let backwards = Tokens { ids: tokens.ids.iter().rev().copied().collect(), types: tokens.types.clone() };
        let requests = vec![self.request(&tokens), self.request(&backwards)];
        for request in &requests {
            let outputs = run(request).map_err(|error| error.to_string())?;
            self.dimensions = self.vector(&outputs).map_err(|error| error.to_string())?.len();
        }
        Ok(requests)
    }

    /// Makes tokens of an input.
    ///
    /// # Errors
    ///
    /// The input is too long, or has tokens that the tokeniser does not know.
    pub fn tokens(&self, input: &Input) -> Result<Tokens, Wrong> {
        let tokens = match input {
            Input::Text(text) => self.tokens_of_text(text)?,
            Input::Tokens(ids) => {
                if let Some(unknown) = ids.iter().find(|id| **id > self.token_max) {
                    let most = self.token_max;
                    return Err(wrong(format!("`{unknown}` is no token of the model: they go from 0 to {most}")));
                }
                let most = if self.settings.truncate { self.tokens_max } else { usize::MAX };
                let ids: Vec<u32> = ids.iter().take(most).copied().collect();
                Tokens { types: vec![0; ids.len()], ids }
            }
        };
        if tokens.len() > self.tokens_max {
            return Err(self.too_long(&format!("{} tokens", tokens.len())));
        }
        if tokens.ids.is_empty() {
            return Err(wrong("no token comes of the text".to_owned()));
        }
        Ok(tokens)
    }

    fn tokens_of_text(&self, text: &str) -> Result<Tokens, Wrong> {
        let bytes_max = self.tokens_max.saturating_mul(TEXT_BYTES_PER_TOKEN_MAX);
        let text = match text.len() > bytes_max {
            false => text,
            true if self.settings.truncate => text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default(),
            true => return Err(self.too_long(&format!("{} bytes", text.len()))),
        };
        let encoded = match self.settings.prefix.as_str() {
            "" => encode(&self.tokeniser, text),
            prefix => encode(&self.tokeniser, &format!("{prefix}{text}")),
        };
        encoded.map_err(|error| wrong(format!("the text cannot be made into tokens: {error}")))
    }

    fn too_long(&self, has: &str) -> Wrong {
        let most = self.tokens_max;
        wrong(format!("the text has {has}, more than the {most} tokens that the model takes: shorten or split it"))
    }

    /// The request that runs the model on one input.
    pub fn request(&self, tokens: &Tokens) -> InferRequest {
        let inputs = self.feeds.iter().map(|feed| feed.tensor(tokens)).collect();
        let outputs = vec![RequestedOutput { name: self.output.clone(), parameters: Vec::new() }];
        InferRequest { inputs, outputs, ..InferRequest::default() }
    }

    /// The vector in the outputs of such a request.
    ///
    /// # Errors
    ///
    /// [`InferError::Internal`] when the model gave something else.
    pub fn vector(&self, outputs: &[Tensor]) -> Result<Vec<f32>, InferError> {
        let missing = || InferError::Internal(format!("the model gave no output `{}`", self.output));
        let output = outputs.iter().find(|output| output.name == self.output).ok_or_else(missing)?;
        pooling::vector(output, self.settings.pooling, self.settings.normalise)
    }

    /// How many numbers each vector keeps.
    ///
    /// # Errors
    ///
    /// The model's vectors cannot be cut, or are not that long.
    pub fn dimensions(&self, asked: Option<usize>) -> Result<usize, Wrong> {
        let whole = self.dimensions;
        let wrong = |text: String| Err(Wrong::new("dimensions", text));
        match asked {
            None => Ok(whole),
            Some(asked) if asked == whole => Ok(whole),
            Some(_) if !self.settings.matryoshka => wrong(format!(
                "the vectors of this model have {whole} dimensions and mean nothing when they are cut: leave `dimensions` out"
            )),
            Some(asked) if asked < whole => Ok(asked),
            Some(asked) => wrong(format!("`dimensions` is {asked}, and the vectors of this model have {whole}")),
        }
    }

    /// The first `dimensions` numbers of a vector, as a vector of their own.
    pub fn cut(&self, mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
        if dimensions >= vector.len() {
            return vector;
        }
        vector.truncate(dimensions);
        if self.settings.normalise { pooling::normalised(vector) } else { vector }
    }
}

impl Tokens {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Feed {
    fn tensor(&self, tokens: &Tokens) -> Tensor {
        let len = tokens.len();
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        let numbers: Vec<u32> = match self.what {
            What::Ids => tokens.ids.clone(),
            What::Types => tokens.types.clone(),
            What::Ones => vec![1; len],
            What::Positions => (0..count).collect(),
        };
        let data = if self.datatype == Datatype::Int32 {
            TensorData::from_vec(numbers.into_iter().map(u32::cast_signed).collect())
        } else {
            TensorData::from_vec(numbers.into_iter().map(i64::from).collect())
        };
        let (name, datatype) = (self.name.clone(), self.datatype);
        Tensor { name, datatype, shape: vec![1, len], parameters: Vec::new(), data }
    }
}

fn wrong(message: String) -> Wrong {
    Wrong::new("input", message)
}

/// A panic of the tokeniser is the text's, not the process's.
fn encode(tokeniser: &Tokenizer, text: &str) -> Result<Tokens, String> {
    let encoded = catch_unwind(AssertUnwindSafe(|| tokeniser.encode_fast(text, true)));
    let encoded = encoded.map_err(|_| "the tokeniser failed".to_owned())?.map_err(|error| error.to_string())?;
    Ok(Tokens { ids: encoded.get_ids().to_vec(), types: encoded.get_type_ids().to_vec() })
}

fn feed(spec: &TensorSpec) -> Result<Feed, String> {
    let what = match spec.name.as_str() {
        "input_ids" => What::Ids,
        "attention_mask" => What::Ones,
        "token_type_ids" => What::Types,
        "position_ids" => What::Positions,
        other => return Err(format!("it has an input `{other}`, which no tokeniser gives")),
    };
    let fits = |dim: Option<&i64>| dim.is_some_and(|dim| *dim < 0);
    let batch = spec.shape.first().is_some_and(|dim| *dim < 0 || *dim == 1);
    if spec.shape.len() != 2 || !batch || !fits(spec.shape.get(1)) {
        return Err(format!(
            "its input `{}` has the shape {:?}: export it with a variable length, `[-1, -1]`",
            spec.name, spec.shape
        ));
    }
    if !matches!(spec.datatype, Datatype::Int64 | Datatype::Int32) {
        return Err(format!("its input `{}` is {}, not INT64 or INT32", spec.name, spec.datatype));
    }
    Ok(Feed { name: spec.name.clone(), datatype: spec.datatype, what })
}

/// The output to take vectors from: one for each token, or one for each input, by its usual name or for being the only one.
fn output(metadata: &ModelMetadata) -> Result<String, String> {
    let float = |spec: &&TensorSpec| matches!(spec.datatype, Datatype::Fp32 | Datatype::Fp16);
    let of_rank = |rank: usize| metadata.outputs.iter().filter(float).filter(move |spec| spec.shape.len() == rank);
    let named = |rank: usize, names: [&str; 2]| of_rank(rank).find(|spec| names.contains(&spec.name.as_str()));
    let only = |rank: usize| of_rank(rank).next().filter(|_| of_rank(rank).count() == 1);
    let found = named(2, INPUT_OUTPUTS).or_else(|| named(3, TOKEN_OUTPUTS)).or_else(|| only(3)).or_else(|| only(2));
    found.map(|spec| spec.name.clone()).ok_or_else(|| {
        "it has no output `last_hidden_state` of shape `[-1, -1, dimensions]` in FP32 or FP16, nor one `sentence_embedding` of \
         shape `[-1, dimensions]`"
            .to_owned()
    })
}

#[cfg(test)]
pub(crate) mod tests;
