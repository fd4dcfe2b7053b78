//! `berth apply`: services out of manifests.

use std::{
    env, fs,
    io::{self, Read},
    path::Path,
};

use resources::{
    inference_service::InferenceService,
    manifest::{self, MANIFEST_BYTES_MAX, ManifestError, kserve},
};

use super::deploy::{ask, said, wait_ready};
use crate::{
    cli::Apply,
    context::Context,
    failure::Failure,
    output::{Output, printable},
};

pub(super) async fn apply(context: &Context, args: &Apply) -> Result<(), Failure> {
    // Everything is read and checked before anything is done.
    let mut wishes = Vec::new();
    for file in &args.file {
        wishes.extend(read(file)?);
    }
    wishes.iter().for_each(|wish| warn(context.out, wish));
    let mut progress = context.progress();
    let mut done = Vec::new();
    for wish in &wishes {
        progress.hint(&format!("{}: checking the model and taking it into the store", wish.metadata.name));
        let outcome = ask(context, &wish.metadata.name, |before| with_identity(wish, before)).await;
        match outcome {
            Ok(outcome) => done.push(outcome),
            Err(failure) => {
                progress.done();
                if !done.is_empty() && context.out.is_for_people() {
                    said(context, &done)?;
                }
                return Err(match wishes.len() {
                    1 => failure,
                    _ => Failure { message: format!("`{}`: {failure}", wish.metadata.name), ..failure },
                });
            }
        }
    }
    if args.wait.wait {
        for (service, _) in &mut done {
            let name = service.metadata.name.to_string();
            wait_ready(context, &name, args.wait.wait_timeout, &mut progress).await?;
            *service = context.client.service(&name).await?;
        }
    }
    progress.done();
    said(context, &done)
}

/// Says what the manifest asks for and does not get. The service says it too, as a condition.
fn warn(out: Output, wish: &InferenceService) {
    for field in kserve::not_honoured(&wish.metadata.annotations) {
        let note = field.note.map(|note| format!(": {note}")).unwrap_or_default();
        out.warning(&printable(&format!("`{}`: `{}` is not honoured{note}", wish.metadata.name, field.path)));
    }
}

/// What the manifest says. A version in it is kept, so that a change in between is a conflict as the person wished.
fn with_identity(wish: &InferenceService, before: Option<&InferenceService>) -> InferenceService {
    let mut service = wish.clone();
    if before.is_none() {
        service.metadata.resource_version = None;
    }
    service
}

pub(super) fn read(file: &Path) -> Result<Vec<InferenceService>, Failure> {
    let (text, base) = if file == Path::new("-") {
        let here = env::current_dir().map_err(|error| Failure::io("find", Path::new("."), &error))?;
        (limited(io::stdin().lock(), file)?, here)
    } else {
        let opened = fs::File::open(file).map_err(|error| Failure::io("read", file, &error))?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = fs::canonicalize(parent).map_err(|error| Failure::io("find", parent, &error))?;
        (limited(opened, file)?, base)
    };
    let base = base.to_str().ok_or_else(|| Failure::failed(format!("`{}` is not UTF-8: rename it", base.display())))?;
    manifest::parse_beside(&text, base).map_err(|error| {
        let shown = if file == Path::new("-") { "standard input".to_owned() } else { format!("`{}`", file.display()) };
        match error {
            ManifestError::Fields(_) => Failure::refused(format!("{shown} is wrong:\n{error}")),
            _ => Failure::refused(format!("{shown}: {error}")),
        }
    })
}

fn limited(reader: impl Read, file: &Path) -> Result<String, Failure> {
    let limit = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    reader.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::io("read", file, &error))?;
    String::from_utf8(bytes).map_err(|_| Failure::refused(format!("`{}` is not UTF-8 text", file.display())))
}
