//! `berth export`: a service in another platform's form.

use resources::manifest::kserve;

use crate::{cli::Export, context::Context, failure::Failure, output::printable};

pub(super) async fn export(context: &Context, what: &Export) -> Result<(), Failure> {
    let Export::Kserve(args) = what;
    let service = context.client.service(&args.name).await?;
    let exported = kserve::export(&service);
    for note in &exported.notes {
        context.out.note(&printable(&format!("note: {note}")));
    }
    context.out.manifest(&exported.manifest)
}

#[cfg(test)]
mod tests {
    use resources::manifest::kserve::{FORMATS, KINDS, SCHEMES, sections};

    /// The document, in the root of the project.
    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/reference/kserve.md");

    #[test]
    fn contract_of_kserve() {
        let rendered = rendered();
        if std::env::var("BERTH_CONTRACTS").is_ok_and(|value| value == "write") {
            std::fs::write(DOCUMENT, rendered).unwrap();
            return;
        }
        let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
        assert!(written == rendered, "docs/reference/kserve.md is not what the code does: run `make contracts`");
    }

    const HEAD: &str = "\
# Manifests of KServe

What `berth apply` does with each field of KServe's `serving.kserve.io/v1beta1`. Written by `make contracts` from the table that
the conversion itself walks. [From KServe](../guide/from-kserve.md) shows how a service moves.

| Word | Meaning |
|---|---|
| honoured | it means here what it means in KServe |
| mapped | it becomes something else, or only some of its values are taken |
| not honoured | it is accepted and has no effect: `berth apply` warns, and the service has the condition `KServeCompatible`, `False` |
| refused | the manifest is refused: the field changes what is served |
| left out | the cluster wrote it for itself |

A field that is in none of the tables is an error that names the nearest one. Lists and fields below one that is not honoured are not
looked at. Fields of Berth's own kind that KServe has not stand in annotations, as JSON: `berth.dev/traffic` is `spec.traffic`.
";

    fn rendered() -> String {
        let mut text = HEAD.to_owned();
        let mut table = |title: &str, head: &str, rows: Vec<String>| {
            text.push_str(&format!("\n## {title}\n\n{head}\n{}\n", rows.join("\n")));
        };
        let mut last = "";
        for section in sections() {
            // Two objects of one table are shown as one.
            if section.title == last {
                continue;
            }
            last = section.title;
            let title = match section.path {
                "" => section.title.to_owned(),
                "spec.predictor.model.resources.requests" => {
                    format!("{}: `{}` and `limits`", section.title, section.path)
                }
                path => format!("{}: `{path}`", section.title),
            };
            let rows = section
                .fields
                .iter()
                .map(|field| format!("| `{}` | {} | {} |", field.name, field.treatment.word(), field.note));
            table(&title, "| Field | Berth | Note |\n|---|---|---|", rows.collect());
        }
        let refused = |rows: &[(&str, &str)], mark: &str| {
            rows.iter().map(|(name, instead)| format!("| `{name}{mark}` | {instead} |")).collect::<Vec<String>>()
        };
        let head = "| Name | Instead |\n|---|---|";
        table("Formats that are refused: `modelFormat.name`", head, refused(FORMATS, ""));
        table("Places that are refused: `storageUri`", head, refused(SCHEMES, "://"));
        table("Kinds that are refused", head, refused(KINDS, ""));
        text
    }
}
