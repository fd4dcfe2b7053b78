//! What the gateway counts. Labels come from the configuration and from fixed lists, never from a request.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    error::{Kind, Protocol},
    outlier::{self, OutlierMetrics},
    shadow,
    window::{RevisionCounts, ServiceCounts},
};

/// Seconds. From what a small model needs to what a service may be given.
const DURATION_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

const ANSWERED: &str = "Requests that got an answer, one that broke off or a refusal of the gateway too";
const CANCELLED: &str = "Requests whose client went away before the answer was whole";

/// What stands for the service of a request that reached none.
const NONE: &str = "";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: String,
    revision: String,
    protocol: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    service: String,
    revision: String,
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// A counter for each protocol, found without looking anything up.
#[derive(Debug)]
struct ByProtocol {
    rest: Counter,
    grpc: Counter,
}

impl ByProtocol {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<ProtocolLabels, Counter>::default();
        let of = |protocol: Protocol| family.get_or_create_owned(&ProtocolLabels { protocol: protocol.as_str() });
        let counters = Self { rest: of(Protocol::Rest), grpc: of(Protocol::Grpc) };
        registry.register(name, help, family);
        counters
    }

    fn of(&self, protocol: Protocol) -> &Counter {
        match protocol {
            Protocol::Rest => &self.rest,
            Protocol::Grpc => &self.grpc,
        }
    }
}

/// All of the gateway's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    received: ByProtocol,
    answered: ByProtocol,
    cancelled: ByProtocol,
    requests: Family<RequestLabels, Counter>,
    duration: Family<TargetLabels, Histogram, fn() -> Histogram>,
    retries: Family<ServiceLabels, Counter>,
    held: Family<ServiceLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    /// What is counted of shadows.
    pub shadow: shadow::Families,
    outliers: outlier::Families,
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Generation of the configuration.
    pub generation: Gauge,
    /// Generation of the configuration on disk.
    pub kept: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("berth_gateway");
        let metrics = Self {
            received: ByProtocol::register(&mut registry, "received", "Requests whose head was read"),
            answered: ByProtocol::register(&mut registry, "answered", ANSWERED),
            cancelled: ByProtocol::register(&mut registry, "cancelled", CANCELLED),
            requests: Family::default(),
            duration: Family::new_with_constructor(duration_histogram),
            retries: Family::default(),
            held: Family::default(),
            rejected: Family::default(),
            shadow: shadow::Families::default(),
            outliers: outlier::Families::default(),
            in_flight: Gauge::default(),
            generation: Gauge::default(),
            kept: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered, by HTTP or gRPC status", metrics.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request's head to the end of its answer, for requests that reached a service",
            metrics.duration.clone(),
        );
        registry.register("retries", "Requests sent again to a replica", metrics.retries.clone());
        registry.register("held", "Requests that waited for a ready replica", metrics.held.clone());
        registry.register("rejected", "Requests that the gateway refused", metrics.rejected.clone());
        registry.register("in_flight_requests", "Requests being worked on", metrics.in_flight.clone());
        registry.register("generation", "Generation of the configuration being served", metrics.generation.clone());
        registry.register("kept_generation", "Generation of the configuration kept on disk", metrics.kept.clone());
        metrics.shadow.register(&mut registry);
        metrics.outliers.register(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Encoding into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The metrics of one service.
    pub(crate) fn service(&self, name: &str) -> ServiceMetrics {
        let labels = ServiceLabels { service: name.to_owned() };
        ServiceMetrics {
            retries: self.retries.get_or_create_owned(&labels),
            held: self.held.get_or_create_owned(&labels),
            outliers: self.outliers.of(name),
            counts: ServiceCounts::default(),
        }
    }

    /// The metrics of one revision, ready to count without looking anything up.
    pub(crate) fn revision(&self, service: &str, revision: u64) -> RevisionMetrics {
        let of = |protocol: Protocol, ok| {
            let (service, revision, protocol) = (service.to_owned(), revision.to_string(), protocol.as_str());
            let target = TargetLabels { service: service.clone(), revision: revision.clone(), protocol };
            let labels = RequestLabels { service, revision, protocol, code: ok };
            TargetMetrics {
                ok: self.requests.get_or_create_owned(&labels),
                ok_code: ok,
                duration: self.duration.get_or_create_owned(&target),
                target,
            }
        };
        let counts = RevisionCounts::default();
        RevisionMetrics { rest: of(Protocol::Rest, 200), grpc: of(Protocol::Grpc, 0), codes: Mutex::default(), counts }
    }

    /// Counts an answered request of a revision.
    pub(crate) fn answered(&self, revision: &RevisionMetrics, protocol: Protocol, code: u16, took: Duration) {
        self.answered.of(protocol).inc();
        let target = revision.target(protocol);
        target.duration.observe(took.as_secs_f64());
        if code == target.ok_code {
            target.ok.inc();
            return;
        }
        revision.codes.lock().unwrap_or_else(PoisonError::into_inner).insert((protocol.as_str(), code));
        self.requests.get_or_create(&target.with(protocol, code)).inc();
    }

    /// Counts a request that came in. It ends in exactly one of [`Self::answered`], [`Self::answered_by_gateway`] and
    /// [`Self::cancelled`].
    pub(crate) fn received(&self, protocol: Protocol) {
        self.received.of(protocol).inc();
    }

    /// Counts a request whose client went away before it had all of its answer.
    pub(crate) fn cancelled(&self, protocol: Protocol) {
        self.cancelled.of(protocol).inc();
    }

    /// Counts a request that reached no service.
    pub(crate) fn answered_by_gateway(&self, protocol: Protocol, code: u16) {
        self.answered.of(protocol).inc();
        let labels =
            RequestLabels { service: NONE.to_owned(), revision: NONE.to_owned(), protocol: protocol.as_str(), code };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a refusal.
    pub(crate) fn rejected(&self, kind: Kind) {
        self.rejected.get_or_create(&ReasonLabels { reason: kind.reason() }).inc();
    }

    /// Forgets a revision that is gone, so that the number of series follows what is deployed.
    pub(crate) fn forget_revision(&self, revision: &RevisionMetrics) {
        for (protocol, target) in [(Protocol::Rest, &revision.rest), (Protocol::Grpc, &revision.grpc)] {
            self.duration.remove(&target.target);
            self.requests.remove(&target.with(protocol, target.ok_code));
            let codes = revision.codes.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, code) in codes.iter().filter(|(name, _)| *name == protocol.as_str()) {
                self.requests.remove(&target.with(protocol, *code));
            }
        }
    }

    /// Forgets a service that is gone.
    pub(crate) fn forget_service(&self, name: &str) {
        let labels = ServiceLabels { service: name.to_owned() };
        self.retries.remove(&labels);
        self.held.remove(&labels);
        self.outliers.forget(name);
    }
}

/// What is counted per service.
#[derive(Debug)]
pub(crate) struct ServiceMetrics {
    /// Requests sent again.
    pub retries: Counter,
    /// Requests that waited for a replica.
    pub held: Counter,
    /// Replicas that are ejected.
    pub outliers: OutlierMetrics,
    /// What the controller is told.
    pub counts: ServiceCounts,
}

/// What is counted per revision.
#[derive(Debug)]
pub(crate) struct RevisionMetrics {
    rest: TargetMetrics,
    grpc: TargetMetrics,
    /// Codes counted so far, to be forgotten with the revision. HTTP and gRPC have few dozen.
    codes: Mutex<BTreeSet<(&'static str, u16)>>,
    /// What the controller is told.
    pub counts: RevisionCounts,
}

#[derive(Debug)]
struct TargetMetrics {
    ok: Counter,
    ok_code: u16,
    duration: Histogram,
    target: TargetLabels,
}

impl TargetMetrics {
    fn with(&self, protocol: Protocol, code: u16) -> RequestLabels {
        let TargetLabels { service, revision, .. } = &self.target;
        RequestLabels { service: service.clone(), revision: revision.clone(), protocol: protocol.as_str(), code }
    }
}

impl RevisionMetrics {
    fn target(&self, protocol: Protocol) -> &TargetMetrics {
        match protocol {
            Protocol::Rest => &self.rest,
            Protocol::Grpc => &self.grpc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_goes_leaves_no_series() {
        let metrics = Metrics::default();
        let revision = metrics.revision("spam", 3);
        let service = metrics.service("spam");
        metrics.answered(&revision, Protocol::Rest, 200, Duration::from_millis(2));
        metrics.answered(&revision, Protocol::Rest, 502, Duration::from_millis(2));
        metrics.answered(&revision, Protocol::Grpc, 14, Duration::from_millis(2));
        service.held.inc();
        let text = metrics.text();
        assert!(text.contains(
            "berth_gateway_requests_total{service=\"spam\",revision=\"3\",protocol=\"rest\",code=\"502\"} 1"
        ));
        assert!(text.contains("code=\"14\""));
        metrics.forget_revision(&revision);
        metrics.forget_service("spam");
        let left = metrics.text();
        assert!(!left.contains("spam"), "{left}");
        // What adds up goes on doing so.
        assert!(left.contains("berth_gateway_answered_total{protocol=\"rest\"} 2"), "{left}");
    }
}
