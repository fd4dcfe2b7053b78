//! Asks a model through the gateway: reads files, builds requests of the Open Inference Protocol, shows answers.

use std::{env, fs, path::Path};

use client::ServerStatus;
use inference::Datatype;
use serde::Deserialize;

use crate::{
    context::Context,
    failure::{Exit, Failure},
};

pub(crate) mod answer;
mod convert;
mod csv;
pub(crate) mod http;
mod json;
mod npy;
pub(crate) mod request;
mod rows;

/// Bytes of one input file: the gateway's own limit on bodies.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a model says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) inputs: Vec<Spec>,
    pub(crate) outputs: Vec<Spec>,
}

/// Name, datatype and shape of an input or output; -1 for any size.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
}

impl Spec {
    fn kind(&self) -> Result<Datatype, Failure> {
        let unknown =
            || Failure::failed(format!("the input `{}` has the unknown datatype `{}`", self.name, self.datatype));
        Datatype::parse(&self.datatype).ok_or_else(unknown)
    }

    /// Whether a tensor of `shape` fits.
    fn takes(&self, shape: &[usize]) -> bool {
        let fits = |(wanted, given): (&i64, &usize)| *wanted < 0 || i64::try_from(*given) == Ok(*wanted);
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }

    /// `FP32 [-1, 30]`.
    fn described(&self) -> String {
        format!("{} {:?}", self.datatype, self.shape)
    }
}

/// One input of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// Elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// As JSON.
    Values(Vec<serde_json::Value>),
    /// Little-endian, for the binary extension.
    Bytes(Vec<u8>),
}

/// Metadata of a model of this machine, with this machine's key.
pub(crate) async fn local_metadata(context: &Context, name: &str) -> Result<Metadata, Failure> {
    /// Descriptions are there at once or left out.
    const SECONDS: u64 = 3;
    let status: ServerStatus = context.client.status().await?;
    let key = read_key(&context.local_key())?;
    let door = http::Door::new(&status.base_url(), key, None)?;
    door.metadata(name, None, SECONDS).await
}

/// The key to use: a file that is named, the environment, or this machine's.
pub(crate) fn key(context: &Context, file: Option<&Path>) -> Result<String, Failure> {
    if let Some(file) = file {
        return read_key(file);
    }
    if let Ok(key) = env::var("BERTH_API_KEY")
        && !key.trim().is_empty()
    {
        return Ok(key.trim().to_owned());
    }
    let local = context.local_key();
    if !local.exists() {
        let failure = Failure::failed(format!("there is no key in `{}`", local.display()));
        return Err(failure.hint("`berth up` makes it; or name one with `--key-file` or BERTH_API_KEY"));
    }
    read_key(&local)
}

fn read_key(file: &Path) -> Result<String, Failure> {
    /// A key has some sixty characters.
    const KEY_BYTES_MAX: usize = 4096;
    let text = fs::read_to_string(file).map_err(|error| Failure::io("read the key", file, &error))?;
    let key = text.trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::failed(format!("`{}` holds no key", file.display())).hint("`berth key create` makes one"));
    }
    Ok(key.to_owned())
}

/// Wrong input, as a person gave it.
fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, message)
}
