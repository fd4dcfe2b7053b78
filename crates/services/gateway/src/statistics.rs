//! Statistics of a model, summed over its replicas: the protocol's statistics extension. Pure.

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};

/// Bytes of one replica's statistics.
pub(crate) const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(crate) struct Span {
    /// How often.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// How long, nanoseconds.
    #[prost(uint64, tag = "2")]
    pub ns: u64,
}

/// Where the time of requests went.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(crate) struct Spans {
    #[prost(message, optional, tag = "1")]
    success: Option<Span>,
    #[prost(message, optional, tag = "2")]
    fail: Option<Span>,
    #[prost(message, optional, tag = "3")]
    queue: Option<Span>,
    #[prost(message, optional, tag = "4")]
    compute_input: Option<Span>,
    #[prost(message, optional, tag = "5")]
    compute_infer: Option<Span>,
    #[prost(message, optional, tag = "6")]
    compute_output: Option<Span>,
    #[prost(message, optional, tag = "7")]
    cache_hit: Option<Span>,
    #[prost(message, optional, tag = "8")]
    cache_miss: Option<Span>,
}

/// What one version of a model did.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The revision.
    #[prost(string, tag = "2")]
    pub version: String,
    /// When it last answered, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub last_inference: u64,
    /// Inferences; a batch counts its size.
    #[prost(uint64, tag = "4")]
    pub inference_count: u64,
    /// Runs of the model.
    #[prost(uint64, tag = "5")]
    pub execution_count: u64,
    /// Where the time went.
    #[prost(message, optional, tag = "6")]
    pub inference_stats: Option<Spans>,
    /// The same by size of batches, where replicas count that.
    #[prost(message, repeated, tag = "7")]
    #[serde(default)]
    pub batch_stats: Vec<Batch>,
}

/// Runs of one size.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(crate) struct Batch {
    #[prost(uint64, tag = "1")]
    batch_size: u64,
    #[prost(message, optional, tag = "2")]
    compute_input: Option<Span>,
    #[prost(message, optional, tag = "3")]
    compute_infer: Option<Span>,
    #[prost(message, optional, tag = "4")]
    compute_output: Option<Span>,
}

/// An answer, of a replica and of the gateway.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(crate) struct Statistics {
    /// By version.
    #[prost(message, repeated, tag = "1")]
    pub model_stats: Vec<Version>,
}

/// Adds up what replicas say, version by version. What cannot be read is left out.
pub(crate) fn sum<'a>(answers: impl Iterator<Item = &'a str>) -> Statistics {
    let mut sums: BTreeMap<(String, u64, String), Version> = BTreeMap::new();
    for answer in answers.filter_map(|text| serde_json::from_str::<Statistics>(text).ok()) {
        for version in answer.model_stats {
            // Revisions are numbers, and stand in their order.
            let number = version.version.parse().unwrap_or(u64::MAX);
            let key = (version.name.clone(), number, version.version.clone());
            match sums.get_mut(&key) {
                Some(sum) => sum.add(&version),
                None => drop(sums.insert(key, version)),
            }
        }
    }
    Statistics { model_stats: sums.into_values().collect() }
}

impl Version {
    fn add(&mut self, other: &Self) {
        self.last_inference = self.last_inference.max(other.last_inference);
        self.inference_count = self.inference_count.saturating_add(other.inference_count);
        self.execution_count = self.execution_count.saturating_add(other.execution_count);
        let batches = &other.batch_stats;
        let (one, other) = (self.inference_stats.unwrap_or_default(), other.inference_stats.unwrap_or_default());
        self.inference_stats = Some(Spans {
            success: added(one.success, other.success),
            fail: added(one.fail, other.fail),
            queue: added(one.queue, other.queue),
            compute_input: added(one.compute_input, other.compute_input),
            compute_infer: added(one.compute_infer, other.compute_infer),
            compute_output: added(one.compute_output, other.compute_output),
            cache_hit: added(one.cache_hit, other.cache_hit),
            cache_miss: added(one.cache_miss, other.cache_miss),
        });
        for batch in batches {
            match self.batch_stats.iter_mut().find(|known| known.batch_size == batch.batch_size) {
                Some(known) => {
                    known.compute_input = added(known.compute_input, batch.compute_input);
                    known.compute_infer = added(known.compute_infer, batch.compute_infer);
                    known.compute_output = added(known.compute_output, batch.compute_output);
                }
                None => self.batch_stats.push(*batch),
            }
        }
    }
}

fn added(one: Option<Span>, other: Option<Span>) -> Option<Span> {
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    Some(Span { count: one.count.saturating_add(other.count), ns: one.ns.saturating_add(other.ns) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replica(version: &str, count: u64, last: u64) -> String {
        let span = serde_json::json!({"count": count, "ns": count * 10});
        let names =
            ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"];
        let spans: BTreeMap<_, _> = names.iter().map(|name| (*name, &span)).collect();
        serde_json::json!({"model_stats": [{
            "name": "spam", "version": version, "last_inference": last, "inference_count": count * 2,
            "execution_count": count, "inference_stats": spans, "batch_stats": [],
        }]})
        .to_string()
    }

    #[test]
    fn replicas_of_a_version_are_added_and_versions_are_not() {
        let texts = [replica("10", 1, 5), replica("9", 2, 7), "not JSON".to_owned(), replica("9", 3, 6)];
        let sum = sum(texts.iter().map(String::as_str));
        let wanted = [replica("9", 5, 7), replica("10", 1, 5)];
        let wanted = wanted.map(|text| serde_json::from_str::<Statistics>(&text).unwrap().model_stats.remove(0));
        assert_eq!(sum.model_stats, wanted);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}", count in any::<u32>()) {
            let other = replica("1", count.into(), u64::MAX);
            prop_assert_eq!(sum([text.as_str(), other.as_str()].into_iter()).model_stats.len(), 1);
        }
    }
}
