//! Decides how much of the traffic each revision gets, and which revisions are kept for it.
//!
//! The shape is KServe's: the newest revision gets `canaryTrafficPercent` of the requests once it is ready, and the last one that
//! has had all of them keeps the rest. A revision gets requests only while it has been complete and has a replica that answers; what
//! it would have got goes to the other one meanwhile; but one that is to get nothing gets nothing, and requests wait for the other.

use resources::{id::Revision, snapshot::RouteShadow, status::RevisionTraffic};

use crate::{
    input::DesiredRevision,
    output::{Action, Plan},
    service::{Scope, count},
};

/// All of it.
pub(crate) const ALL: u32 = 100;

impl<'a> Scope<'a> {
    /// Percent that the newest revision should get, whatever is ready.
    pub(crate) fn wanted_percent(&self) -> u32 {
        // One that is mirrored requests answers none.
        let canary = self.service.shadow_percent.map_or(self.service.canary_percent, |_| Some(0));
        canary.map_or(ALL, |percent| percent.min(ALL))
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
        for desired in [Some(newest), self.stable()].into_iter().flatten() {
            if !desired.completed && self.is_complete(desired) {
                self.completed_now.insert(desired.revision);
                plan.actions.push(Action::Complete { service: name.clone(), revision: desired.revision });
            }
        }
        let takes_all = self.wanted_percent() == ALL || self.predecessor().is_none();
        if !newest.promoted && self.is_completed(newest) && takes_all {
            self.promoted_now = true;
            let ready = self.ready(newest.revision).count();
            let (revision, wanted) = (newest.revision, newest.min_replicas);
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

    /// A revision whose replicas are given up gets no requests until it has been complete again.
    pub(crate) fn retire_traffic(&mut self, revision: Revision, plan: &mut Plan) {
        if self.service.find(revision).is_some_and(|desired| desired.completed) && self.retired_now.insert(revision) {
            plan.actions.push(Action::Retire { service: self.service.name.clone(), revision });
        }
    }

    /// Says what the split is, while there is one, and what it waits for.
    pub(crate) fn say_traffic(&mut self, newest: &DesiredRevision) {
        let wanted = self.wanted_percent();
        if wanted == ALL {
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
            let (old, new, number) = (stable.revision, newest.revision, count(stable.min_replicas));
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
