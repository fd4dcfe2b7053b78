//! `berth simulate`: the arguments, and from them a load, a scenario and policies.

use std::{fs, path::Path, path::PathBuf};

use clap::ValueEnum;
use planner::{
    scale::{Policy, Response, Spec, Target},
    simulate::{Contender, Scenario, Times, Trace},
};
use resources::inference_service::{InferenceService, REPLICAS_MAX, TIMEOUT_SECONDS_DEFAULT};

use crate::failure::Failure;

pub(crate) mod report;

/// Share of a replica's concurrency that is filled where no target is given, as Knative's.
const TARGET_SHARE: f64 = 0.7;
/// Share of an objective from which the published rule reacts: 190 of 200 ms.
const DM_RESPONSE_SHARE: f64 = 0.95;
/// Bytes of a file of service times: a million numbers.
const TIMES_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Simulate how a service scales under a load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Load: CSV with `seconds,requests` of each step, `seconds,rate` with a header, or one arrival a row
    #[arg(long, value_name = "FILE")]
    pub(crate) load: PathBuf,
    /// Service whose replicas, concurrency and time-out hold, where no option says otherwise
    #[arg(short, long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Policies to compare
    #[arg(long, value_name = "POLICY", value_enum, value_delimiter = ',', default_values = ["berth", "kpa", "hpa", "dm"])]
    pub(crate) policy: Vec<Name>,
    /// Objective: 99 of 100 requests are answered within so many milliseconds; Berth scales by it
    #[arg(long, value_name = "MS", default_value_t = 100.0, value_parser = positive)]
    pub(crate) p99_ms: f64,
    /// Scale Berth and the KPA by requests under way at each replica instead
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "target_rps")]
    pub(crate) target_concurrency: Option<f64>,
    /// Scale Berth and the KPA by requests per second at each replica instead
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) target_rps: Option<f64>,
    /// Share of a replica's time that the HPA and the DM rule fill, percent
    #[arg(long, value_name = "PERCENT", default_value_t = 80.0, value_parser = positive)]
    pub(crate) target_cpu: f64,
    /// Response time that the DM rule looks at
    #[arg(long, value_enum, default_value = "p99")]
    pub(crate) dm_response: DmResponse,
    #[command(flatten)]
    pub(crate) service: Service,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Seconds of an interval, for which the objective is judged
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) interval: u32,
    /// What chance starts from: the same seed gives the same arrivals, service times and failures
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write a plot of load, latency, replicas and cost as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print every change of the number of replicas and its reason
    #[arg(long)]
    pub(crate) explain: bool,
}

/// What is known of the service.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Service {
    /// Time of one request at a replica: the mean, and after a colon the 99th percentile of a log-normal
    #[arg(long, value_name = "MEAN[:P99]", default_value = "20", conflicts_with = "service_times")]
    pub(crate) service_ms: String,
    /// File of measured times in milliseconds, one a line, instead
    #[arg(long, value_name = "FILE")]
    pub(crate) service_times: Option<PathBuf>,
    /// Seconds from the wish for a replica to its first answer, as `--service-ms`
    #[arg(long, value_name = "MEAN[:P99]", default_value = "2")]
    pub(crate) start_seconds: String,
    /// Seconds that a replica lives until it fails, in the mean [default: none fails]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) mean_time_to_failure: Option<f64>,
    /// Fewest replicas [default: the manifest's, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(REPLICAS_MAX)))]
    pub(crate) min_replicas: Option<u32>,
    /// Most replicas [default: the manifest's, else 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(REPLICAS_MAX)))]
    pub(crate) max_replicas: Option<u32>,
    /// Requests that one replica works on at a time [default: the manifest's, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: Option<u32>,
    /// Seconds after which a request that waits is given up [default: the manifest's, else 60]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) timeout: Option<f64>,
    /// Requests that may wait; one more is refused
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) queue: usize,
    /// Seconds for which fewer replicas must have been enough before Berth and the KPA have fewer [default: 30 for Berth, 0 for the KPA]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=3600))]
    pub(crate) scale_down_delay: Option<u64>,
}

/// Which part of the load, how often and how much of it.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct Part {
    /// Times as much load; single arrivals are counted over `--bin` seconds first
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub(crate) scale: f64,
    /// Seconds over which single arrivals are counted when they are scaled
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub(crate) bin: f64,
    /// The load so many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    /// Only from this second of the load on
    #[arg(long, value_name = "SECONDS")]
    pub(crate) from: Option<f64>,
    /// Only up to this second of the load
    #[arg(long, value_name = "SECONDS")]
    pub(crate) until: Option<f64>,
}

/// Policies by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Berth's own
    Berth,
    /// Knative's pod autoscaler
    Kpa,
    /// Kubernetes' horizontal pod autoscaler on CPU
    Hpa,
    /// The Dynamic Multi-level rule
    Dm,
    /// Always the most replicas
    Fixed,
}

/// Response times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DmResponse {
    /// The 99th percentile, as the objective
    P99,
    /// The mean, as published
    Mean,
}

/// Everything that a run needs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) scenario: Scenario,
    pub(crate) contenders: Vec<Contender>,
}

impl Args {
    /// Reads the files and puts a run together; `service` is the manifest's.
    pub(crate) fn setup(&self, service: Option<&InferenceService>) -> Result<Setup, Failure> {
        let predictor = service.map(|service| &service.spec.predictor);
        let min = self.service.min_replicas.or(predictor.and_then(|predictor| predictor.min_replicas)).unwrap_or(1);
        let of_manifest = predictor.and_then(|predictor| predictor.max_replicas);
        let max = self.service.max_replicas.or(of_manifest).unwrap_or(REPLICAS_MAX);
        if min > max {
            let message = format!("the fewest replicas, {min}, are more than the most, {max}");
            return Err(Failure::usage(message).hint("give a higher `--max-replicas`"));
        }
        let of_manifest = predictor.and_then(|predictor| predictor.container_concurrency).filter(|number| *number > 0);
        let concurrency = self.service.concurrency.or(of_manifest).unwrap_or(1);
        let of_manifest = predictor.and_then(|predictor| predictor.timeout).unwrap_or(TIMEOUT_SECONDS_DEFAULT);
        let timeout_s = self.service.timeout.unwrap_or(of_manifest as f64);
        let scenario = Scenario {
            trace: self.trace()?,
            service: self.service_times()?,
            start: times(&self.service.start_seconds, "--start-seconds", 1000.0)?,
            mean_time_to_failure_s: self.service.mean_time_to_failure,
            concurrency,
            queue_max: self.service.queue,
            timeout_ms: timeout_s * 1000.0,
            objective_ms: self.p99_ms,
            interval_s: f64::from(self.interval),
            seed: self.seed,
        };
        let spec = Spec { min_replicas: min, max_replicas: max, concurrency, ..Spec::default() };
        let contenders = self.policy.iter().map(|name| self.contender(*name, spec)).collect();
        Ok(Setup { scenario, contenders })
    }

    fn contender(&self, name: Name, spec: Spec) -> Contender {
        let policy = name.policy();
        let asked = match (self.target_concurrency, self.target_rps) {
            (Some(target), _) => Some(Target::Concurrency(target)),
            (None, Some(target)) => Some(Target::RequestsPerSecond(target)),
            (None, None) => None,
        };
        let own = match policy {
            Policy::Berth => Target::P99Ms(self.p99_ms),
            _ => Target::Concurrency(f64::from(spec.concurrency) * TARGET_SHARE),
        };
        let response = match self.dm_response {
            DmResponse::P99 => Response::P99(self.p99_ms * DM_RESPONSE_SHARE),
            DmResponse::Mean => Response::Mean(self.p99_ms * DM_RESPONSE_SHARE),
        };
        let delay_ms = match (policy, self.service.scale_down_delay) {
            (_, Some(seconds)) => seconds * 1000,
            (Policy::Berth, None) => planner::scale::SCALE_DOWN_DELAY_MS,
            (_, None) => 0,
        };
        let spec = Spec {
            target: asked.unwrap_or(own),
            utilisation: self.target_cpu / 100.0,
            response: Some(response),
            scale_down_delay_ms: delay_ms,
            ..spec
        };
        Contender { name: policy.name().to_owned(), policy, spec }
    }

    fn trace(&self) -> Result<Trace, Failure> {
        let text = fs::read_to_string(&self.load).map_err(|error| Failure::io("read", &self.load, &error))?;
        let trace = Trace::parse(&text)
            .map_err(|error| Failure::refused(format!("`{}` is no load: {error}", self.load.display())))?;
        let from = self.part.from.unwrap_or(0.0).max(0.0);
        let until = self.part.until.unwrap_or(f64::INFINITY);
        if from >= until.min(trace.seconds()) {
            let message = format!("there is nothing between {from} s and {until} s of {:.0} s", trace.seconds());
            return Err(Failure::usage(message).hint("give an earlier `--from` or a later `--until`"));
        }
        let mut trace = trace.between(from, until);
        #[expect(clippy::float_cmp, reason = "1 as it was written, or by default: then arrivals stay as they are")]
        if self.part.scale != 1.0 {
            trace = trace.scaled(self.part.scale, self.part.bin.max(1.0));
        }
        let trace = trace.repeated(self.part.repeat);
        if !trace.is_bounded() {
            return Err(Failure::usage(format!(
                "the load has {:.0} requests, more than are simulated",
                trace.requests()
            ))
            .hint("give a lower `--scale` or `--repeat`"));
        }
        Ok(trace)
    }

    fn service_times(&self) -> Result<Times, Failure> {
        let Some(path) = &self.service.service_times else {
            return times(&self.service.service_ms, "--service-ms", 1.0);
        };
        measured(path)
    }
}

impl Name {
    fn policy(self) -> Policy {
        match self {
            Self::Berth => Policy::Berth,
            Self::Kpa => Policy::Kpa,
            Self::Hpa => Policy::Hpa,
            Self::Dm => Policy::Dm,
            Self::Fixed => Policy::Fixed,
        }
    }
}

fn measured(path: &Path) -> Result<Times, Failure> {
    let size = fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?.len();
    if size > TIMES_BYTES_MAX {
        let message = format!("`{}` has {size} bytes, more than the {TIMES_BYTES_MAX} that are read", path.display());
        return Err(Failure::refused(message).hint("take a part of it"));
    }
    let text = fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let time = positive(line.trim()).map_err(|what| {
            Failure::refused(format!("`{}`, line {number}: {what}", path.display())).hint("one time in ms on each line")
        })?;
        all.push(time);
    }
    if all.is_empty() {
        return Err(Failure::refused(format!("`{}` has no times", path.display())).hint("one time in ms on each line"));
    }
    Ok(Times::Measured(all))
}

/// `MEAN` or `MEAN:P99`.
fn times(text: &str, option: &str, to_ms: f64) -> Result<Times, Failure> {
    let wrong = |what: String| {
        Failure::usage(format!("`{text}` for `{option}`: {what}")).hint("write a mean, or a mean and a p99: `20:50`")
    };
    let Some((mean, p99)) = text.split_once(':') else {
        return positive(text).map(|mean| Times::Constant(mean * to_ms)).map_err(wrong);
    };
    let (mean, p99) = (positive(mean).map_err(wrong)?, positive(p99).map_err(wrong)?);
    Times::from_mean_and_p99(mean * to_ms, p99 * to_ms)
        .ok_or_else(|| wrong("a p99 is between the mean and about 15 times the mean".to_owned()))
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| format!("`{text}` is no number above 0"))
}

#[cfg(test)]
mod tests;
