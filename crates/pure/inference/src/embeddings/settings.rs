//! How a bundle wants its vectors made: `embeddings.json`, and the files that Sentence Transformers writes.

use serde::Deserialize;

/// The tokeniser of Hugging Face's `tokenizers`.
pub const TOKENISER_FILE: &str = "tokenizer.json";
/// Berth's own settings, which win over those of Sentence Transformers.
pub const SETTINGS_FILE: &str = "embeddings.json";
/// The steps of a model of Sentence Transformers.
pub const MODULES_FILE: &str = "modules.json";
/// How a model of Sentence Transformers pools.
pub const POOLING_FILE: &str = "1_Pooling/config.json";
/// How long its inputs may be.
pub const LENGTH_FILE: &str = "sentence_bert_config.json";

/// Every file that makes an encoder answer with embeddings.
pub const FILES: [&str; 5] = [TOKENISER_FILE, SETTINGS_FILE, MODULES_FILE, POOLING_FILE, LENGTH_FILE];

/// Bytes of a tokeniser: those with 250,000 tokens have about 35 MB.
pub const TOKENISER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of each other file: a dozen short values.
pub const SETTINGS_BYTES_MAX: u64 = 64 * 1024;
/// Most tokens of an input, whatever the files say: attention takes memory by their square.
pub const TOKENS_MAX: usize = 32 * 1024;
/// Bytes of a prefix: an instruction is a sentence or two.
pub const PREFIX_BYTES_MAX: usize = 4096;

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    Cls,
    /// The largest of each dimension.
    Max,
    /// The last.
    Last,
}

/// How a bundle wants its vectors made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How the vectors of tokens become one; an output with one vector for each input is taken as it is.
    pub pooling: Pooling,
    /// Whether vectors have length one.
    pub normalise: bool,
    /// Tokens of an input, where a file says it.
    pub tokens_max: Option<usize>,
    /// Whether longer inputs are cut instead of refused.
    pub truncate: bool,
    /// Put before every text.
    pub prefix: String,
    /// Whether the first numbers of a vector are a vector themselves (Matryoshka representations).
    pub matryoshka: bool,
}

/// The files, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// [`SETTINGS_FILE`].
    pub settings: Option<&'a [u8]>,
    /// [`MODULES_FILE`].
    pub modules: Option<&'a [u8]>,
    /// [`POOLING_FILE`].
    pub pooling: Option<&'a [u8]>,
    /// [`LENGTH_FILE`].
    pub length: Option<&'a [u8]>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Own {
    pooling: Option<Pooling>,
    #[serde(alias = "normalize")]
    normalise: Option<bool>,
    max_tokens: Option<usize>,
    truncate: Option<bool>,
    prefix: Option<String>,
    matryoshka: Option<bool>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Modes {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct Length {
    max_seq_length: Option<usize>,
}

impl Settings {
    /// Reads the files. Without any the mean of the tokens is taken and normalised, as most encoders want it.
    ///
    /// # Errors
    ///
    /// Says which file is wrong, and what to do.
    pub fn read(files: &Files<'_>) -> Result<Self, String> {
        let own: Own = files.settings.map(|json| parse(SETTINGS_FILE, json)).transpose()?.unwrap_or_default();
        let modules: Option<Vec<Module>> = files.modules.map(|json| parse(MODULES_FILE, json)).transpose()?;
        let length: Option<Length> = files.length.map(|json| parse(LENGTH_FILE, json)).transpose()?;
        let pooling = match own.pooling {
            Some(pooling) => pooling,
            None => files.pooling.map(pooling).transpose()?.unwrap_or(Pooling::Mean),
        };
        let normalise = modules.as_deref().map(normalises).transpose()?;
        let tokens_max = own.max_tokens.or(length.and_then(|length| length.max_seq_length));
        if tokens_max.is_some_and(|tokens| tokens == 0 || tokens > TOKENS_MAX) {
            return Err(format!(
                "the most tokens of an input must be 1 to {TOKENS_MAX}: set `maxTokens` in `{SETTINGS_FILE}`"
            ));
        }
        let prefix = own.prefix.unwrap_or_default();
        if prefix.len() > PREFIX_BYTES_MAX {
            return Err(format!("`{SETTINGS_FILE}`: `prefix` has more than {PREFIX_BYTES_MAX} bytes"));
        }
        Ok(Self {
            pooling,
            normalise: own.normalise.or(normalise).unwrap_or(true),
            tokens_max,
            truncate: own.truncate.unwrap_or(false),
            prefix,
            matryoshka: own.matryoshka.unwrap_or(false),
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(file: &str, json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("`{file}`: {error}"))
}

fn pooling(json: &[u8]) -> Result<Pooling, String> {
    let modes: Modes = parse(POOLING_FILE, json)?;
    let known = [
        (modes.pooling_mode_mean_tokens, Some(Pooling::Mean)),
        (modes.pooling_mode_cls_token, Some(Pooling::Cls)),
        (modes.pooling_mode_max_tokens, Some(Pooling::Max)),
        (modes.pooling_mode_lasttoken, Some(Pooling::Last)),
        (modes.pooling_mode_mean_sqrt_len_tokens, None),
        (modes.pooling_mode_weightedmean_tokens, None),
    ];
    let mut asked = known.into_iter().filter_map(|(asked, pooling)| asked.then_some(pooling));
    match (asked.next(), asked.next()) {
        (Some(Some(pooling)), None) => Ok(pooling),
        _ => Err(format!(
            "`{POOLING_FILE}` must ask for one of the mean, the first, the largest and the last token: export the model with \
             its pooling, and leave this file out"
        )),
    }
}

/// Whether the steps end in normalising; a step with weights of its own is not in the ONNX file.
fn normalises(modules: &[Module]) -> Result<bool, String> {
    let ends = |module: &&Module, name: &str| module.kind.rsplit('.').next() == Some(name);
    let known = ["Transformer", "Pooling", "Normalize"];
    if let Some(other) = modules.iter().find(|module| !known.iter().any(|name| ends(module, name))) {
        return Err(format!(
            "`{MODULES_FILE}` has a step `{}`, which is not evaluated: export the whole model to ONNX, and leave this file out",
            other.kind
        ));
    }
    Ok(modules.iter().any(|module| ends(&module, "Normalize")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: Files<'_>) -> Result<Settings, String> {
        Settings::read(&files)
    }

    const MODULES: &[u8] = br#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;

    #[test]
    fn without_files_the_mean_is_normalised() {
        let settings = read(Files::default()).unwrap();
        assert_eq!((settings.pooling, settings.normalise, settings.tokens_max), (Pooling::Mean, true, None));
        assert!(!settings.truncate && !settings.matryoshka && settings.prefix.is_empty());
    }

    #[test]
    fn files_of_sentence_transformers_are_read_and_those_of_berth_win() {
        let pooling =
            br#"{"word_embedding_dimension":384,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;
        let length = br#"{"max_seq_length":256,"do_lower_case":false}"#;
        let theirs = Files { modules: Some(MODULES), pooling: Some(pooling), length: Some(length), settings: None };
        let settings = read(theirs).unwrap();
        assert_eq!((settings.pooling, settings.normalise, settings.tokens_max), (Pooling::Cls, false, Some(256)));
        let own = br#"{"pooling":"last","normalize":true,"maxTokens":64,"truncate":true,"prefix":"query: ","matryoshka":true}"#;
        let settings = read(Files { settings: Some(own), ..theirs }).unwrap();
        let wanted = Settings {
            pooling: Pooling::Last,
            normalise: true,
            tokens_max: Some(64),
            truncate: true,
            prefix: "query: ".to_owned(),
            matryoshka: true,
        };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn what_is_not_evaluated_is_refused() {
        let dense = br#"[{"type":"sentence_transformers.models.Dense"}]"#;
        let text = read(Files { modules: Some(dense), ..Files::default() }).unwrap_err();
        assert!(text.contains("`sentence_transformers.models.Dense`"), "{text}");
        for modes in [
            r#"{"pooling_mode_mean_sqrt_len_tokens":true}"#,
            "{}",
            r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#,
        ] {
            let text = read(Files { pooling: Some(modes.as_bytes()), ..Files::default() }).unwrap_err();
            assert!(text.contains("`1_Pooling/config.json` must ask for one"), "{text}");
        }
        for own in [
            r#"{"maxTokens":0}"#,
            r#"{"maxTokens":99999}"#,
            r#"{"poolings":"mean"}"#,
            r#"{"pooling":"sum"}"#,
            "[",
            "[1]",
        ] {
            assert!(read(Files { settings: Some(own.as_bytes()), ..Files::default() }).is_err(), "{own}");
        }
    }
}
