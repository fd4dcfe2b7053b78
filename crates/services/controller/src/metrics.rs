//! What the controller counts.

use std::sync::atomic::AtomicU64;

use planner::{
    Input, Phase, Plan,
    judge::{e_value, findings},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of the replicas gauge.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReplicaLabels {
    service: String,
    phase: String,
}

/// Labels of the exits counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

/// Every metric of the controller.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    passes: Counter,
    failures: Counter,
    services: Gauge<u64, AtomicU64>,
    generation: Gauge<u64, AtomicU64>,
    acknowledged: Gauge<u64, AtomicU64>,
    replicas: Family<ReplicaLabels, Gauge<u64, AtomicU64>>,
    restarts: Family<ServiceLabels, Gauge<u64, AtomicU64>>,
    desired: Family<ServiceLabels, Gauge<u64, AtomicU64>>,
    ready: Family<ServiceLabels, Gauge<u64, AtomicU64>>,
    steps: Family<ServiceLabels, Gauge<u64, AtomicU64>>,
    evidence: Family<TestLabels, Gauge<f64, AtomicU64>>,
    memory_available: Gauge<u64, AtomicU64>,
    memory_total: Gauge<u64, AtomicU64>,
    evictions: Counter,
}

/// Labels of the evidence gauge.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TestLabels {
    service: String,
    test: String,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("berth_controller");
        let metrics = Self {
            passes: Counter::default(),
            failures: Counter::default(),
            services: Gauge::default(),
            generation: Gauge::default(),
            acknowledged: Gauge::default(),
            replicas: Family::default(),
            restarts: Family::default(),
            steps: Family::default(),
            evidence: Family::default(),
            desired: Family::default(),
            ready: Family::default(),
            memory_available: Gauge::default(),
            memory_total: Gauge::default(),
            evictions: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("passes", "Passes of the reconcile loop", metrics.passes.clone());
        registry.register("pass_failures", "Passes that failed", metrics.failures.clone());
        registry.register("services", "Services, those being deleted included", metrics.services.clone());
        registry.register("snapshot_generation", "Generation of the newest snapshot", metrics.generation.clone());
        registry.register("snapshot_acknowledged", "Generation that the gateway serves", metrics.acknowledged.clone());
        registry.register("replicas", "Replicas by service and phase", metrics.replicas.clone());
        registry.register(
            "replica_exits",
            "Replicas that ended by themselves, of the revisions that are kept",
            metrics.restarts.clone(),
        );
        registry.register("rollout_step", "Step of a rollout that is judged, from 1", metrics.steps.clone());
        registry.register(
            "rollout_evidence",
            "Evidence that the revisions of a rollout that is judged differ, an e-value",
            metrics.evidence.clone(),
        );
        let text = "Replicas that the newest revision of a service is to have";
        registry.register("desired_replicas", text, metrics.desired.clone());
        registry.register("ready_replicas", "Replicas of it that answer", metrics.ready.clone());
        metrics.register_memory(&mut registry);
        Self { registry, ..metrics }
    }

    fn register_memory(&self, registry: &mut Registry) {
        let text =
            "Memory that processes may still take, of the machine or of the control group that has the least left";
        registry.register("memory_available_bytes", text, self.memory_available.clone());
        registry.register("memory_bytes", "Memory that there is", self.memory_total.clone());
        registry.register(
            "evictions",
            "Replicas that were taken away because memory was short",
            self.evictions.clone(),
        );
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    pub(crate) fn passed(&self, input: &Input, plan: &Plan, generation: u64) {
        self.passes.inc();
        self.services.set(u64::try_from(input.services.len()).unwrap_or(u64::MAX));
        self.generation.set(generation);
        self.acknowledged.set(input.gateway_acknowledged);
        self.replicas.clear();
        for replica in &input.replicas {
            let phase = match replica.phase {
                Phase::Starting { .. } => "starting",
                Phase::Ready { .. } => "ready",
                Phase::Leaving { .. } | Phase::Stopping { .. } => "draining",
                Phase::Gone | Phase::Exited(_) => continue,
            };
            let labels = ReplicaLabels { service: replica.service.to_string(), phase: phase.to_owned() };
            self.replicas.get_or_create(&labels).inc();
        }
        if let Some(pressure) = &input.pressure {
            self.memory_available.set(pressure.available_bytes);
            self.memory_total.set(pressure.total_bytes);
        }
        self.evictions.inc_by(u64::from(plan.evicted.is_some()));
        self.rollouts(input);
        self.restarts.clear();
        for history in &input.histories {
            let labels = ServiceLabels { service: history.service.to_string() };
            self.restarts.get_or_create(&labels).inc_by(u64::from(history.exits));
        }
        self.desired.clear();
        self.ready.clear();
        for service in &plan.services {
            let labels = ServiceLabels { service: service.name.to_string() };
            self.desired.get_or_create(&labels).set(u64::from(service.scale.desired));
            self.ready.get_or_create(&labels).set(u64::from(service.scale.ready));
        }
    }

    fn rollouts(&self, input: &Input) {
        self.steps.clear();
        self.evidence.clear();
        for service in &input.services {
            let state = service.revisions.last().and_then(|newest| newest.rollout.as_ref());
            let (Some(rollout), Some(state)) = (&service.rollout, state.filter(|state| state.verdict.is_none())) else {
                continue;
            };
            let labels = ServiceLabels { service: service.name.to_string() };
            self.steps.get_or_create(&labels).set(u64::from(state.step) + 1);
            for finding in findings(&state.evidence, &rollout.limits()) {
                let test = finding.question.name().to_owned();
                let labels = TestLabels { service: service.name.to_string(), test };
                self.evidence.get_or_create(&labels).set(e_value(finding.log_e));
            }
        }
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
