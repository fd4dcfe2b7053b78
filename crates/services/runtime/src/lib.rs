//! The process that loads a model and answers the Open Inference Protocol v2 over REST and gRPC.

pub mod registry;

pub use registry::{Answer, Model, Registry, Timings};
