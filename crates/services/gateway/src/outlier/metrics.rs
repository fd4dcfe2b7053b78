//! What is counted of ejections.

use std::fmt;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Why;

/// Every reason, so that what has not happened yet is a zero.
const REASONS: [&str; 3] = ["failures", "error_share", "latency"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    service: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

/// The metrics of all services.
#[derive(Clone, Default)]
pub(crate) struct Families {
    ejections: Family<ReasonLabels, Counter>,
    ejected: Family<ServiceLabels, Gauge>,
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Families")
    }
}

/// Those of one service.
#[derive(Debug)]
pub(crate) struct OutlierMetrics {
    /// Replicas that are out.
    pub ejected: Gauge,
    ejections: [(&'static str, Counter); 3],
}

impl Families {
    /// Makes them part of `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Replicas that got no requests for a while because they did worse than their siblings";
        registry.register("ejections", help, self.ejections.clone());
        registry.register("ejected_replicas", "Replicas that get no requests for a while", self.ejected.clone());
    }

    /// The metrics of one service.
    pub(crate) fn of(&self, service: &str) -> OutlierMetrics {
        let labels = |reason| ReasonLabels { service: service.to_owned(), reason };
        OutlierMetrics {
            ejected: self.ejected.get_or_create_owned(&ServiceLabels { service: service.to_owned() }),
            ejections: REASONS.map(|reason| (reason, self.ejections.get_or_create_owned(&labels(reason)))),
        }
    }

    /// Forgets a service that is gone.
    pub(crate) fn forget(&self, service: &str) {
        self.ejected.remove(&ServiceLabels { service: service.to_owned() });
        for reason in REASONS {
            self.ejections.remove(&ReasonLabels { service: service.to_owned(), reason });
        }
    }
}

impl OutlierMetrics {
    /// Counts an ejection.
    pub(super) fn ejected_for(&self, why: Why) {
        if let Some((_, counter)) = self.ejections.iter().find(|(reason, _)| *reason == why.reason()) {
            counter.inc();
        }
    }
}
