//! The gateway as its clients see it: real sockets, replicas and a controller of the tests' own.

mod auth;
mod counting;
mod embeddings;
mod forwarding;
mod gather;
mod grpc;
mod hold;
mod lifecycle;
mod limits;
mod outlier;
mod retries;
mod shadow;
mod smuggling;
mod split;
mod stalls;
mod support;
mod traces;
mod windows;
