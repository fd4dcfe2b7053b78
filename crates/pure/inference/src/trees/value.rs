//! Numbers and flags in the several ways in which XGBoost's versions have written them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::{TreeError, malformed, to_f64};

/// A parameter: text, several numbers of it in brackets; other writers may give a number.
#[derive(Debug)]
pub(super) struct Text(String);

/// A flag: a boolean in JSON of old versions, 0 or 1 later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag(pub(super) bool);

impl Text {
    /// The numbers of the parameter `field`.
    pub(super) fn numbers(&self, field: &str) -> Result<Vec<f64>, TreeError> {
        let shown = || self.0.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let wrong = |_| malformed(format!("`{field}` is `{}`, which is not a number", shown()));
        let inner = self.0.trim().trim_start_matches('[').trim_end_matches(']');
        inner.split(',').map(|part| part.trim().parse::<f64>().map_err(wrong)).collect()
    }

    /// The parameter `field` when it counts something.
    pub(super) fn count(&self, field: &str, most: usize) -> Result<usize, TreeError> {
        let value = self.numbers(field)?.first().copied().unwrap_or_default();
        if !(0.0..=to_f64(most)).contains(&value) || value.fract() != 0.0 {
            return Err(malformed(format!("`{field}` is {value}: expected a whole number up to {most}")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in range")]
        Ok(value as usize)
    }
}

/// Characters of a wrong value that a message repeats.
const SHOWN_CHARS_MAX: usize = 40;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text of numbers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor)
    }
}

struct FlagVisitor;

impl Visitor<'_> for FlagVisitor {
    type Value = Flag;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, 0 or 1")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
        Ok(Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Flag, E> {
        Ok(Flag(number != 0))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Flag, E> {
        Ok(Flag(number != 0))
    }
}
