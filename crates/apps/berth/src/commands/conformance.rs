//! `berth conformance`: tests a server of the Open Inference Protocol from outside.

use std::{env, fs};

use crate::{
    cli::Format,
    conformance::{self, Args},
    context::Context,
    failure::Failure,
};

pub(super) async fn conformance(context: &Context, args: &Args) -> Result<(), Failure> {
    let key = match &args.key_file {
        Some(path) => {
            Some(fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?.trim().to_owned())
        }
        None => env::var("BERTH_API_KEY").ok(),
    };
    let report = conformance::run(args, key).await.map_err(|error| Failure::failed(error.to_string()))?;
    let out = context.out;
    match out.format() {
        Format::Table | Format::Wide => out.text(&report.table())?,
        Format::Junit => out.text(&report.junit())?,
        Format::Json | Format::Yaml => out.value(&report)?,
    }
    if report.failed() { Err(Failure::failed("the server does not conform: a required check failed")) } else { Ok(()) }
}
