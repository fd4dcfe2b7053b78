//! What replicas counted of their answers since the last pass: their counters, which only grow, less what they were before.

use std::collections::BTreeMap;

use planner::judge::OutputWindow;
use resources::{
    digest::OutputCounts,
    id::{ReplicaId, Revision, ServiceName},
};

use crate::{
    db::ReplicaRow,
    orchestrator::{Life, Seen},
};

/// The counters of every replica as they were last seen. In memory alone: what was answered while no controller ran is left out.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    before: BTreeMap<ReplicaId, Vec<OutputCounts>>,
}

impl Digests {
    /// What is new since the last time, by service. A replica that is seen for the first time has nothing new.
    pub(crate) fn news(&mut self, replicas: &[ReplicaRow], seen: &[Seen]) -> BTreeMap<ServiceName, Vec<OutputWindow>> {
        let mut now = BTreeMap::new();
        let mut news: BTreeMap<ServiceName, Vec<OutputWindow>> = BTreeMap::new();
        for (row, seen) in replicas.iter().zip(seen) {
            let Some(answer) = seen.answer.as_ref().filter(|_| matches!(seen.life, Life::Running { .. })) else {
                continue;
            };
            if let Some(before) = self.before.get(&row.id) {
                let of_service = news.entry(row.service.clone()).or_default();
                add(of_service, row.revision, &less(&answer.outputs, before));
            }
            now.insert(row.id.clone(), answer.outputs.clone());
        }
        self.before = now;
        news
    }
}

/// Every output with what was counted since `before`.
fn less(now: &[OutputCounts], before: &[OutputCounts]) -> Vec<OutputCounts> {
    let output = |counts: &OutputCounts| {
        let known = before.iter().find(|known| known.output == counts.output);
        let known = |category: usize| {
            let found = known.and_then(|known| known.counts.iter().find(|(at, _)| *at == category));
            found.map_or(0, |(_, count)| *count)
        };
        let more = counts.counts.iter().map(|(category, count)| (*category, count.saturating_sub(known(*category))));
        OutputCounts { output: counts.output.clone(), counts: more.filter(|(_, count)| *count > 0).collect() }
    };
    now.iter().map(output).collect()
}

/// Adds the counts of a replica to those of its revision; categories may come twice.
fn add(windows: &mut Vec<OutputWindow>, revision: Revision, outputs: &[OutputCounts]) {
    let Some(window) = windows.iter_mut().find(|window| window.revision == revision) else {
        windows.push(OutputWindow { revision, outputs: outputs.to_vec() });
        return;
    };
    for output in outputs {
        match window.outputs.iter_mut().find(|known| known.output == output.output) {
            Some(known) => known.counts.extend_from_slice(&output.counts),
            None => window.outputs.push(output.clone()),
        }
    }
}
