//! Decides that a revision which took over, and whose replicas do not stay, gives the requests back to the one before.
//!
//! A rollout judges a revision until it has everything. What shows only then, at full load or after the first minute, shows as
//! replicas that end again and again; while that comes soon after the revision took over, the change is the likeliest cause.

use resources::{
    id::Revision,
    rollout::{RolloutPhase, Wish},
};

use crate::{
    history::History,
    input::DesiredRevision,
    judge::{Judgement, Verdict},
    output::{Action, Plan},
    service::Scope,
    traffic::ALL,
};

/// How long after a revision took over its crash loop is put down to it. Later the cause is rather elsewhere, and the revision
/// before may no longer be what anybody wants.
pub(crate) const TOOK_OVER_MS: u64 = 600_000;

/// A revision that took over and does not stay up.
pub(crate) struct Relapse {
    /// The one before, which has had all the traffic and can be started.
    pub(crate) before: Revision,
    /// What happened, in words.
    why: String,
}

impl Scope<'_> {
    /// Whether the newest revision, having taken over, crash-loops while there is one to go back to.
    pub(crate) fn relapse(&self, newest: &DesiredRevision) -> Option<Relapse> {
        let since_ms = newest.promoted_ms.filter(|since_ms| self.input.now_ms <= since_ms + TOOK_OVER_MS)?;
        if !newest.promoted || self.wanted_percent() != ALL || self.ready(newest.revision).next().is_some() {
            return None;
        }
        let before = self.predecessor().filter(|before| before.bundle_present)?;
        if self.history(before.revision).is_some_and(History::loops) {
            return None;
        }
        let history = self.history(newest.revision).filter(|history| history.loops())?;
        // A replica that was started after the take-over has failed too: one that dies once is only started again.
        let (_, last) = history.last.as_ref().filter(|(_, last)| last.started_ms >= since_ms)?;
        let why = format!(
            "it crash-looped {} s after it took over: {} failures in a row (the last: {}), and no replica of it is ready",
            last.at_ms.saturating_sub(since_ms) / 1000,
            history.streak,
            last.how
        );
        Some(Relapse { before: before.revision, why })
    }

    /// Gives the requests back to the revision before, where the rollout may do so by itself. Says whether it did.
    pub(crate) fn fall_back(&mut self, newest: &DesiredRevision, plan: &mut Plan) -> bool {
        // Who has promoted it by hand has decided, and does so again.
        let by_itself = self.service.rollout.as_ref().is_some_and(resources::rollout::Rollout::rolls_back)
            && newest.wish != Some(Wish::Promote);
        let Some(relapse) = self.relapse(newest).filter(|_| by_itself) else { return false };
        let (service, revision) = (self.service.name.clone(), newest.revision);
        let why = format!("revision {revision} was rolled back: {}", relapse.why);
        let mut state = newest.rollout.clone().unwrap_or_default();
        state.verdict = Some(Verdict::RolledBack { why: relapse.why });
        let kept = Box::new(state.clone());
        plan.actions.push(Action::Rollout { service: service.clone(), revision, state: kept });
        plan.actions.push(Action::Demote { service, revision });
        self.demoted_now = true;
        self.say(why.clone());
        self.judgement = Some(Judgement { state, phase: RolloutPhase::RolledBack, why });
        true
    }

    /// What a person can do about a newest revision that crash-loops and is not rolled back by itself.
    pub(crate) fn way_back(&self, newest: &DesiredRevision) -> Option<String> {
        let before = self.relapse(newest)?.before;
        let name = &self.service.name;
        Some(format!("`berth rollout abort {name}` gives revision {before} all requests again"))
    }
}
