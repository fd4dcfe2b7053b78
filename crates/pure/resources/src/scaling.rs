//! How many replicas a service may have, and how fast their number follows the load.

use std::collections::BTreeMap;

use crate::inference_service::InferenceServiceSpec;

/// Annotation, Knative's: the time that ordinary decisions look back, and after which an idle service has no replicas.
pub const WINDOW: &str = "autoscaling.knative.dev/window";
/// Annotation, Knative's: the time for which fewer replicas must have been enough before there are fewer.
pub const SCALE_DOWN_DELAY: &str = "autoscaling.knative.dev/scale-down-delay";
/// Shortest and longest window, milliseconds; Knative's.
const WINDOW_MS: (u64, u64) = (6_000, 3_600_000);
/// Longest delay, milliseconds; Knative's.
const DELAY_MS_MAX: u64 = 3_600_000;
/// Default window, milliseconds; Knative's.
const WINDOW_MS_DEFAULT: u64 = 60_000;
/// Default delay, milliseconds. Knative has none; bursts of a few seconds would then have replicas come and go.
const DELAY_MS_DEFAULT: u64 = 30_000;

/// Fewest and most replicas of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest; with 0 an idle service has none.
    pub min: u32,
    /// Most; at least 1.
    pub max: u32,
}

impl Bounds {
    /// What a specification asks for: without `maxReplicas` the number is fixed.
    pub fn of(spec: &InferenceServiceSpec) -> Self {
        let min = spec.predictor.min_replicas.unwrap_or(1);
        Self { min, max: spec.predictor.max_replicas.unwrap_or(min).max(min).max(1) }
    }

    /// Whether there is anything to decide.
    pub fn scales(self) -> bool {
        self.min < self.max
    }

    /// The nearest number within them.
    pub fn clamp(self, replicas: u32) -> u32 {
        replicas.clamp(self.min, self.max)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// How fast the number of replicas follows the load, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How far back ordinary decisions look, and when an idle service has no replicas any more.
    pub window_ms: u64,
    /// How long fewer replicas must have been enough.
    pub scale_down_delay_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window_ms: WINDOW_MS_DEFAULT, scale_down_delay_ms: DELAY_MS_DEFAULT }
    }
}

impl Pace {
    /// What annotations ask for; the defaults where they say nothing. Says which of them makes no sense.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, (&'static str, String)> {
        let mut pace = Self::default();
        if let Some(text) = annotations.get(WINDOW) {
            pace.window_ms = within(text, WINDOW_MS).map_err(|message| (WINDOW, message))?;
        }
        if let Some(text) = annotations.get(SCALE_DOWN_DELAY) {
            let delay = within(text, (0, DELAY_MS_MAX)).map_err(|message| (SCALE_DOWN_DELAY, message))?;
            pace.scale_down_delay_ms = delay;
        }
        Ok(pace)
    }
}

fn within(text: &str, (least, most): (u64, u64)) -> Result<u64, String> {
    let (low, high) = (least / 1000, most / 1000);
    let found =
        milliseconds(text).ok_or_else(|| format!("expected a time such as `30s` or `1m30s`, found `{text:.20}`"))?;
    if (least..=most).contains(&found) {
        return Ok(found);
    }
    Err(format!("expected {low}s to {high}s, found `{text:.20}`"))
}

/// Milliseconds of a time as Go writes it, in whole numbers: `1h`, `1m30s`, `500ms`, `0`.
fn milliseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let each = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(each)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, ms) in [("0", 0), ("0s", 0), ("30s", 30_000), ("1m30s", 90_000), ("1h", 3_600_000), ("250ms", 250)] {
            assert_eq!(milliseconds(text), Some(ms), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "ü", "1s ", "18446744073709551615h"]
        {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_pace_is_that_of_the_annotations_within_bounds() {
        let of = |pairs: &[(&str, &str)]| {
            Pace::of(&pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect())
        };
        assert_eq!(of(&[]), Ok(Pace { window_ms: 60_000, scale_down_delay_ms: 30_000 }));
        let both = of(&[(WINDOW, "6s"), (SCALE_DOWN_DELAY, "0s")]);
        assert_eq!(both, Ok(Pace { window_ms: 6_000, scale_down_delay_ms: 0 }));
        assert_eq!(of(&[(WINDOW, "5s")]), Err((WINDOW, "expected 6s to 3600s, found `5s`".to_owned())));
        assert_eq!(of(&[(SCALE_DOWN_DELAY, "soon")]).unwrap_err().0, SCALE_DOWN_DELAY);
    }
}
