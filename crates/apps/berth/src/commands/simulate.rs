//! `berth simulate`: policies side by side under one load.

use std::fs;

use planner::simulate::{Outcome, Simulation, plot};

use super::apply;
use crate::{
    context::Context,
    failure::Failure,
    simulate::{
        Args, Setup,
        report::{Report, decisions, rows},
    },
};

/// Simulated seconds between two looks at Ctrl-C and the progress.
const STEP_S: f64 = 60.0;

pub(super) async fn simulate(context: &Context, args: &Args) -> Result<(), Failure> {
    let service = match &args.manifest {
        Some(file) => {
            let mut services = apply::read(file)?;
            if services.len() > 1 {
                let message = format!("`{}` has {} services", file.display(), services.len());
                return Err(Failure::usage(message).hint("give a manifest with the one to simulate"));
            }
            services.pop()
        }
        None => None,
    };
    let setup = args.setup(service.as_ref())?;
    let outcomes = run(context, &setup).await;
    if let Some(file) = &args.plot {
        let name = service.map_or_else(|| "a service".to_owned(), |service| service.metadata.name.to_string());
        let load = args.load.file_name().unwrap_or(args.load.as_os_str()).display();
        let title = format!("{name} under {load}");
        let svg = plot(&title, setup.scenario.objective_ms, &outcomes);
        fs::write(file, svg).map_err(|error| Failure::io("write", file, &error))?;
    }
    let out = context.out;
    if !out.is_for_people() {
        return out.value(&Report::new(&setup.scenario, &outcomes, args.explain));
    }
    let trace = &setup.scenario.trace;
    out.note(&format!(
        "{:.0} s with about {:.0} requests; over is the share of intervals of {:.0} s with more than 1% answered after {} ms",
        trace.seconds(),
        trace.requests(),
        setup.scenario.interval_s,
        setup.scenario.objective_ms
    ));
    out.text(&rows(&outcomes))?;
    for outcome in outcomes.iter().filter(|_| args.explain) {
        out.text(&format!("\n{}", decisions(outcome)))?;
    }
    if let Some(file) = &args.plot {
        out.note(&format!("plot: {}", file.display()));
    }
    Ok(())
}

async fn run(context: &Context, setup: &Setup) -> Vec<Outcome> {
    let mut progress = context.progress();
    let mut outcomes = Vec::new();
    let seconds = setup.scenario.trace.seconds();
    for contender in &setup.contenders {
        let mut simulation = Simulation::new(&setup.scenario, contender);
        while !simulation.advance(simulation.at_s() + STEP_S) {
            progress.hint(&format!("{}: {:.0}%", contender.name, simulation.at_s() / seconds * 100.0));
            // Ctrl-C is seen between two steps.
            tokio::task::yield_now().await;
        }
        outcomes.push(simulation.outcome());
    }
    progress.done();
    outcomes
}
