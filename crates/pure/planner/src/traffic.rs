//! Decides how much of the traffic each revision gets, and which revisions are kept for it.
//!
//! The shape is KServe's: the newest revision gets `canaryTrafficPercent` of the requests once it is ready, and the last one that
//! has had all of them keeps the rest. A revision gets requests only while it has been complete and has a replica that answers; what
//! it would have got goes to the other one meanwhile; but one that is to get nothing gets nothing, and requests wait for the other.
//!
//! With `rollout` the share follows its steps, and [`judge`] says when the next one comes, or that there is none.

use resources::{
    id::Revision,
    rollout::{RolloutPhase, Wish},
    snapshot::RouteShadow,
    status::RevisionTraffic,
};

use crate::{
    input::{DesiredRevision, DesiredService},
    judge::{Case, Judgement, RolloutState, Verdict, judge, step},
    output::{Action, Plan},
    service::{Scope, count},
};

/// All of it.
pub(crate) const ALL: u32 = 100;

/// Percent that the newest revision of `service` should get by the `state` of its rollout, whatever is ready; `promoted` says
/// whether it has had everything and kept it.
pub(crate) fn wanted_percent(service: &DesiredService, state: Option<&RolloutState>, promoted: bool) -> u32 {
    let Some(rollout) = &service.rollout else {
        // One that is mirrored requests answers none.
        let canary = service.shadow_percent.map_or(service.canary_percent, |_| Some(0));
        return canary.map_or(ALL, |percent| percent.min(ALL));
    };
    let alone = !service.revisions.iter().rev().skip(1).any(|desired| desired.promoted);
    match state.and_then(|state| state.verdict.as_ref()) {
        _ if alone => ALL,
        Some(Verdict::Promoted { .. }) => ALL,
        Some(Verdict::Aborted) => 0,
        _ if promoted => ALL,
        Some(Verdict::RolledBack { .. }) => 0,
        None => {
            let at = state.map_or(0, |state| step(state, rollout));
            rollout.steps.get(at).map_or(ALL, |step| step.percent.min(ALL))
        }
    }
}

impl<'a> Scope<'a> {
    /// Percent that the newest revision should get, whatever is ready.
    pub(crate) fn wanted_percent(&self) -> u32 {
        let promoted = self.newest().is_some_and(|newest| self.has_had_all(newest));
        wanted_percent(self.service, self.rollout_state(), promoted)
    }

    /// How the newest revision's rollout stands after this plan.
    pub(crate) fn rollout_state(&self) -> Option<&RolloutState> {
        let before = || self.newest().and_then(|newest| newest.rollout.as_ref());
        self.judgement.as_ref().map(|judgement| &judgement.state).or_else(before)
    }

    /// Whether the newest revision was rolled back: its replicas are given up.
    pub(crate) fn is_given_up(&self, newest: &DesiredRevision) -> bool {
        let verdict = self.rollout_state().and_then(|state| state.verdict.as_ref());
        let judged = self.service.rollout.is_some() && !self.has_had_all(newest);
        judged && self.wanted_percent() == 0 && matches!(verdict, Some(Verdict::RolledBack { .. }))
    }

    /// Whether a revision had all the traffic before this plan, and this plan does not take it back.
    pub(crate) fn has_had_all(&self, desired: &DesiredRevision) -> bool {
        let newest = self.newest().is_some_and(|newest| newest.revision == desired.revision);
        desired.promoted && !(newest && self.demoted_now)
    }

    /// The last revision before the newest that has had all the traffic.
    pub(crate) fn predecessor(&self) -> Option<&'a DesiredRevision> {
        self.service.revisions.iter().rev().skip(1).find(|desired| desired.promoted)
    }

    /// The revision that is kept beside the newest: it serves until that is complete, and then for its share.
    pub(crate) fn stable(&self) -> Option<&'a DesiredRevision> {
        let newest = self.newest()?;
        let alone = self.is_promoted(newest) && self.wanted_percent() == ALL;
        self.predecessor().filter(|_| !alone)
    }

    /// Whether a revision has been complete since it was last started, after this plan.
    pub(crate) fn is_completed(&self, desired: &DesiredRevision) -> bool {
        (desired.completed || self.completed_now.contains(&desired.revision))
            && !self.retired_now.contains(&desired.revision)
    }

    /// Finds which revisions are complete for the first time, and whether the newest gets everything from now on.
    pub(crate) fn settle_traffic(&mut self, newest: &'a DesiredRevision, plan: &mut Plan) {
        let name = &self.service.name;
        let newest_serves = Some(newest).filter(|newest| !self.is_given_up(newest));
        for desired in [newest_serves, self.stable()].into_iter().flatten() {
            if !desired.completed && self.is_complete(desired) {
                self.completed_now.insert(desired.revision);
                plan.actions.push(Action::Complete { service: name.clone(), revision: desired.revision });
            }
        }
        if !self.fall_back(newest, plan) {
            self.judge_rollout(newest, plan);
        }
        let takes_all = self.wanted_percent() == ALL || self.predecessor().is_none();
        if !newest.promoted && self.is_completed(newest) && takes_all {
            self.promoted_now = true;
            let ready = self.ready(newest.revision).count();
            let (revision, wanted) = (newest.revision, self.goal(newest));
            self.say(format!("revision {revision} took over: {ready} of {wanted} replicas are ready"));
            plan.actions.push(Action::Promote { service: name.clone(), revision });
        } else if self.completed_now.contains(&newest.revision) {
            let (revision, percent) = (newest.revision, self.wanted_percent());
            self.say(match self.service.shadow_percent {
                Some(mirrored) => format!("revision {revision} is ready and is mirrored {mirrored} % of the requests"),
                None => format!("revision {revision} is ready for {percent} % of the requests"),
            });
        }
    }

    /// Counts and decides for the newest revision, where it takes over by steps and there is one to compare it with.
    fn judge_rollout(&mut self, newest: &'a DesiredRevision, plan: &mut Plan) {
        let (Some(rollout), Some(stable)) = (&self.service.rollout, self.predecessor()) else { return };
        let asked = matches!(newest.wish, Some(Wish::Promote | Wish::Abort));
        let verdict = newest.rollout.as_ref().and_then(|state| state.verdict.as_ref());
        if newest.promoted && !asked && !matches!(verdict, Some(Verdict::Promoted { .. } | Verdict::Aborted)) {
            return;
        }
        let trouble = newest.rollout.as_ref().and_then(|_| self.trouble(newest, stable));
        let serves =
            |desired: &DesiredRevision| self.is_completed(desired) && self.ready(desired.revision).next().is_some();
        let both = serves(newest) && serves(stable);
        if !asked && verdict.is_none() && trouble.is_none() && !both {
            let (canary, revision) = (newest.revision, stable.revision);
            self.judgement = newest.rollout.clone().map(|state| Judgement {
                state,
                phase: RolloutPhase::Judging,
                why: format!("revisions {canary} and {revision} are compared again once both answer"),
            });
            return;
        }
        let judgement = judge(
            newest.rollout.as_ref(),
            &Case {
                now_ms: self.input.now_ms,
                rollout,
                canary: newest.revision,
                stable: stable.revision,
                wish: newest.wish,
                trouble: trouble.as_deref(),
                windows: &self.service.windows,
                outputs: &self.service.outputs,
            },
        );
        if newest.rollout.as_ref() != Some(&judgement.state) {
            let (service, state) = (self.service.name.clone(), Box::new(judgement.state.clone()));
            plan.actions.push(Action::Rollout { service, revision: newest.revision, state });
        }
        let ended = verdict.is_none() && judgement.phase == RolloutPhase::RolledBack;
        self.say(judgement.why.clone());
        self.judgement = Some(judgement);
        if ended && !self.ready(stable.revision).any(|_| true) {
            // The one before cannot answer: the new one does until that has been complete again.
            self.retire_traffic(stable.revision, plan);
        }
    }

    /// Why the two revisions cannot be compared any more: the replicas of one of them do not stay.
    fn trouble(&self, newest: &DesiredRevision, stable: &DesiredRevision) -> Option<String> {
        let away = |desired: &DesiredRevision| {
            if self.ready(desired.revision).next().is_some() {
                return None;
            }
            let number = desired.revision;
            if !desired.bundle_present {
                return Some(format!("the model of revision {number} is not in the store any more"));
            }
            let history = self.history(number).filter(|history| history.loops())?;
            let how = history.last.as_ref().map_or("", |(_, exit)| exit.how.as_str());
            Some(format!(
                "the replicas of revision {number} end by themselves, {} times in a row ({how})",
                history.streak
            ))
        };
        away(newest).or_else(|| away(stable).map(|why| format!("{why}, and there is nothing to compare with")))
    }

    /// A revision whose replicas are given up gets no requests until it has been complete again.
    pub(crate) fn retire_traffic(&mut self, revision: Revision, plan: &mut Plan) {
        if self.service.find(revision).is_some_and(|desired| desired.completed) && self.retired_now.insert(revision) {
            plan.actions.push(Action::Retire { service: self.service.name.clone(), revision });
        }
    }

    /// Says what the split is, while there is one, and what it waits for.
    pub(crate) fn say_traffic(&mut self, newest: &DesiredRevision) {
        let wanted = self.wanted_percent();
        if wanted == ALL || self.is_given_up(newest) {
            return;
        }
        let Some(stable) = self.stable() else {
            if self.is_completed(newest) {
                let revision = newest.revision;
                self.say(match self.service.shadow_percent {
                    Some(_) => format!(
                        "revision {revision} answers all requests and `shadow` mirrors none: there is no earlier one to answer them"
                    ),
                    None => format!(
                        "revision {revision} gets all requests, not {wanted} %: there is no earlier one to share them with"
                    ),
                });
            }
            return;
        };
        if self.is_completed(newest) && !self.is_completed(stable) {
            let (old, new, number) = (stable.revision, newest.revision, count(self.goal(stable)));
            self.say(format!(
                "revision {new} gets all requests until revision {old} is ready again with {}",
                crate::service::replicas(number)
            ));
        }
    }

    /// Which revision gets copies of how many requests: the newest, while an earlier one answers them.
    pub(crate) fn shadow(&self, traffic: &[RevisionTraffic]) -> Option<RouteShadow> {
        let percent = self.service.shadow_percent?;
        let newest = self.newest()?;
        let aside = traffic.iter().any(|share| share.revision == newest.revision && share.percent == 0);
        aside.then_some(RouteShadow { revision: newest.revision, percent })
    }

    /// Who gets how much, newest first. Empty when nothing that has been complete answers.
    pub(crate) fn traffic(&self) -> Vec<RevisionTraffic> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let serves =
            |desired: &&DesiredRevision| self.is_completed(desired) && self.ready(desired.revision).next().is_some();
        let share = |desired: &DesiredRevision, percent| RevisionTraffic { revision: desired.revision, percent };
        let (stable, percent) = (self.stable(), self.wanted_percent());
        match (Some(newest).filter(serves), stable.filter(serves)) {
            (Some(newest), Some(stable)) => vec![share(newest, percent), share(stable, ALL - percent)],
            (_, None) if percent == 0 && stable.is_some_and(|stable| self.is_completed(stable)) => {
                stable.map(|stable| share(stable, ALL)).into_iter().collect()
            }
            (Some(one), None) | (None, Some(one)) => vec![share(one, ALL)],
            (None, None) => Vec::new(),
        }
    }
}
