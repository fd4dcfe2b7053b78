//! How many replicas a service needs: from windows of metrics, its wishes and what was learned before, to a number and the reason.
//!
//! [`decide`] is a pure function: what a policy remembers goes in as a [`Memory`] and comes out as a new one. [`Policy::Berth`]
//! is Berth's own; the others follow their documentation and exist to be compared with it in the simulator.

mod berth;
mod bounds;
mod dm;
mod forecast;
mod hpa;
mod kpa;
mod level;
mod number;
mod queueing;
mod seasons;
mod window;

use resources::window::WINDOW_MS;

pub use berth::SCALE_DOWN_DELAY_MS;
pub(crate) use number::{at_most_u32, whole};
pub use window::{WINDOWS_MAX, Window};

/// A way to choose the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Reactive with stable and panic windows, ahead of the load by one start-up time, sized by a queueing model.
    Berth,
    /// Knative's pod autoscaler.
    Kpa,
    /// Kubernetes' horizontal pod autoscaler on CPU utilisation.
    Hpa,
    /// The Dynamic Multi-level rule of Taherizadeh and Stankovski.
    Dm,
    /// As many as the highest that is permitted, always.
    Fixed,
}

/// What replicas are counted by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Requests under way for each replica, those that wait among them.
    Concurrency(f64),
    /// Requests per second for each replica.
    RequestsPerSecond(f64),
    /// Milliseconds in which 99 of 100 requests are to be answered.
    P99Ms(f64),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Fewest replicas; with 0 an idle service has none.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Requests that one replica works on at a time.
    pub concurrency: u32,
    /// What replicas are counted by; of [`Policy::Berth`] and [`Policy::Kpa`].
    pub target: Target,
    /// Share of a replica's capacity that should be busy; of [`Policy::Hpa`] and [`Policy::Dm`].
    pub utilisation: f64,
    /// Response time that [`Policy::Dm`] keeps below, milliseconds; without one it looks at utilisation alone.
    pub response: Option<Response>,
    /// Milliseconds over which ordinary decisions look back.
    pub stable_ms: u64,
    /// Milliseconds over which bursts are looked for.
    pub panic_ms: u64,
    /// How many times the ready replicas a burst needs to be one.
    pub panic_threshold: f64,
    /// Milliseconds for which fewer replicas must have been enough before there are fewer.
    pub scale_down_delay_ms: u64,
    /// How many times the ready replicas one decision may ask for.
    pub up_rate_max: f64,
    /// By how much one decision may divide the ready replicas.
    pub down_rate_max: f64,
}

/// Which response time counts for the Dynamic Multi-level rule, and its limit in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Response {
    /// The mean, as it was published.
    Mean(f64),
    /// The 99th percentile.
    P99(f64),
}

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Milliseconds on the clock of the windows.
    pub now_ms: u64,
    /// Whole windows of one second up to now, oldest first, at most [`WINDOWS_MAX`].
    pub windows: &'a [Window],
    /// Replicas that answer.
    pub ready: u32,
    /// Replicas that will.
    pub starting: u32,
    /// Requests that wait for a replica now.
    pub held: u32,
    /// Milliseconds from the wish for a replica to its first answer, as measured.
    pub start_ms: u64,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Replicas there should be, starting ones among them.
    pub replicas: u32,
    /// One sentence.
    pub reason: String,
}

/// What a policy remembers between two decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Memory {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Of [`Policy::Berth`].
    Berth(Box<berth::State>),
    /// Of [`Policy::Kpa`].
    Kpa(kpa::State),
    /// Of [`Policy::Hpa`].
    Hpa(hpa::State),
    /// Of [`Policy::Dm`].
    Dm(dm::State),
}

impl Memory {
    /// What [`Policy::Berth`] begins with where replicas run already: they stay for as long as any that were needed until now.
    pub fn begun(now_ms: u64, replicas: u32) -> Self {
        Self::Berth(Box::new(berth::State::begun(now_ms, replicas)))
    }
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 5] = [Self::Berth, Self::Kpa, Self::Hpa, Self::Dm, Self::Fixed];

    /// Its name in commands and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Kpa => "kpa",
            Self::Hpa => "hpa",
            Self::Dm => "dm",
            Self::Fixed => "fixed",
        }
    }

    /// Milliseconds between two decisions.
    pub fn period_ms(self) -> u64 {
        match self {
            Self::Berth | Self::Fixed => WINDOW_MS,
            Self::Kpa => kpa::PERIOD_MS,
            Self::Hpa => hpa::PERIOD_MS,
            Self::Dm => dm::PERIOD_MS,
        }
    }

    /// Whether it can do without any replica.
    pub fn reaches_zero(self) -> bool {
        matches!(self, Self::Berth | Self::Kpa)
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            min_replicas: 1,
            max_replicas: resources::inference_service::REPLICAS_MAX,
            concurrency: 1,
            target: Target::Concurrency(kpa::UTILISATION_DEFAULT),
            utilisation: 0.8,
            response: None,
            // The defaults of Knative.
            stable_ms: 60_000,
            panic_ms: 6_000,
            panic_threshold: 2.0,
            scale_down_delay_ms: 0,
            up_rate_max: 1000.0,
            down_rate_max: 2.0,
        }
    }
}

/// Decides how many replicas there should be. The answer is within the bounds of the specification.
pub fn decide(policy: Policy, spec: &Spec, seen: &Observed<'_>, memory: Memory) -> (Decision, Memory) {
    match (policy, memory) {
        (Policy::Berth, Memory::Berth(state)) => berth(spec, seen, state),
        (Policy::Berth, _) => berth(spec, seen, Box::default()),
        (Policy::Kpa, memory) => {
            let state = if let Memory::Kpa(state) = memory { state } else { kpa::State::started_with(seen) };
            let (decision, state) = kpa::decide(spec, seen, state);
            (decision, Memory::Kpa(state))
        }
        (Policy::Hpa, memory) => {
            let state = if let Memory::Hpa(state) = memory { state } else { hpa::State::default() };
            let (decision, state) = hpa::decide(spec, seen, state);
            (decision, Memory::Hpa(state))
        }
        (Policy::Dm, memory) => {
            let state = if let Memory::Dm(state) = memory { state } else { dm::State::default() };
            let (decision, state) = dm::decide(spec, seen, state);
            (decision, Memory::Dm(state))
        }
        (Policy::Fixed, _) => {
            let reason = format!("{} replicas, whatever the load", spec.max_replicas);
            (Decision { replicas: spec.max_replicas, reason }, Memory::Nothing)
        }
    }
}

fn berth(spec: &Spec, seen: &Observed<'_>, mut state: Box<berth::State>) -> (Decision, Memory) {
    let decision = berth::decide(spec, seen, &mut state);
    (decision, Memory::Berth(state))
}

#[cfg(test)]
mod tests;
