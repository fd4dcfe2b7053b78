//! Waits for a service: what its status means, and the watch that follows it.

use std::time::Duration;

use client::{Client, ServiceChange};
use resources::{
    condition::{Condition, ConditionKind, ConditionStatus},
    inference_service::InferenceService,
    status::{InferenceServiceStatus, ReplicaPhase},
};

use crate::{
    failure::{Exit, Failure},
    progress::Progress,
};

/// How a service stands for somebody who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The newest revision answers requests.
    Ready,
    /// Not yet; what is waited for.
    Waiting(String),
    /// It will not become ready by itself.
    Failed {
        /// For machines.
        reason: String,
        /// In words, with the last lines of the log.
        message: String,
        /// Whether it is the model's fault.
        model: bool,
    },
}

/// How the runtime begins the line that says why it gave up.
const VERDICT: &str = "model failed to load: ";
/// Pause before asking again after the connection broke: the controller may be starting anew.
const PAUSE: Duration = Duration::from_millis(500);

/// How a service stands.
pub(crate) fn standing(service: &InferenceService) -> Standing {
    let status = service.status.clone().unwrap_or_default();
    let Some(ready) = condition(&status, ConditionKind::Ready).filter(|_| is_fresh(service, &status)) else {
        return Standing::Waiting("the model is in the store, the controller takes it up".to_owned());
    };
    if ready.status == ConditionStatus::True {
        return Standing::Ready;
    }
    let predictor = condition(&status, ConditionKind::PredictorReady).unwrap_or(ready);
    let verdict = predictor.message.lines().find(|line| line.starts_with(VERDICT));
    let hopeless = matches!(ready.reason.as_str(), "Deleting" | "BundleMissing" | "CrashLoopBackOff");
    if hopeless || verdict.is_some() {
        // The verdict says it all; without one, the end of the log may.
        let message = verdict.unwrap_or(predictor.message.as_str()).to_owned();
        return Standing::Failed { reason: ready.reason.clone(), message, model: verdict.is_some() };
    }
    let starting = status.replicas.iter().filter(|replica| replica.phase == ReplicaPhase::Starting).count();
    let doing = match (predictor.status, starting) {
        (ConditionStatus::True, _) => "the new revision takes over",
        (_, 0) => "starting a replica",
        (_, _) => "loading the model and warming up",
    };
    Standing::Waiting(format!("{doing}: {}", predictor.message))
}

/// Whether the status speaks of the newest wishes.
fn is_fresh(service: &InferenceService, status: &InferenceServiceStatus) -> bool {
    status.observed_generation >= service.metadata.generation.unwrap_or(0)
}

pub(crate) fn condition(status: &InferenceServiceStatus, kind: ConditionKind) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// Waits until the newest revision of `name` answers.
pub(crate) async fn ready(client: &Client, name: &str, seconds: u64, progress: &mut Progress) -> Result<(), Failure> {
    let label = name.to_owned();
    let done = |service: Option<&InferenceService>, progress: &mut Progress| {
        let Some(service) = service else {
            return Err(Failure::new(Exit::NotFound, format!("`{label}` was deleted meanwhile")));
        };
        match standing(service) {
            Standing::Ready => Ok(true),
            Standing::Waiting(what) => {
                progress.say(&format!("{label}: {what}"));
                Ok(false)
            }
            Standing::Failed { reason, message, model } => {
                let exit = if model { Exit::Refused } else { Exit::Failed };
                let why = if model { String::new() } else { format!(" ({reason})") };
                let failure = Failure::new(exit, format!("`{label}` does not run{why}: {message}"));
                Err(failure.hint(format!("`berth describe {label}` shows more, `berth delete {label}` removes it")))
            }
        }
    };
    limited(follow(client, name, progress, done), name, seconds).await
}

/// Waits until `name` is gone.
pub(crate) async fn gone(client: &Client, name: &str, seconds: u64, progress: &mut Progress) -> Result<(), Failure> {
    let label = name.to_owned();
    let done = |service: Option<&InferenceService>, progress: &mut Progress| {
        if service.is_some() {
            progress.say(&format!("{label}: its replicas finish their requests"));
        }
        Ok(service.is_none())
    };
    limited(follow(client, name, progress, done), name, seconds).await
}

async fn limited(waiting: impl Future<Output = Result<(), Failure>>, name: &str, seconds: u64) -> Result<(), Failure> {
    match tokio::time::timeout(Duration::from_secs(seconds), waiting).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let failure = Failure::new(Exit::TimedOut, format!("`{name}` is not there yet after {seconds} s"));
            Err(failure.hint(format!("it goes on by itself: `berth describe {name}` says what it waits for")))
        }
    }
}

/// Shows every state of `name` to `done` until that says yes or fails.
pub(crate) async fn follow(
    client: &Client,
    name: &str,
    progress: &mut Progress,
    mut done: impl FnMut(Option<&InferenceService>, &mut Progress) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    /// A controller that is gone for longer does not come back by itself.
    const AWAY_MAX: u32 = 40;
    let mut away = 0;
    loop {
        let outcome = watch(client, name, progress, &mut done).await;
        match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => away = 0,
            Err(Stop::Failure(failure)) => return Err(failure),
            Err(Stop::Client(error)) if error.is_expired() => {}
            Err(Stop::Client(error)) if error.is_away() && away < AWAY_MAX => {
                away += 1;
                progress.say("waiting for Berth to come back");
            }
            Err(Stop::Client(error)) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Stop {
    Failure(Failure),
    Client(client::Error),
}

impl From<client::Error> for Stop {
    fn from(error: client::Error) -> Self {
        Self::Client(error)
    }
}

/// One list and one watch. Whether it is done; the watch may end before.
async fn watch(
    client: &Client,
    name: &str,
    progress: &mut Progress,
    done: &mut impl FnMut(Option<&InferenceService>, &mut Progress) -> Result<bool, Failure>,
) -> Result<bool, Stop> {
    let list = client.services().await?;
    let now = list.items.iter().find(|service| service.metadata.name.as_str() == name);
    if done(now, progress).map_err(Stop::Failure)? {
        return Ok(true);
    }
    let mut watch = client.watch_services(&list.resource_version).await?;
    while let Some(change) = watch.next().await? {
        let (service, gone) = match &change {
            ServiceChange::Added(service) | ServiceChange::Modified(service) => (service, false),
            ServiceChange::Deleted(service) => (service, true),
            ServiceChange::Bookmark(_) => continue,
        };
        if service.metadata.name.as_str() == name
            && done(Some(service.as_ref()).filter(|_| !gone), progress).map_err(Stop::Failure)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(generation: u64, conditions: &serde_json::Value, replicas: &serde_json::Value) -> InferenceService {
        let model = json!({"modelFormat": {"name": "onnx"}, "storageUri": "file:///m"});
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "InferenceService",
            "metadata": {"name": "spam", "generation": 2}, "spec": {"predictor": {"model": model}},
            "status": {"observedGeneration": generation, "conditions": conditions, "replicas": replicas},
        }))
        .unwrap()
    }

    fn said(kind: &str, status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    }

    #[test]
    fn an_old_status_says_nothing() {
        let ready = json!([said("Ready", "True", "RevisionReady", "")]);
        assert!(matches!(standing(&service(1, &ready, &json!([]))), Standing::Waiting(_)));
        assert_eq!(standing(&service(2, &ready, &json!([]))), Standing::Ready);
    }

    #[test]
    fn what_is_waited_for() {
        let starting = said("Ready", "False", "Starting", "0 of 1 replicas of revision 2 are ready");
        let replica = json!([{"id": "spam-2-x", "revision": 2, "phase": "Starting"}]);
        let waits = |replicas| standing(&service(2, &json!([starting]), replicas));
        let none = json!([]);
        assert_eq!(
            waits(&none),
            Standing::Waiting("starting a replica: 0 of 1 replicas of revision 2 are ready".to_owned())
        );
        assert!(matches!(waits(&replica), Standing::Waiting(what) if what.starts_with("loading the model")));
    }

    #[test]
    fn what_does_not_become_ready_by_itself() {
        let crash = json!([said("Ready", "False", "CrashLoopBackOff", "0 of 1; its log ended:\nkilled")]);
        assert!(matches!(standing(&service(2, &crash, &json!([]))), Standing::Failed { model: false, .. }));
        let verdict = "0 of 1; its log ended:\nmodel failed to load: no operator `Foo`";
        let refused = json!([said("Ready", "False", "ReplicaExited", verdict)]);
        assert!(matches!(
            standing(&service(2, &refused, &json!([]))),
            Standing::Failed { model: true, message, .. } if message == "model failed to load: no operator `Foo`"
        ));
        let once = json!([said("Ready", "False", "ReplicaExited", "0 of 1; its log ended:\nkilled")]);
        assert!(matches!(standing(&service(2, &once, &json!([]))), Standing::Waiting(_)));
    }
}
