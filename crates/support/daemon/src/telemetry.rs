//! Structured logs on standard error, text for people and JSON for machines, and traces. Secrets are never fields.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

mod server_timing;
mod tracing;

pub use self::tracing::{Span, Tracing, TracingError};

/// What is logged when `RUST_LOG` does not say: the binding of ONNX Runtime tells at `info` how it found its library.
const DEFAULT_FILTER: &str = "info,ort=warn";

/// Starts logging for this process. `RUST_LOG` filters (default `info`); without a terminal each line is a JSON object.
///
/// A second call in one process changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    let started = if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr)).try_init()
    } else {
        let json = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        registry.with(json.with_writer(std::io::stderr)).try_init()
    };
    drop(started);
}
