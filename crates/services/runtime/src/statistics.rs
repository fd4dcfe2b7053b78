//! What a model did, as the protocol's statistics extension says it.

use serde::Serialize;

use crate::{metrics::Totals, registry::Model};

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    /// How often.
    pub(crate) count: u64,
    /// How long, nanoseconds.
    pub(crate) ns: u64,
}

/// Where the time of requests went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spans {
    pub(crate) success: Span,
    pub(crate) fail: Span,
    pub(crate) queue: Span,
    pub(crate) compute_input: Span,
    pub(crate) compute_infer: Span,
    pub(crate) compute_output: Span,
    /// There is no cache.
    pub(crate) cache_hit: Span,
    pub(crate) cache_miss: Span,
}

/// What one model did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Statistics {
    pub(crate) name: String,
    pub(crate) version: String,
    /// When it last answered, milliseconds since 1970; 0 when it never did.
    pub(crate) last_inference: u64,
    /// Inferences; a batch counts its size.
    pub(crate) inference_count: u64,
    /// Runs of the model.
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: Spans,
    /// Nothing is counted by size.
    pub(crate) batch_stats: [(); 0],
}

/// The answer of `GET …/stats`.
#[derive(Serialize)]
struct Answer {
    model_stats: [Statistics; 1],
}

impl Statistics {
    /// What `model` did so far.
    pub(crate) fn of(model: &Model) -> Self {
        let totals = Totals::of(model);
        let answered = |us: u64| Span { count: totals.success, ns: us.saturating_mul(1000) };
        Self {
            name: model.name().to_owned(),
            version: model.version().to_owned(),
            last_inference: totals.last_ms,
            inference_count: totals.inferences,
            execution_count: totals.executions,
            inference_stats: Spans {
                success: answered(totals.request_us),
                fail: Span { count: totals.failed, ns: totals.failed_us.saturating_mul(1000) },
                queue: answered(totals.queue_us),
                compute_input: answered(totals.input_us),
                compute_infer: answered(totals.infer_us),
                compute_output: answered(totals.output_us),
                ..Spans::default()
            },
            batch_stats: [],
        }
    }

    /// `{"model_stats":[…]}`.
    pub(crate) fn into_json(self) -> Vec<u8> {
        // Strings and numbers always are JSON.
        serde_json::to_vec(&Answer { model_stats: [self] }).unwrap_or_default()
    }
}
