//! What belongs to which service, found once for a whole plan: a service then costs what it has, and not what there is.

use std::collections::BTreeMap;

use resources::id::ServiceName;

use crate::{
    history::History,
    input::{Input, ObservedReplica},
};

/// Replicas and histories by service.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    replicas: BTreeMap<&'a ServiceName, Vec<&'a ObservedReplica>>,
    histories: BTreeMap<&'a ServiceName, Vec<&'a History>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(input: &'a Input) -> Self {
        let mut index = Self { replicas: BTreeMap::new(), histories: BTreeMap::new() };
        for replica in &input.replicas {
            index.replicas.entry(&replica.service).or_default().push(replica);
        }
        for replicas in index.replicas.values_mut() {
            replicas.sort_by(|a, b| a.id.cmp(&b.id));
        }
        for history in &input.histories {
            index.histories.entry(&history.service).or_default().push(history);
        }
        index
    }

    /// Replicas of a service by their ids.
    pub(crate) fn replicas(&self, service: &ServiceName) -> &[&'a ObservedReplica] {
        self.replicas.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// Histories of a service in the order given.
    pub(crate) fn histories(&self, service: &ServiceName) -> &[&'a History] {
        self.histories.get(service).map(Vec::as_slice).unwrap_or_default()
    }
}
