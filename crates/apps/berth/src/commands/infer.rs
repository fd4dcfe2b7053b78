//! `berth infer`: asks a model and shows the answer.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{Format, Infer},
    context::Context,
    failure::Failure,
    infer::{self, answer, http::Door, request},
};

/// The part of a bundle's manifest that answers are read with.
#[derive(Debug, Default, Deserialize)]
struct Bundle {
    #[serde(default)]
    classes: answer::Classes,
}

pub(super) async fn infer(context: &Context, args: &Infer) -> Result<(), Failure> {
    let (url, classes) = match &args.url {
        Some(url) => (url.clone(), answer::Classes::new()),
        None => {
            let service = context.client.service(&args.name).await?;
            let digest = service.status.and_then(|status| status.bundle).map(|digest| digest.0).unwrap_or_default();
            (context.client.status().await?.base_url(), classes(context.data_dir(), &digest))
        }
    };
    if resources::id::ServiceName::parse(&args.name).is_err() {
        return Err(Failure::usage(format!("`{}` is not the name of a service", args.name)));
    }
    let key = infer::key(context, args.key_file.as_deref())?;
    let door = Door::new(&url, key, args.tls_ca.as_deref())?;
    let metadata = door.metadata(&args.name, args.revision, args.timeout).await?;
    if let Some(unknown) = args.outputs.iter().find(|name| !metadata.outputs.iter().any(|spec| spec.name == **name)) {
        let names: Vec<&str> = metadata.outputs.iter().map(|spec| spec.name.as_str()).collect();
        return Err(Failure::failed(format!("the model has no output `{unknown}`: it has {}", names.join(", "))));
    }
    let body = request::build(&args.input, &args.outputs, &metadata)?;
    let answer = door.infer(&args.name, args.revision, body, args.timeout).await?;
    match context.out.format() {
        Format::Json | Format::Junit => context.out.text(&String::from_utf8_lossy(&answer)),
        Format::Yaml => {
            let value: Value = serde_json::from_slice(&answer)
                .map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")))?;
            context.out.value(&value)
        }
        Format::Table | Format::Wide => context.out.text(&answer::shown(&answer, &classes)?),
    }
}

/// Names of classes out of the bundle in the store; none when there are none, or when it cannot be read.
fn classes(data_dir: &Path, digest: &str) -> answer::Classes {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return answer::Classes::new();
    }
    let text = fs::read(data_dir.join("store/bundles").join(hex).join("bundle.json")).unwrap_or_default();
    serde_json::from_slice::<Bundle>(&text).unwrap_or_default().classes
}
