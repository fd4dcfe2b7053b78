//! Arguments to scenarios.

use clap::Parser;

use super::*;
use crate::failure::Exit;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn setup(line: &str) -> Result<Setup, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let load = folder.path().join("load.csv");
    fs::write(&load, "0,100\n10,200\n20,0\n").unwrap();
    let line = format!("x --load {} {line}", load.display());
    Line::try_parse_from(line.split_whitespace()).unwrap().args.setup(None)
}

#[test]
fn each_policy_gets_its_own_target() {
    let setup = setup("--p99-ms 40 --concurrency 4 --max-replicas 9").unwrap();
    let names: Vec<&str> = setup.contenders.iter().map(|contender| contender.name.as_str()).collect();
    assert_eq!(names, ["berth", "kpa", "hpa", "dm"]);
    assert_eq!(setup.contenders[0].spec.target, Target::P99Ms(40.0));
    assert_eq!(setup.contenders[1].spec.target, Target::Concurrency(2.8));
    assert_eq!(setup.contenders[3].spec.response, Some(Response::P99(38.0)));
    assert!(setup.contenders.iter().all(|contender| contender.spec.max_replicas == 9));
    assert_eq!(setup.scenario.trace.requests(), 300.0);
    assert_eq!(setup.scenario.timeout_ms, 60_000.0);
}

#[test]
fn the_part_of_the_load() {
    assert_eq!(setup("--scale 2 --repeat 3").unwrap().scenario.trace.requests(), 1800.0);
    assert_eq!(setup("--from 5 --until 15").unwrap().scenario.trace.requests(), 150.0);
    let failure = setup("--from 50").unwrap_err();
    assert_eq!(
        (failure.exit, failure.message.as_str()),
        (Exit::Usage, "there is nothing between 50 s and inf s of 30 s")
    );
}

#[test]
fn times_are_constants_or_means_with_percentiles() {
    assert_eq!(setup("--service-ms 5").unwrap().scenario.service, Times::Constant(5.0));
    assert_eq!(setup("--start-seconds 1.5").unwrap().scenario.start, Times::Constant(1500.0));
    assert!((setup("--service-ms 5:9").unwrap().scenario.service.mean_ms() - 5.0).abs() < 1e-9);
    for wrong in ["--service-ms 0", "--service-ms x", "--service-ms 9:5", "--start-seconds 1:"] {
        assert_eq!(setup(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
    }
    assert_eq!(setup("--min-replicas 9 --max-replicas 2").unwrap_err().exit, Exit::Usage);
}
