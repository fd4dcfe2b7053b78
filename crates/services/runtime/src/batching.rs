//! Joins requests that wait into one run of the model: which ones, how, and whether the model bears it.
//!
//! Nothing waits for company unless it was asked to: a batch is made of what is there when a session becomes free. A request
//! is never split, rows are never padded, and a batch that fails is run again one by one.

use inference::{InferRequest, ModelMetadata};

use crate::size;
use join::{Group, Signature};
use policy::Policy;

pub mod join;
pub mod policy;
pub mod trial;

/// How the requests of one model are joined.
#[derive(Clone, Debug)]
pub struct Batching {
    policy: Policy,
    signature: Option<Signature>,
    metadata: ModelMetadata,
}

impl Batching {
    /// Every request is run by itself.
    pub fn off(metadata: ModelMetadata) -> Self {
        Self { policy: Policy::OFF, signature: None, metadata }
    }

    /// Requests are joined by `policy`; the model has to bear it, see [`trial`].
    pub fn on(policy: Policy, signature: Signature, metadata: ModelMetadata) -> Self {
        Self { policy, signature: Some(signature), metadata }
    }

    /// Which requests are joined.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is joined; `None` when nothing is.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// Which requests `request` may be joined with; `None` when it runs by itself.
    pub fn group(&self, request: &InferRequest) -> Option<Group> {
        if self.policy.joins() { self.signature.as_ref()?.group(request) } else { None }
    }

    /// Rows of `request`.
    pub fn rows(&self, request: &InferRequest) -> usize {
        usize::try_from(size::batch(&self.metadata, request)).unwrap_or(usize::MAX)
    }
}
