//! API keys: making, digesting, verifying, and what they permit.

mod authorizer;
mod key;

pub use authorizer::{AuthError, Authorizer, Forbidden, KeyRecordError};
pub use key::{Digest, NewKey, PREFIX, Parsed, RandomError, Secret, generate};
