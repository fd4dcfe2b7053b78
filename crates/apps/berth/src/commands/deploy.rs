//! `berth deploy` and `berth delete`.

use std::{fs, path::Path};

use resources::{
    API_VERSION,
    id::ServiceName,
    inference_service::{InferenceService, Model, ModelFormat, Shadow},
    manifest,
};
use serde_json::json;

use crate::{
    cli::{Delete, Deploy},
    context::Context,
    failure::{Exit, Failure},
    progress::Progress,
    wait,
};

/// Tries when somebody else changes the service at the same time.
const TRIES_MAX: u32 = 5;

/// What asking for a service did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

pub(super) async fn deploy(context: &Context, args: &Deploy) -> Result<(), Failure> {
    let name = ServiceName::parse(&args.name).map_err(|error| Failure::usage(error.to_string()))?;
    let uri = format!("file://{}", absolute(&args.path)?);
    // What is no model at all goes on as ONNX: the API words the refusal.
    let format = store::format(&args.path).map_or("onnx", store::Format::name);
    let wish = |before: Option<&InferenceService>| {
        let mut service = before.cloned().unwrap_or_else(|| new(name.clone()));
        let predictor = &mut service.spec.predictor;
        predictor.model.storage_uri.clone_from(&uri);
        if predictor.model.model_format.name != format {
            predictor.model.model_format = ModelFormat { name: format.to_owned(), version: None };
        }
        predictor.min_replicas = args.replicas.or(predictor.min_replicas);
        predictor.timeout = args.timeout.or(predictor.timeout);
        predictor.canary_traffic_percent = args.canary.or(predictor.canary_traffic_percent).filter(|n| *n < 100);
        // Whoever asks for one of the two takes the other back.
        match (args.canary, args.shadow) {
            (Some(_), _) => service.spec.shadow = None,
            (None, Some(percent)) => {
                service.spec.predictor.canary_traffic_percent = None;
                service.spec.shadow = Some(Shadow { percent });
            }
            (None, None) => {}
        }
        service
    };
    let mut progress = context.progress();
    progress.hint("checking the model and taking it into the store");
    let (service, outcome) = ask(context, &name, wish).await?;
    if args.wait.no_wait {
        progress.done();
        return said(context, &[(service, outcome)]);
    }
    wait_ready(context, &args.name, args.wait.wait_timeout, &mut progress).await?;
    progress.done();
    let service = context.client.service(&args.name).await?;
    said(context, &[(service, outcome)])
}

/// Waits until a service answers. Ctrl-C ends the waiting alone.
pub(super) async fn wait_ready(
    context: &Context,
    name: &str,
    seconds: u64,
    progress: &mut Progress,
) -> Result<(), Failure> {
    tokio::select! {
        outcome = wait::ready(&context.client, name, seconds, progress) => outcome,
        _ = tokio::signal::ctrl_c() => {
            progress.done();
            let failure = Failure::new(Exit::Interrupted, format!("interrupted; `{name}` stays and goes on starting"));
            Err(failure.hint(format!("`berth get {name}` shows it, `berth delete {name}` removes it")))
        }
    }
}

/// Creates the service that `wish` makes of nothing, or updates it to what `wish` makes of the present one.
pub(super) async fn ask(
    context: &Context,
    name: &ServiceName,
    wish: impl Fn(Option<&InferenceService>) -> InferenceService,
) -> Result<(InferenceService, Outcome), Failure> {
    let client = &context.client;
    let mut tries = 0;
    loop {
        tries += 1;
        let before = match client.service(name.as_str()).await {
            Ok(service) => Some(service),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let service = wish(before.as_ref());
        let errors = manifest::validate(&service);
        if !errors.is_empty() {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(Failure::refused(lines.join("\n")));
        }
        let answer = match &before {
            None => client.create(&service).await,
            Some(_) => client.update(&service).await,
        };
        match (answer, before) {
            (Ok(after), None) => return Ok((after, Outcome::Created)),
            (Ok(after), Some(before)) => {
                let revision = |service: &InferenceService| {
                    let status = service.status.as_ref();
                    (service.metadata.generation, status.and_then(|status| status.latest_created_revision))
                };
                let same = revision(&before) == revision(&after)
                    && before.metadata.labels == after.metadata.labels
                    && before.metadata.annotations == after.metadata.annotations;
                return Ok((after, if same { Outcome::Unchanged } else { Outcome::Updated }));
            }
            // Somebody else was faster: look again at what there is now.
            (Err(error), _) if (error.is_conflict() || error.is_not_found()) && tries < TRIES_MAX => {}
            (Err(error), _) => return Err(error.into()),
        }
    }
}

/// Prints what was done.
pub(super) fn said(context: &Context, done: &[(InferenceService, Outcome)]) -> Result<(), Failure> {
    let out = context.out;
    if !out.is_for_people() {
        return match done {
            [(service, _)] => out.value(service),
            several => {
                let items: Vec<&InferenceService> = several.iter().map(|(service, _)| service).collect();
                out.value(&json!({"apiVersion": API_VERSION, "kind": manifest::LIST_KIND, "items": items}))
            }
        };
    }
    for (service, outcome) in done {
        let status = service.status.clone().unwrap_or_default();
        let revision =
            status.latest_created_revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
        let url = match (&status.url, wait::standing(service)) {
            (Some(url), wait::Standing::Ready) => format!(", ready at {url}"),
            _ => String::new(),
        };
        out.text(&format!("{} {}{revision}{url}", service.metadata.name, outcome.word()))?;
    }
    Ok(())
}

pub(super) async fn delete(context: &Context, args: &Delete) -> Result<(), Failure> {
    let out = context.out;
    for name in &args.names {
        context.client.delete(name).await?;
    }
    for name in &args.names {
        if args.wait.wait {
            let mut progress = context.progress();
            wait::gone(&context.client, name, args.wait.wait_timeout, &mut progress).await?;
        }
        if out.is_for_people() {
            let what = if args.wait.wait { "deleted" } else { "is being deleted" };
            out.text(&format!("{name} {what}"))?;
        }
    }
    if out.is_for_people() { Ok(()) } else { out.value(&json!({"deleted": args.names})) }
}

fn new(name: ServiceName) -> InferenceService {
    let model = Model {
        model_format: ModelFormat { name: "onnx".to_owned(), version: None },
        storage_uri: String::new(),
        protocol_version: None,
        resources: None,
    };
    InferenceService::of(name, model)
}

/// The whole path, its directory without links and `..`. The last part stays as it is: the store refuses a link itself.
fn absolute(path: &Path) -> Result<String, Failure> {
    fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::failed(format!("there is no `{}`", path.display()))
            .hint("give a model file (ONNX, XGBoost, LightGBM) or a bundle directory"),
        _ => Failure::io("read", path, &error),
    })?;
    let failed = |error| Failure::io("read", path, &error);
    let whole = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            fs::canonicalize(parent).map_err(failed)?.join(name)
        }
        _ => fs::canonicalize(path).map_err(failed)?,
    };
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::failed(format!("`{}` is not UTF-8: rename it", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_whole() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("m.onnx"), "").unwrap();
        std::os::unix::fs::symlink(root.join("m.onnx"), root.join("link.onnx")).unwrap();
        let whole = |path: &str| absolute(&root.join(path)).unwrap();
        assert_eq!(whole("a/../m.onnx"), root.join("m.onnx").to_str().unwrap());
        assert_eq!(whole("a/.."), root.to_str().unwrap());
        assert_eq!(whole("link.onnx"), root.join("link.onnx").to_str().unwrap());
        assert_eq!(absolute(&root.join("nowhere")).unwrap_err().exit, Exit::Failed);
    }
}
