//! The loop: observe, plan, check, apply, say. It does the same work whatever woke it.
//!
//! Guarantees: a replica is written down before its process starts and until it has ended; a replica leaves the routes, in a
//! snapshot that is kept, before it is asked to stop; a plan that breaks an invariant is not applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use daemon::{BoxError, supervisor::chain};
use planner::{Action, Plan, Pressure, allowance, check, judge::JudgeWindow, plan};
use resources::{
    event::Severity,
    id::{ReplicaId, Revision, ServiceName},
};
use store::Store;
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    db::{Db, ReplicaRow, RevisionRow, ServiceRow, Write},
    digests::Digests,
    error::Error,
    gateway_process::GatewayState,
    metrics::Metrics,
    observe::Observation,
    orchestrator::{End, Launch, Life, Memory, Orchestrator, Started},
    scaler::{Scale, Scaler},
    snapshot::Publisher,
    windows::Windows,
};

mod say;
mod shutdown;
#[cfg(test)]
mod tests;
mod tidy;

/// Time between two passes when nothing wakes the loop.
const PASS_TIME: Duration = Duration::from_secs(1);

/// What the loop works with.
#[derive(Debug)]
pub(crate) struct Reconciler<O> {
    pub(crate) db: Db,
    pub(crate) orchestrator: O,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    /// What the gateway counted.
    pub(crate) windows: Arc<Windows>,
    /// What it makes of that.
    pub(crate) scaler: Scaler,
    pub(crate) config: Config,
    /// Where services are reached.
    pub(crate) gateway: watch::Receiver<GatewayState>,
    /// Held for reading from the push of a model until a revision names it; tidying the store takes it for writing.
    pub(crate) imports: Arc<RwLock<()>>,
    /// What replicas had counted of their answers.
    pub(crate) digests: Digests,
    /// How much memory there was, and what was given up for it.
    pub(crate) pressure: Option<Pressure>,
    /// Why the last plan was refused, so that it is said once.
    pub(crate) refused: String,
    /// When the store and the logs were last tidied, milliseconds.
    pub(crate) tidied_ms: u64,
}

impl<O: Orchestrator> Reconciler<O> {
    /// Runs until `stop`; then, once `gateway_gone`, ends the replicas.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        gateway_gone: CancellationToken,
    ) -> Result<(), BoxError> {
        let wake = Arc::clone(self.db.wake());
        while !stop.is_cancelled() {
            let wait = match self.pass().await {
                Ok(Some(at_ms)) => Duration::from_millis(at_ms.saturating_sub(daemon::time::now_ms())).min(PASS_TIME),
                Ok(None) => PASS_TIME,
                Err(error) => {
                    self.metrics.failed();
                    tracing::error!(error = %chain(&error), "a pass failed; the next one comes in a second");
                    PASS_TIME
                }
            };
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        gateway_gone.cancelled().await;
        self.shut_down().await?;
        self.db.close().await;
        Ok(())
    }

    /// One pass. Gives when the next is due, milliseconds.
    pub(crate) async fn pass(&mut self) -> Result<Option<u64>, Error> {
        let mut observation = self.observe().await?;
        observation.scale = self.scaler.decide(&observation, &self.windows);
        let input = observation.input();
        let plan = plan(&input);
        let broken = check(&input, &plan);
        if !broken.is_empty() {
            self.refuse(&broken.join("; ")).await?;
            return Ok(None);
        }
        self.remember(&observation, &plan).await?;
        if let (Some(pressure), Some(eviction)) = (&mut self.pressure, &plan.evicted) {
            pressure.evicted(eviction, observation.now_ms);
        }
        let generation = self.publisher.publish(Some(plan.routes.clone())).await?;
        self.act(&observation, &plan, generation).await?;
        self.orchestrator.keep_warm(self.warm_processes(&observation));
        self.tidy(&observation).await;
        self.metrics.passed(&input, &plan, self.publisher.generation());
        Ok(plan.wake_at_ms)
    }

    async fn observe(&mut self) -> Result<Observation, Error> {
        // At one time: a status never speaks of a generation whose revision it has not seen, and a revision gets the share
        // that was asked for with it.
        let (services, revisions) = self.db.desired().await?;
        let replicas = self.db.replicas().await?;
        let seen = self.orchestrator.observe(&replicas).await;
        let outputs = self.digests.news(&replicas, &seen);
        let windows = self.judged(&services, &revisions);
        let bundles = self.store.list()?.into_iter().collect();
        let now_ms = daemon::time::now_ms();
        self.pressure = self.orchestrator.memory().map(|Memory { available_bytes, total_bytes }| {
            Pressure::seen(self.pressure.as_ref(), available_bytes, total_bytes, now_ms)
        });
        Ok(Observation {
            now_ms,
            services,
            revisions,
            replicas,
            seen,
            bundles,
            machine: self.orchestrator.machine(),
            gateway_acknowledged: self.publisher.acknowledged(),
            pressure: self.pressure.clone(),
            windows,
            outputs,
            scale: Scale::default(),
        })
    }

    /// What the gateway counted of the revisions that are compared, since it was last taken into account.
    fn judged(&self, services: &[ServiceRow], revisions: &[RevisionRow]) -> BTreeMap<ServiceName, Vec<JudgeWindow>> {
        let mut judged = BTreeMap::new();
        for service in services.iter().filter(|service| service.object.spec.rollout.is_some()) {
            let mut newest_first = revisions.iter().rev().filter(|row| &row.service == service.name());
            let Some(newest) = newest_first.next() else { continue };
            let Some(state) = newest.rollout.as_ref().filter(|state| state.verdict.is_none()) else { continue };
            let Some(stable) = newest_first.find(|row| row.promoted) else { continue };
            let mut windows: BTreeMap<u64, JudgeWindow> = BTreeMap::new();
            for row in [stable, newest] {
                for (end_ms, window) in self.windows.of_revision(service.name(), row.revision, state.until_ms) {
                    let both = windows.entry(end_ms).or_insert(JudgeWindow { end_ms, revisions: Vec::new() });
                    both.revisions.push(window);
                }
            }
            judged.insert(service.name().clone(), windows.into_values().collect());
        }
        judged
    }

    /// Processes that wait for a model: as many as were asked for, else one where a service may have no replica.
    fn warm_processes(&self, observation: &Observation) -> usize {
        let from_zero = || observation.revisions.iter().any(|revision| revision.predictor.min_replicas == Some(0));
        let wanted = self.config.warm_pool.unwrap_or_else(|| u32::from(from_zero()));
        usize::try_from(wanted).unwrap_or(0)
    }

    async fn refuse(&mut self, broken: &str) -> Result<(), Error> {
        if self.refused != broken {
            let mut write = self.db.write().await?;
            write.event(Severity::Warning, "", "PlanRefused", &format!("a plan breaks an invariant: {broken}")).await?;
            write.commit().await?;
            broken.clone_into(&mut self.refused);
        }
        Ok(())
    }

    /// Writes what was seen and decided, before anything is done: one transaction, or none when there is nothing new.
    async fn remember(&self, observation: &Observation, plan: &Plan) -> Result<(), Error> {
        let url = self.config.url(self.gateway.borrow().listen);
        let news = say::news(observation, plan, &url);
        if news.is_empty() {
            return Ok(());
        }
        let mut write = self.db.write().await?;
        for (id, process) in &news.adopted {
            write.set_replica_process(id, *process).await?;
        }
        for (id, at_ms) in &news.ready {
            write.set_replica_ready(id, *at_ms).await?;
        }
        for history in &plan.histories {
            write.set_history(history).await?;
        }
        for action in &plan.actions {
            match action {
                Action::Forget { replica } => write.delete_replica(replica).await?,
                Action::Complete { service, revision } => write.set_completed(service, *revision, true).await?,
                Action::Retire { service, revision } => write.set_completed(service, *revision, false).await?,
                Action::Rollout { service, revision, state } => write.set_rollout(service, *revision, state).await?,
                Action::Promote { service, revision } => {
                    write.set_promoted(service, *revision, Some(observation.now_ms)).await?;
                }
                Action::Demote { service, revision } => write.set_promoted(service, *revision, None).await?,
                _ => {}
            }
        }
        for (name, status) in &news.statuses {
            // A service may have been removed since it was read only by this loop itself.
            write.set_status(name, status).await?;
        }
        for event in &news.events {
            write.event(event.severity, &event.service, event.reason, &event.message).await?;
        }
        for action in &plan.actions {
            if let Action::Remove { service } = action {
                write.delete_service(service).await?;
            }
        }
        write.commit().await?;
        for action in &plan.actions {
            if let Action::Forget { replica } = action {
                self.orchestrator.forget(replica);
                self.remove_socket(observation, replica);
            }
            if let Action::Remove { service } = action {
                self.windows.forget(service);
            }
        }
        Ok(())
    }

    /// A process that was killed leaves its socket behind.
    fn remove_socket(&self, observation: &Observation, replica: &ReplicaId) {
        let socket = observation.replicas.iter().find(|row| &row.id == replica).map(|row| &row.socket);
        if let Some(socket) = socket {
            drop(std::fs::remove_file(socket));
        }
    }

    /// Does what was decided: first all is written down, then the processes are told, then new ones are started.
    async fn act(&self, observation: &Observation, plan: &Plan, generation: u64) -> Result<(), Error> {
        let now_ms = observation.now_ms;
        let launches = self.launches(observation, plan)?;
        let intends =
            |action: &Action| matches!(action, Action::Leave { .. } | Action::Stop { .. } | Action::Kill { .. });
        if launches.is_empty() && !plan.actions.iter().any(intends) {
            return Ok(());
        }
        let mut write = self.db.write().await?;
        for action in &plan.actions {
            match action {
                Action::Leave { replica, why } => write.set_replica_leaving(replica, now_ms, generation, why).await?,
                Action::Stop { replica, why } => write.set_replica_stopping(replica, now_ms, false, why).await?,
                Action::Kill { replica, why, failed } => {
                    write.set_replica_stopping(replica, now_ms, *failed, why).await?
                }
                _ => {}
            }
        }
        for launch in &launches {
            insert(&mut write, launch, now_ms).await?;
        }
        write.commit().await?;
        for action in &plan.actions {
            match action {
                Action::Stop { replica, .. } => self.orchestrator.end(replica, End::Stop),
                Action::Kill { replica, .. } => self.orchestrator.end(replica, End::Kill),
                _ => {}
            }
        }
        self.start(&launches).await
    }

    async fn start(&self, launches: &[Launch]) -> Result<(), Error> {
        let mut started = Vec::new();
        for launch in launches {
            started.push((launch, self.orchestrator.start(launch).await));
        }
        if started.is_empty() {
            return Ok(());
        }
        let mut write = self.db.write().await?;
        for (launch, outcome) in started {
            let service = launch.service.as_str();
            match outcome {
                Ok(Started { process, warm }) => {
                    write.set_replica_process(&launch.id, process).await?;
                    let how = if warm { ", from the warm pool" } else { "" };
                    let message =
                        format!("{} of revision {}, process {}{how}", launch.id, launch.revision, process.pid);
                    write.event(Severity::Normal, service, "ReplicaStarted", &message).await?;
                }
                // The next pass sees that it has ended, and counts it.
                Err(error) => tracing::error!(replica = %launch.id, error, "cannot start a replica"),
            }
        }
        write.commit().await
    }

    fn launches(&self, observation: &Observation, plan: &Plan) -> Result<Vec<Launch>, Error> {
        let mut launches = Vec::new();
        for action in &plan.actions {
            let Action::Start { service, revision } = action else { continue };
            launches.extend(self.launch(observation, service, *revision)?);
        }
        Ok(launches)
    }

    fn launch(
        &self,
        observation: &Observation,
        service: &ServiceName,
        revision: Revision,
    ) -> Result<Option<Launch>, Error> {
        let wanted = |row: &&crate::db::RevisionRow| &row.service == service && row.revision == revision;
        let Some(row) = observation.revisions.iter().find(wanted) else { return Ok(None) };
        let allowance = allowance(row.predictor.model.resources.as_ref(), &observation.machine).unwrap_or_default();
        let random = self.orchestrator.name();
        Ok(Some(Launch {
            id: ReplicaId(format!("{service}-{revision}-{random}")),
            service: service.clone(),
            revision,
            socket: self.config.data_dir.join(format!("run/r-{random}.sock")),
            bundle_dir: self.store.bundle_dir(&row.bundle.0)?,
            allowance,
            batcher: row.predictor.batcher,
        }))
    }

    fn live(observation: &Observation) -> BTreeSet<String> {
        let running = observation.replicas.iter().zip(&observation.seen);
        running.filter(|(_, seen)| !matches!(seen.life, Life::Lost)).map(|(row, _)| row.id.0.clone()).collect()
    }
}

async fn insert(write: &mut Write, launch: &Launch, now_ms: u64) -> Result<(), Error> {
    let row = ReplicaRow {
        id: launch.id.clone(),
        service: launch.service.clone(),
        revision: launch.revision,
        socket: launch.socket.clone(),
        created_ms: now_ms,
        process: None,
        ready_ms: None,
        leaving: None,
        stopping_ms: None,
        failed: false,
        why: String::new(),
    };
    write.insert_replica(&row).await
}
