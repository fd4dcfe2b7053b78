//! The configuration as requests read it: built whole from a snapshot, swapped whole, never changed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::{Authorizer, KeyRecordError};
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use resources::{
    id::Revision,
    inference_service::TIMEOUT_SECONDS_MAX,
    snapshot::{Endpoint, GatewaySnapshot, RouteRevision, RouteService},
    status::RevisionTraffic,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    balance, deadline,
    limit::Counter,
    metrics::{Metrics, RevisionMetrics, ServiceMetrics},
    pool::Upstream,
    shadow::Shadow,
    split::Split,
};

/// Services in a configuration: two orders of magnitude over what one machine serves.
const SERVICES_MAX: usize = 10_000;
/// Replicas of one service in a configuration.
const ENDPOINTS_MAX: usize = 1_000;
/// Keys in a configuration; each costs a few hundred bytes.
const KEYS_MAX: usize = 100_000;

/// Why a snapshot cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyRecordError),
    /// A name or a number is there twice.
    #[error("{0} `{1}` is there twice")]
    Twice(&'static str, String),
    /// There are more of something than a gateway holds.
    #[error("there are more than {1} {0}")]
    TooMany(&'static str, usize),
    /// The default revision is not among the revisions.
    #[error("the default revision of `{0}` is not among its revisions")]
    Default(String),
    /// The shares do not give out everything, or one is of a revision that is not there.
    #[error("the shares of `{0}` are not 100 percent of revisions that are there")]
    Split(String),
    /// A shadow mirrors nothing, more than everything, or to a revision that is not there or answers clients.
    #[error("the shadow of `{0}` is not 1 to 100 percent for a revision that is there and answers no client")]
    Shadow(String),
    /// A time is zero or longer than a service may ask for.
    #[error("the time-out of `{0}` is not between 1 ms and {TIMEOUT_SECONDS_MAX} s")]
    Timeout(String),
    /// A socket's path is relative.
    #[error("the socket of replica `{0}` is not an absolute path")]
    Socket(String),
}

/// One configuration.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Its generation.
    pub generation: u64,
    /// Its keys.
    pub authorizer: Authorizer,
    services: HashMap<String, Arc<Service>>,
}

/// A service as requests see it.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its name.
    pub name: String,
    /// Its name as a header.
    pub header: HeaderValue,
    /// Longest time for one request.
    pub timeout: Duration,
    /// The same for a runtime, REST and gRPC.
    pub timeout_headers: (HeaderValue, HeaderValue),
    /// Requests that one replica works on.
    pub container_concurrency: Option<u32>,
    /// Whether a request that finds no replica starts one.
    pub wakes: bool,
    /// Requests in flight; shared by all configurations that have the service.
    pub in_flight: Counter,
    /// What is counted.
    pub metrics: Arc<ServiceMetrics>,
    default_revision: Option<Revision>,
    /// Which revision is tried with copies of requests.
    pub shadow: Option<Shadow>,
    /// How requests for predictions are shared out; nothing when the default revision gets them all.
    split: Option<Split>,
    revisions: Vec<Target>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aim {
    /// The revision, when the client names one.
    pub revision: Option<Revision>,
    /// Its ticket, where requests are shared out: it stays with the request when that is sent again.
    pub ticket: Option<u32>,
}

/// A revision as requests see it.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its number.
    pub revision: Revision,
    /// Its replicas.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What is counted.
    pub metrics: Arc<RevisionMetrics>,
}

impl Table {
    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Builds the table of `snapshot`, keeping the connections, counters and metrics that `before` has for the same things.
    pub(crate) fn build(snapshot: &GatewaySnapshot, before: &Self, metrics: &Metrics) -> Result<Self, SnapshotError> {
        check(snapshot)?;
        let authorizer = Authorizer::new(&snapshot.keys)?;
        let known = before.upstreams();
        let services = snapshot
            .services
            .iter()
            .map(|route| {
                let name = route.name.as_str();
                let service = Service::build(route, before.services.get(name).map(Arc::as_ref), &known, metrics);
                (name.to_owned(), Arc::new(service))
            })
            .collect();
        Ok(Self { generation: snapshot.generation, authorizer, services })
    }

    fn upstreams(&self) -> HashMap<Endpoint, Arc<Upstream>> {
        let targets = self.services.values().flat_map(|service| &service.revisions);
        targets
            .flat_map(|target| &target.upstreams)
            .map(|upstream| (upstream.endpoint().clone(), Arc::clone(upstream)))
            .collect()
    }

    /// Forgets the metrics of what `after` has no more.
    fn forget_missing(&self, after: &Self, metrics: &Metrics) {
        for service in self.services.values() {
            let left = after.services.get(&service.name);
            if left.is_none() {
                metrics.forget_service(&service.name);
            }
            let mirrored = left.and_then(|left| left.shadow.as_ref());
            if let Some(shadow) = service.shadow.as_ref()
                && mirrored.is_none_or(|mirrored| mirrored.revision != shadow.revision)
            {
                shadow.metrics.forget();
            }
            for target in &service.revisions {
                if left.is_none_or(|left| left.find(target.revision).is_none()) {
                    metrics.forget_revision(&target.metrics);
                }
            }
        }
    }
}

impl Service {
    fn build(
        route: &RouteService,
        before: Option<&Self>,
        known: &HashMap<Endpoint, Arc<Upstream>>,
        metrics: &Metrics,
    ) -> Self {
        let name = route.name.as_str();
        let timeout = Duration::from_millis(route.timeout_ms);
        let grpc_timeout = HeaderValue::from_str(&deadline::to_grpc(timeout));
        let targets = route.revisions.iter().map(|revision| {
            let before = before.and_then(|service| service.find(revision.revision));
            let made = || Arc::new(metrics.revision(name, revision.revision.0));
            Target {
                revision: revision.revision,
                upstreams: upstreams(revision, known),
                metrics: before.map_or_else(made, |target| Arc::clone(&target.metrics)),
            }
        });
        let made = || Arc::new(metrics.service(name));
        Self {
            name: name.to_owned(),
            // A service's name is a DNS label, which always is a header's value.
            header: HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("")),
            timeout,
            timeout_headers: (
                HeaderValue::from(route.timeout_ms),
                grpc_timeout.unwrap_or(HeaderValue::from_static("60S")),
            ),
            container_concurrency: route.container_concurrency,
            wakes: route.wakes,
            in_flight: before.map(|service| service.in_flight.clone()).unwrap_or_default(),
            metrics: before.map_or_else(made, |service| Arc::clone(&service.metrics)),
            default_revision: route.default_revision,
            shadow: route.shadow.map(|shadow| {
                let before = before.and_then(|service| service.shadow.as_ref());
                Shadow::new(name, shadow, before, &metrics.shadow)
            }),
            split: Split::new(&route.split, route.sticky.as_ref()),
            revisions: targets.collect(),
        }
    }

    fn find(&self, revision: Revision) -> Option<&Target> {
        self.revisions.iter().find(|target| target.revision == revision)
    }

    /// The revision asked for, the one that the ticket draws, or the default one. Nothing when there is none.
    pub(crate) fn target(&self, aim: Aim) -> Option<&Target> {
        let drawn = || self.split.as_ref()?.draw(aim.ticket?);
        self.find(aim.revision.or_else(drawn).or(self.default_revision)?)
    }

    /// What a request for predictions that names no revision is for.
    pub(crate) fn aim(&self, headers: &HeaderMap, key: &str) -> Aim {
        let ticket = self.split.as_ref().map(|split| split.ticket(headers, key, rand::random()));
        Aim { revision: None, ticket }
    }

    /// Whether requests that name no revision may reach this one.
    pub(crate) fn shares(&self, revision: Revision) -> bool {
        match &self.split {
            Some(split) => split.revisions().any(|shares| shares == revision),
            None => self.default_revision == Some(revision),
        }
    }

    /// A replica for the next try, and its revision. What a revision of a split cannot answer now goes to the other one.
    pub(crate) fn pick(
        &self,
        aim: Aim,
        now: Instant,
        avoid: Option<&Arc<Upstream>>,
    ) -> Option<(&Target, &Arc<Upstream>)> {
        let of = |target| Target::pick(target, now, rand::random(), avoid).map(|upstream| (target, upstream));
        let first = self.target(aim)?;
        of(first).or_else(|| {
            let split = self.split.as_ref().filter(|_| aim.revision.is_none() && aim.ticket.is_some())?;
            let others = split.revisions().filter(|other| *other != first.revision);
            others.filter_map(|other| self.find(other)).find_map(of)
        })
    }

    /// A replica of this revision for a copy of a request.
    pub(crate) fn replica(&self, revision: Revision, now: Instant) -> Option<&Arc<Upstream>> {
        self.find(revision)?.pick(now, rand::random(), None)
    }

    /// Every revision.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.revisions
    }

    /// Whether this revision is known, ready or not.
    pub(crate) fn has(&self, revision: Revision) -> bool {
        self.find(revision).is_some()
    }

    /// Replicas that are ready, of all revisions.
    pub(crate) fn replicas(&self) -> usize {
        self.revisions.iter().map(|target| target.upstreams.len()).sum()
    }

    /// Every replica.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.revisions.iter().flat_map(|target| &target.upstreams)
    }

    /// Whether a request that names no revision would be answered.
    pub(crate) fn is_ready(&self) -> bool {
        self.answers(Aim::default())
    }

    /// Whether a request would be answered: by a replica, or by one that it starts.
    pub(crate) fn answers(&self, aim: Aim) -> bool {
        let default = aim.revision.is_none_or(|revision| self.default_revision == Some(revision));
        self.target(aim).is_some_and(|target| !target.upstreams.is_empty() || (self.wakes && default))
    }
}

impl Target {
    /// A replica for the next request; another one than `avoid` where there is one.
    pub(crate) fn pick(&self, now: Instant, random: u64, avoid: Option<&Arc<Upstream>>) -> Option<&Arc<Upstream>> {
        let available = |at: usize| self.upstreams.get(at).filter(|upstream| upstream.available(now));
        let shunned = |upstream: &Arc<Upstream>| avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, upstream));
        let is_out = |upstream: &Arc<Upstream>| upstream.meter.is_out(upstream.since_epoch(now));
        let pick = |fits: &dyn Fn(usize, &Arc<Upstream>) -> bool| {
            let load = |at| available(at).filter(|upstream| fits(at, upstream)).map(|upstream| upstream.load());
            balance::pick(self.upstreams.len(), random, load)
        };
        // One that comes back after an ejection leaves most of the requests that it might take to the others.
        let takes = |at: usize, upstream: &Arc<Upstream>| {
            upstream.meter.takes(upstream.since_epoch(now), || balance::draw(random, at))
        };
        let picked = pick(&|at, upstream| !shunned(upstream) && takes(at, upstream))
            .or_else(|| pick(&|_, upstream| !shunned(upstream) && !is_out(upstream)))
            .or_else(|| avoid.and_then(|_| pick(&|_, upstream| !is_out(upstream))))
            // One that did badly is better than none.
            .or_else(|| pick(&|_, _| true));
        self.upstreams.get(picked?)
    }
}

fn upstreams(revision: &RouteRevision, known: &HashMap<Endpoint, Arc<Upstream>>) -> Vec<Arc<Upstream>> {
    let upstream = |endpoint: &Endpoint| match known.get(endpoint) {
        Some(upstream) => {
            upstream.wake();
            Arc::clone(upstream)
        }
        None => Arc::new(Upstream::new(endpoint.clone())),
    };
    revision.endpoints.iter().map(upstream).collect()
}

fn check(snapshot: &GatewaySnapshot) -> Result<(), SnapshotError> {
    if snapshot.services.len() > SERVICES_MAX {
        return Err(SnapshotError::TooMany("services", SERVICES_MAX));
    }
    if snapshot.keys.len() > KEYS_MAX {
        return Err(SnapshotError::TooMany("keys", KEYS_MAX));
    }
    let mut names: Vec<_> = snapshot.services.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    if let Some(name) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first()).flatten())
    {
        return Err(SnapshotError::Twice("service", (*name).to_owned()));
    }
    snapshot.services.iter().try_for_each(check_service)
}

fn check_service(service: &RouteService) -> Result<(), SnapshotError> {
    let name = || service.name.to_string();
    if service.timeout_ms == 0 || service.timeout_ms > TIMEOUT_SECONDS_MAX * 1000 {
        return Err(SnapshotError::Timeout(name()));
    }
    for (at, revision) in service.revisions.iter().enumerate() {
        if service.revisions.iter().skip(at + 1).any(|other| other.revision == revision.revision) {
            return Err(SnapshotError::Twice("revision", format!("{}/{}", service.name, revision.revision)));
        }
    }
    if service.default_revision.is_some_and(|default| !service.revisions.iter().any(|each| each.revision == default)) {
        return Err(SnapshotError::Default(name()));
    }
    let sum: u64 = service.split.iter().map(|share| u64::from(share.percent)).sum();
    let is_there = |revision: Revision| service.revisions.iter().any(|each| each.revision == revision);
    if !service.split.is_empty() && (sum != 100 || !service.split.iter().all(|share| is_there(share.revision))) {
        return Err(SnapshotError::Split(name()));
    }
    if let Some(shadow) = service.shadow {
        let shares = |share: &RevisionTraffic| share.revision == shadow.revision && share.percent > 0;
        let answers = service.default_revision == Some(shadow.revision) || service.split.iter().any(shares);
        if !(1..=100).contains(&shadow.percent) || answers || !is_there(shadow.revision) {
            return Err(SnapshotError::Shadow(name()));
        }
    }
    let mut endpoints = service.revisions.iter().flat_map(|revision| &revision.endpoints);
    if endpoints.clone().count() > ENDPOINTS_MAX || service.revisions.len() > ENDPOINTS_MAX {
        return Err(SnapshotError::TooMany("replicas or revisions in a service", ENDPOINTS_MAX));
    }
    match endpoints.find(|endpoint| !endpoint.socket.is_absolute()) {
        Some(endpoint) => Err(SnapshotError::Socket(endpoint.replica.to_string())),
        None => Ok(()),
    }
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is served.
    Yes,
    /// It is the one being served.
    Same,
    /// It is older than the one being served, and refused.
    Older,
}

/// The table being served, and word of each new one.
#[derive(Debug)]
pub(crate) struct Tables {
    current: ArcSwap<Table>,
    generation: watch::Sender<u64>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { current: ArcSwap::from_pointee(Table::default()), generation: watch::Sender::new(0) }
    }
}

impl Tables {
    /// The table being served.
    pub(crate) fn load(&self) -> Arc<Table> {
        self.current.load_full()
    }

    /// Sees each new generation; 0 while there is no configuration.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Serves `snapshot`, when it is newer than what is served and valid. One caller at a time: the watcher.
    pub(crate) fn apply(&self, snapshot: &GatewaySnapshot, metrics: &Metrics) -> Result<Applied, SnapshotError> {
        let before = self.load();
        match snapshot.generation.cmp(&before.generation) {
            std::cmp::Ordering::Less => return Ok(Applied::Older),
            std::cmp::Ordering::Equal => return Ok(Applied::Same),
            std::cmp::Ordering::Greater => {}
        }
        let table = Table::build(snapshot, &before, metrics)?;
        before.forget_missing(&table, metrics);
        self.current.store(Arc::new(table));
        self.generation.send_replace(snapshot.generation);
        metrics.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        Ok(Applied::Yes)
    }
}

#[cfg(test)]
mod tests;
