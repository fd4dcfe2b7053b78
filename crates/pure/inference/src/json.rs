//! The protocol's JSON: read straight into typed buffers and written straight from them, without a tree of values in between.

mod elements;
mod fault;
mod number;
mod reader;
mod request;
mod text;
pub mod v1;
mod write;

pub(crate) use request::read_request;
pub use request::read_response;
pub(crate) use write::{plain_float, whole, write_inputs, write_outputs};
pub use write::{write_metadata, write_string};

#[cfg(test)]
mod tests;
