//! `POST /v1/embeddings`, as OpenAI has it.
//!
//! Each input runs by itself, at its own length, and the executor joins those of one length where it was found that the model
//! answers rows alike: nothing is padded, so that a vector never depends on what else is in the request.

use std::sync::Arc;

use axum::{body::Body, extract::Request, http::HeaderMap, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use inference::{
    Encoded, InferError,
    embeddings::{
        BODY_BYTES_MAX, answer as form,
        request::{self, Input, Wrong},
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Coding, REQUEST_ID_HEADER, SERVICE_HEADER, Shared, admit, answer, body, coded, coding, deadline, find, log_answer,
    log_refusal, off_thread, service,
};
use crate::{
    embedder::{Embedder, Tokens},
    registry::{Model, Timings},
};

/// Inputs of one request that wait for the model at a time: enough to fill batches, few enough to leave room in the queue.
const AT_ONCE: usize = 64;

/// How much longer a byte takes to be made into tokens than to be parsed as JSON.
const TOKENISING_COST: usize = 16;

/// Why there is no answer.
enum Refusal {
    Wrong(Wrong),
    Infer(InferError),
    Coding(String),
}

impl From<InferError> for Refusal {
    fn from(error: InferError) -> Self {
        Self::Infer(error)
    }
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

/// What is asked of a model that was found.
struct Asked {
    model: Arc<Model>,
    request: request::Request,
    deadline: Option<Instant>,
}

pub(super) async fn handle(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let refusal = match embeddings(shared, &parts.headers, body).await {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    let request_id = parts.headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
    let (error, param) = match refusal {
        Refusal::Wrong(Wrong { message, param }) => (InferError::InvalidInput(message), param),
        Refusal::Infer(error @ InferError::NotFound(_)) => (error, Some("model")),
        Refusal::Infer(error) => (error, None),
        Refusal::Coding(message) => return answer::unsupported_coding(&message),
    };
    // The body may not have named a model; the gateway does.
    let service = parts.headers.get(SERVICE_HEADER).and_then(|name| name.to_str().ok());
    log_refusal(service.unwrap_or_default(), request_id, &error);
    answer::embeddings_error(&error, param)
}

async fn embeddings(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let asked = received(shared, headers, body).await?;
    let model = Arc::clone(&asked.model);
    let counting = model.counters().begin();
    let prepared = async {
        admit(&shared.registry, &model)?;
        tokenised(&asked).await
    };
    let (embedder, dimensions, tokens) = match prepared.await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            if let Refusal::Wrong(wrong) = &refusal {
                counting.failed(&InferError::InvalidInput(wrong.message.clone()));
            } else if let Refusal::Infer(error) = &refusal {
                counting.failed(error);
            }
            return Err(refusal);
        }
    };
    counting.handed_over();
    let total: usize = tokens.iter().map(Tokens::len).sum();
    let (vectors, timings) = run(&model, &embedder, &tokens, asked.deadline).await?;
    log_answer(&model, headers, timings);
    let work = vectors.iter().map(|vector| vector.len().saturating_mul(32)).fold(0, usize::saturating_add);
    let (name, encoding) = (asked.request.model, asked.request.encoding);
    let written = off_thread(work, move || {
        let vectors: Vec<Vec<f32>> = vectors.into_iter().map(|vector| embedder.cut(vector, dimensions)).collect();
        Ok(form::write(&name, &vectors, total, encoding))
    });
    let encoded = Encoded { json: Bytes::from(written.await?), ..Encoded::default() };
    Ok(coded(encoded, timings, Coding::wanted(headers)).await?)
}

/// Collects and reads the body, which names the model.
async fn received(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Asked, Refusal> {
    let deadline = deadline(headers)?;
    let coding = Coding::of_request(headers).map_err(Refusal::Coding)?;
    let bytes_max = shared.limits.body_bytes_max.min(BODY_BYTES_MAX);
    let place = body::Place { buffers: &shared.buffers, aligned: 0 };
    let body = body::collect(body, bytes_max, deadline, place).await?;
    let work = if coding == Coding::Identity { body.len() } else { body.len().saturating_mul(8) };
    let read = move || coding::inflate(body, coding, bytes_max).map(|body| request::read(&body));
    let request = off_thread(work, read).await??;
    let model = find(&shared.registry, &request.model, None, service(headers))?;
    Ok(Asked { model, request, deadline })
}

/// What makes the vectors, how many numbers they keep, and the tokens of each input.
async fn tokenised(asked: &Asked) -> Result<(Arc<Embedder>, usize, Vec<Tokens>), Refusal> {
    let Some(embedder) = asked.model.embedder() else {
        let name = asked.model.name();
        let text = format!("`{name}` makes no embeddings: deploy its ONNX file with its `tokenizer.json` beside it");
        return Err(Wrong::new("model", text).into());
    };
    let dimensions = embedder.dimensions(asked.request.dimensions)?;
    let bytes = |input: &Input| match input {
        Input::Text(text) => text.len().saturating_mul(TOKENISING_COST),
        Input::Tokens(tokens) => tokens.len(),
    };
    let work = asked.request.inputs.iter().map(bytes).fold(0, usize::saturating_add);
    let gone = CancellationToken::new();
    let _gone_with_the_client = gone.clone().drop_guard();
    let (inputs, deadline, with) = (asked.request.inputs.clone(), asked.deadline, Arc::clone(embedder));
    let tokenise = move || {
        let mut tokens = Vec::with_capacity(inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            if gone.is_cancelled() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let text = "the deadline passed before the model began, nothing was run";
                return Err(InferError::DeadlineExceeded(text.to_owned()));
            }
            let place = |wrong: Wrong| Wrong { message: format!("input {at}: {wrong}"), ..wrong };
            match with.tokens(input).map_err(place) {
                Ok(made) => tokens.push(made),
                Err(wrong) => return Ok(Err(wrong)),
            }
        }
        Ok(Ok(tokens))
    };
    let tokens = off_thread(work, tokenise).await??;
    Ok((Arc::clone(embedder), dimensions, tokens))
}

/// A vector for each input, and how long they took together.
async fn run(
    model: &Model,
    embedder: &Embedder,
    tokens: &[Tokens],
    deadline: Option<Instant>,
) -> Result<(Vec<Vec<f32>>, Timings), InferError> {
    let one = |tokens| -> BoxFuture<'_, _> { Box::pin(vector(model, embedder, tokens, deadline)) };
    let each: Vec<_> = tokens.iter().map(one).collect();
    let made: Vec<(Vec<f32>, Timings)> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
    let mut timings = Timings::default();
    for (_, one) in &made {
        timings.queue = timings.queue.max(one.queue);
        timings.compute += one.compute;
    }
    Ok((made.into_iter().map(|(vector, _)| vector).collect(), timings))
}

async fn vector(
    model: &Model,
    embedder: &Embedder,
    tokens: &Tokens,
    deadline: Option<Instant>,
) -> Result<(Vec<f32>, Timings), InferError> {
    // A cheap model runs where it is asked; other requests of this thread get their turn in between.
    tokio::task::yield_now().await;
    let answer = model.infer(embedder.request(tokens), deadline).await?;
    Ok((embedder.vector(&answer.response.outputs)?, answer.timings))
}

#[cfg(test)]
mod tests;
