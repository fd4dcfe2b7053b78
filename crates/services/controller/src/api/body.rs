//! Reads what a client sent, and says precisely what is wrong with it.

use axum::{body::Bytes, extract::rejection::BytesRejection, extract::rejection::QueryRejection};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::BODY_BYTES_MAX;
use crate::error::ApiError;

/// The body as JSON.
pub(super) fn json(body: Result<Bytes, BytesRejection>) -> Result<Value, ApiError> {
    let bytes = bytes(body)?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

/// The body as a `T`.
pub(super) fn typed<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let value = json(body)?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner().to_string());
        ApiError::invalid(if path == "." { inner } else { format!("`{path}`: {inner}") })
    })
}

fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message);
        }
        ApiError::bad_request("the body could not be read")
    })
}

/// The query's parameters.
pub(super) fn query<T>(query: Result<axum::extract::Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|axum::extract::Query(given)| given).map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}
