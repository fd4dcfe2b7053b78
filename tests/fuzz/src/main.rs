//! `berth-fuzz`: lists the targets, writes their seeds, runs one on files or on changed seeds.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use fuzz::{
    TARGETS, Target,
    mutate::{Source, changed},
    target,
};

const USAGE: &str = "usage: berth-fuzz list | seeds TARGET DIR | run TARGET FILE… | mutate TARGET COUNT SEED";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(),
        ["seeds", name, directory] => seeds(named(name)?, Path::new(directory)),
        ["run", name, files @ ..] => run(named(name)?, files),
        ["mutate", name, count, seed] => mutate(named(name)?, count.parse()?, seed.parse()?),
        _ => bail!(USAGE),
    }
}

fn named(name: &str) -> Result<&'static Target> {
    target(name).with_context(|| format!("there is no target `{name}`: `berth-fuzz list` shows them"))
}

#[expect(clippy::print_stdout, reason = "the list is the answer")]
fn list() -> Result<()> {
    for target in &TARGETS {
        println!("{}", target.name);
    }
    Ok(())
}

fn seeds(target: &Target, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(directory.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn run(target: &Target, files: &[&str]) -> Result<()> {
    for file in files {
        (target.run)(&fs::read(file).with_context(|| format!("`{file}` cannot be read"))?);
    }
    Ok(())
}

fn mutate(target: &Target, count: u64, seed: u64) -> Result<()> {
    let (seeds, mut source) = ((target.seeds)(), Source::new(seed));
    for _ in 0..count {
        (target.run)(&changed(&seeds, &mut source));
    }
    Ok(())
}
