//! What every process of Berth stands on: telemetry, supervised tasks, HTTP serving over TCP, TLS and Unix sockets, drain.

pub mod assignment;
pub mod files;
pub mod http;
pub mod link;
pub mod listen;
pub mod lock;
pub mod supervisor;
pub mod telemetry;
pub mod time;

pub use supervisor::{BoxError, OnExit, Supervisor};
