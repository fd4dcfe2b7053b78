//! What this process counts, in the names that dashboards of inference servers know, and in its own.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use inference::InferError;

use crate::registry::{Model, Registry, Timings};

/// `Content-Type` of [`text`]'s answer: the text format, since OpenMetrics wants `_total` on counters and the names
/// that dashboards know do not have it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the latency histogram, in microseconds: from a tree ensemble to a large network on one CPU.
const BUCKETS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// Upper bounds of the histogram of rows.
const BUCKETS_ROWS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024];

/// Runs of one model, each of one or more requests.
#[derive(Debug, Default)]
pub struct Runs {
    rows: AtomicU64,
    lanes: AtomicU64,
    beyond: AtomicU64,
    buckets: [AtomicU64; BUCKETS_ROWS.len()],
}

/// Counters of one model. Each is a word of its own: nothing is locked to count.
#[derive(Debug, Default)]
pub struct Counters {
    success: AtomicU64,
    rejected: AtomicU64,
    cancelled: AtomicU64,
    backend: AtomicU64,
    other: AtomicU64,
    inferences: AtomicU64,
    pending: AtomicU64,
    request_us: AtomicU64,
    queue_us: AtomicU64,
    input_us: AtomicU64,
    infer_us: AtomicU64,
    output_us: AtomicU64,
    failed_us: AtomicU64,
    last_ms: AtomicU64,
    buckets: [AtomicU64; BUCKETS_US.len()],
}

/// Counts one request from its arrival; one that is dropped before its outcome was cancelled by its client.
#[derive(Debug)]
pub struct Counting<'a> {
    counters: &'a Counters,
    begun: Instant,
    decided: bool,
}

impl Runs {
    /// A run was on a lane.
    pub fn ran_on_lane(&self) {
        self.lanes.fetch_add(1, Ordering::Relaxed);
    }

    /// The model has answered `rows` in one run.
    pub fn ran(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        let within = BUCKETS_ROWS.iter().position(|bound| rows <= *bound);
        within.and_then(|at| self.buckets.get(at)).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
    }
}

/// What was counted of one model, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) success: u64,
    /// Refused, failed or given up by their clients.
    pub(crate) failed: u64,
    pub(crate) failed_us: u64,
    pub(crate) inferences: u64,
    pub(crate) executions: u64,
    pub(crate) request_us: u64,
    pub(crate) queue_us: u64,
    pub(crate) input_us: u64,
    pub(crate) infer_us: u64,
    pub(crate) output_us: u64,
    /// When a request was last answered, milliseconds since 1970.
    pub(crate) last_ms: u64,
}

impl Totals {
    /// What was counted of `model`.
    pub(crate) fn of(model: &Model) -> Self {
        let counters = model.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed = REASONS.iter().map(|(_, reason)| read(reason(counters)));
        Self {
            success: read(&counters.success),
            failed: failed.fold(0, u64::saturating_add),
            failed_us: read(&counters.failed_us),
            inferences: read(&counters.inferences),
            executions: executions(model),
            request_us: read(&counters.request_us),
            queue_us: read(&counters.queue_us),
            input_us: read(&counters.input_us),
            infer_us: read(&counters.infer_us),
            output_us: read(&counters.output_us),
            last_ms: read(&counters.last_ms),
        }
    }
}

impl Counters {
    /// Begins to count a request.
    pub fn begin(&self) -> Counting<'_> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Counting { counters: self, begun: Instant::now(), decided: false }
    }
}

impl Counting<'_> {
    /// The request goes on to be counted by [`Model::infer`].
    pub fn handed_over(mut self) {
        self.decided = true;
    }

    /// The request was answered after `total`; it held `batch` inferences.
    pub fn succeeded(mut self, batch: u64, total: Duration, timings: &Timings) {
        self.decided = true;
        let add = |counter: &AtomicU64, value: u64| counter.fetch_add(value, Ordering::Relaxed);
        add(&self.counters.success, 1);
        add(&self.counters.inferences, batch);
        add(&self.counters.request_us, micros(total));
        add(&self.counters.queue_us, micros(timings.queue));
        add(&self.counters.input_us, micros(timings.input));
        let infer = timings.compute.saturating_sub(timings.input).saturating_sub(timings.output);
        add(&self.counters.infer_us, micros(infer));
        add(&self.counters.output_us, micros(timings.output));
        self.counters.last_ms.fetch_max(daemon::time::now_ms(), Ordering::Relaxed);
        let within = BUCKETS_US.iter().position(|bound| micros(total) <= *bound);
        if let Some(bucket) = within.and_then(|at| self.counters.buckets.get(at)) {
            add(bucket, 1);
        }
    }

    /// The request was refused or failed.
    pub fn failed(mut self, error: &InferError) {
        self.decided = true;
        let counter = match error {
            InferError::Unavailable(_) | InferError::DeadlineExceeded(_) => &self.counters.rejected,
            InferError::Internal(_) => &self.counters.backend,
            InferError::InvalidInput(_)
            | InferError::NotFound(_)
            | InferError::TooLarge(_)
            | InferError::Stalled(_)
            | InferError::Unsupported(_) => &self.counters.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.took();
    }

    /// Counts the time of a request that was not answered.
    fn took(&self) {
        self.counters.failed_us.fetch_add(micros(self.begun.elapsed()), Ordering::Relaxed);
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counters.pending.fetch_sub(1, Ordering::Relaxed);
        if !self.decided {
            self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
            self.took();
        }
    }
}

/// Whole microseconds, as the de-facto names want them. Durations below one are rounded, not cut, so that sums do not vanish.
fn micros(duration: Duration) -> u64 {
    u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)
}

/// Every metric in the Prometheus text format.
///
/// # Errors
///
/// None: writing to memory does not fail.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let models = registry.models();
    for (name, kind, help, read) in SAMPLES {
        header(&mut text, name, kind, help)?;
        for model in &models {
            let value = read(model.counters()).load(Ordering::Relaxed);
            writeln!(text, "{name}{{{}}} {value}", labels(model))?;
        }
    }
    header(&mut text, "nv_inference_exec_count", "counter", "Runs of the model, each of one or more requests")?;
    for model in &models {
        writeln!(text, "nv_inference_exec_count{{{}}} {}", labels(model), executions(model))?;
    }
    header(&mut text, "nv_inference_request_failure", "counter", "Requests that failed, by reason")?;
    for model in &models {
        for (reason, read) in REASONS {
            let value = read(model.counters()).load(Ordering::Relaxed);
            writeln!(text, "nv_inference_request_failure{{{},reason=\"{reason}\"}} {value}", labels(model))?;
        }
    }
    header(&mut text, "berth_runtime_model_ready", "gauge", "Whether the model answers")?;
    for model in &models {
        writeln!(text, "berth_runtime_model_ready{{{}}} {}", labels(model), u8::from(model.ready()))?;
    }
    header(&mut text, "berth_runtime_draining", "gauge", "Whether the process finishes its last requests")?;
    writeln!(text, "berth_runtime_draining {}", u8::from(registry.draining()))?;
    header(&mut text, "berth_runtime_request_seconds", "histogram", "Time of answered requests in the runtime")?;
    for model in &models {
        histogram(&mut text, model)?;
    }
    header(&mut text, "berth_runtime_batch_rows", "histogram", "Rows of a run of the model")?;
    for model in &models {
        rows_histogram(&mut text, model)?;
    }
    header(&mut text, "berth_runtime_lane_runs", "counter", "Runs of the model on a lane, beside others")?;
    for model in &models {
        let runs = model.runs().map_or(0, |runs| runs.lanes.load(Ordering::Relaxed));
        writeln!(text, "berth_runtime_lane_runs{{{}}} {runs}", labels(model))?;
    }
    Ok(text)
}

fn executions(model: &Model) -> u64 {
    let read = |runs: &Runs| {
        let within = runs.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        within.fold(runs.beyond.load(Ordering::Relaxed), u64::saturating_add)
    };
    model.runs().map_or(0, read)
}

fn rows_histogram(text: &mut String, model: &Model) -> fmt::Result {
    let nothing = Runs::default();
    let (labels, runs) = (labels(model), model.runs().unwrap_or(&nothing));
    let mut below = 0_u64;
    for (bound, bucket) in BUCKETS_ROWS.iter().zip(&runs.buckets) {
        below = below.saturating_add(bucket.load(Ordering::Relaxed));
        writeln!(text, "berth_runtime_batch_rows_bucket{{{labels},le=\"{bound}\"}} {below}")?;
    }
    let count = below.saturating_add(runs.beyond.load(Ordering::Relaxed));
    writeln!(text, "berth_runtime_batch_rows_bucket{{{labels},le=\"+Inf\"}} {count}")?;
    writeln!(text, "berth_runtime_batch_rows_sum{{{labels}}} {}", runs.rows.load(Ordering::Relaxed))?;
    writeln!(text, "berth_runtime_batch_rows_count{{{labels}}} {count}")
}

type Read = fn(&Counters) -> &AtomicU64;

const SAMPLES: [(&str, &str, &str, Read); 8] = [
    ("nv_inference_request_success", "counter", "Requests answered", |counters| &counters.success),
    ("nv_inference_count", "counter", "Inferences answered, a batch counting its size", |counters| {
        &counters.inferences
    }),
    ("nv_inference_pending_request_count", "gauge", "Requests that wait or run", |counters| &counters.pending),
    ("nv_inference_request_duration_us", "counter", "Time of answered requests", |counters| &counters.request_us),
    ("nv_inference_queue_duration_us", "counter", "Time answered requests waited", |counters| &counters.queue_us),
    ("nv_inference_compute_input_duration_us", "counter", "Time to prepare inputs", |counters| &counters.input_us),
    ("nv_inference_compute_infer_duration_us", "counter", "Time the model ran", |counters| &counters.infer_us),
    ("nv_inference_compute_output_duration_us", "counter", "Time to take outputs", |counters| &counters.output_us),
];

const REASONS: [(&str, Read); 4] = [
    ("REJECTED", |counters| &counters.rejected),
    ("CANCELED", |counters| &counters.cancelled),
    ("BACKEND", |counters| &counters.backend),
    ("OTHER", |counters| &counters.other),
];

fn header(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Names and versions are checked at start: nothing in them needs escaping.
fn labels(model: &Model) -> String {
    format!("model=\"{}\",version=\"{}\"", model.name(), model.version())
}

fn histogram(text: &mut String, model: &Model) -> fmt::Result {
    let (labels, counters) = (labels(model), model.counters());
    let count = counters.success.load(Ordering::Relaxed);
    let mut below = 0_u64;
    for (bound, bucket) in BUCKETS_US.iter().zip(&counters.buckets) {
        below = below.saturating_add(bucket.load(Ordering::Relaxed));
        let le = Duration::from_micros(*bound).as_secs_f64();
        writeln!(text, "berth_runtime_request_seconds_bucket{{{labels},le=\"{le}\"}} {below}")?;
    }
    // Read one after the other while requests end: the last bucket must not be below the one before.
    let count = count.max(below);
    let sum = Duration::from_micros(counters.request_us.load(Ordering::Relaxed)).as_secs_f64();
    writeln!(text, "berth_runtime_request_seconds_bucket{{{labels},le=\"+Inf\"}} {count}")?;
    writeln!(text, "berth_runtime_request_seconds_sum{{{labels}}} {sum}")?;
    writeln!(text, "berth_runtime_request_seconds_count{{{labels}}} {count}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn outcomes_are_counted_by_their_names() {
        let model = Arc::new(Model::announced("iris".into(), "3".into()));
        let us = Duration::from_micros;
        let timings = Timings { queue: us(5), compute: us(100), input: us(7), output: us(3) };
        model.counters().begin().succeeded(4, us(300), &timings);
        model.counters().begin().failed(&InferError::Internal(String::new()));
        model.counters().begin().failed(&InferError::Unavailable(String::new()));
        drop(model.counters().begin());
        let running = model.counters().begin();
        let registry = Registry::new(vec![Arc::clone(&model)], CancellationToken::new());
        let text = text(&registry).unwrap();
        for line in [
            "# TYPE nv_inference_request_success counter",
            "nv_inference_request_success{model=\"iris\",version=\"3\"} 1",
            "nv_inference_count{model=\"iris\",version=\"3\"} 4",
            "nv_inference_pending_request_count{model=\"iris\",version=\"3\"} 1",
            "nv_inference_compute_infer_duration_us{model=\"iris\",version=\"3\"} 90",
            "nv_inference_request_failure{model=\"iris\",version=\"3\",reason=\"REJECTED\"} 1",
            "nv_inference_request_failure{model=\"iris\",version=\"3\",reason=\"CANCELED\"} 1",
            "nv_inference_request_failure{model=\"iris\",version=\"3\",reason=\"BACKEND\"} 1",
            "berth_runtime_request_seconds_bucket{model=\"iris\",version=\"3\",le=\"0.00025\"} 0",
            "berth_runtime_request_seconds_bucket{model=\"iris\",version=\"3\",le=\"0.0005\"} 1",
            "berth_runtime_request_seconds_bucket{model=\"iris\",version=\"3\",le=\"+Inf\"} 1",
            "berth_runtime_model_ready{model=\"iris\",version=\"3\"} 0",
            "berth_runtime_draining 0",
            "nv_inference_exec_count{model=\"iris\",version=\"3\"} 0",
            "berth_runtime_batch_rows_count{model=\"iris\",version=\"3\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(running);
    }
}
