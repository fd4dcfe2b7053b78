//! The nouns of Berth: kinds, ids, validation, conditions, and the snapshots that processes hand to each other.

pub mod access;
pub mod condition;
pub mod digest;
pub mod event;
pub mod histogram;
pub mod id;
pub mod inference_service;
pub mod manifest;
pub mod meta;
pub mod quantity;
pub mod rollout;
pub mod scaling;
pub mod snapshot;
pub mod status;
pub mod window;

/// API group and version of every kind.
pub const API_VERSION: &str = "berth.dev/v1alpha1";
