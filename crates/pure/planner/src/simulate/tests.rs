//! Loads whose outcome theory or arithmetic knows, and what holds for every policy.

use super::*;
use crate::scale::{Response, Target};

fn scenario(load: &str) -> Scenario {
    Scenario {
        trace: Trace::parse(load).unwrap(),
        service: Times::Constant(20.0),
        start: Times::Constant(2000.0),
        mean_time_to_failure_s: None,
        concurrency: 1,
        queue_max: 1024,
        timeout_ms: 60_000.0,
        objective_ms: 100.0,
        interval_s: 10.0,
        seed: 1,
    }
}

fn contender(policy: Policy) -> Contender {
    let target = if policy == Policy::Berth { Target::P99Ms(100.0) } else { Target::Concurrency(0.7) };
    let spec = Spec { max_replicas: 12, target, response: Some(Response::P99(95.0)), ..Spec::default() };
    Contender { name: policy.name().to_owned(), policy, spec }
}

fn fixed(replicas: u32) -> Contender {
    let fixed = contender(Policy::Fixed);
    Contender { spec: Spec { max_replicas: replicas, ..fixed.spec }, ..fixed }
}

#[test]
fn a_queue_with_several_servers_waits_as_theory_says() {
    // M/M/4 at 80 %: Erlang's C is 0.596, the mean wait that times 20 ms / (4 × 0.2).
    let mut scenario = scenario("seconds,rate\n0,160\n20000,160\n");
    scenario.trace = scenario.trace.between(0.0, 20_000.0);
    let mut exponential: Vec<f64> = Vec::new();
    // The quantiles of an exponential distribution, a thousand of them, are as good as it.
    exponential.extend((0..1000).map(|at| -20.0 * (1.0 - (f64::from(at) + 0.5) / 1000.0).ln()));
    scenario.service = Times::Measured(exponential);
    scenario.objective_ms = 34.9;
    let outcome = simulate(&scenario, &fixed(4));
    assert_eq!(outcome.refused + outcome.timed_out, 0);
    assert_eq!(outcome.answered, outcome.requests);
    assert!((outcome.requests as f64 / 3.2e6 - 1.0).abs() < 0.01, "{}", outcome.requests);
    // Half of the intervals are over the mean of theory, 20 + 14.9 ms, or somewhat fewer: waits have a long tail.
    assert!((0.25..0.55).contains(&outcome.over_in_mean), "{}", outcome.over_in_mean);
    assert!((outcome.replicas - 4.0).abs() < 1e-6 && outcome.changed == 0);
}

#[test]
fn the_same_seed_gives_the_same_outcome_and_another_one_does_not() {
    let scenario = scenario("seconds,rate\n0,50\n60,200\n120,50\n");
    let one = simulate(&scenario, &contender(Policy::Berth));
    assert_eq!(one, simulate(&scenario, &contender(Policy::Berth)));
    let other = Scenario { seed: 2, ..scenario.clone() };
    assert_ne!(one.requests, simulate(&other, &contender(Policy::Berth)).requests);
    // Every policy meets the same requests.
    for policy in Policy::ALL {
        assert_eq!(simulate(&scenario, &contender(policy)).requests, one.requests);
    }
}

#[test]
fn in_steps_of_time_the_outcome_is_the_same() {
    let scenario = scenario("seconds,rate\n0,50\n60,200\n120,50\n");
    let contender = contender(Policy::Kpa);
    let mut simulation = Simulation::new(&scenario, &contender);
    while !simulation.advance(simulation.at_s() + 7.0) {}
    assert_eq!(simulation.outcome(), simulate(&scenario, &contender));
}

#[test]
fn no_request_is_lost_from_the_books() {
    let mut scenario = scenario("seconds,rate\n0,20\n30,900\n60,20\n");
    scenario.queue_max = 300;
    scenario.timeout_ms = 700.0;
    scenario.mean_time_to_failure_s = Some(20.0);
    for policy in Policy::ALL {
        let outcome = simulate(&scenario, &contender(policy));
        assert_eq!(outcome.requests, outcome.answered + outcome.refused + outcome.timed_out, "{policy:?}");
        assert!(outcome.failures > 0 && outcome.refused > 0, "{policy:?}: {outcome:?}");
        assert!(outcome.late >= outcome.refused + outcome.timed_out);
    }
}

#[test]
fn a_full_queue_refuses_and_old_requests_are_given_up() {
    // Twice what one replica does: a queue of 10 is always full, and half is refused.
    let mut scenario = scenario("seconds,rate\n0,100\n100,100\n");
    scenario.queue_max = 10;
    let outcome = simulate(&scenario, &fixed(1));
    let share = outcome.refused as f64 / outcome.requests as f64;
    assert!((share - 0.5).abs() < 0.03, "{share}");
    assert_eq!(outcome.timed_out, 0);
    assert!((200.0..230.0).contains(&outcome.p99_ms), "{}", outcome.p99_ms);
    // With room but little time, none waits longer than that time; the histogram tells an eighth apart.
    (scenario.queue_max, scenario.timeout_ms) = (100_000, 500.0);
    let outcome = simulate(&scenario, &fixed(1));
    assert!(outcome.timed_out > 0 && outcome.refused == 0);
    assert!(outcome.p99_ms <= 580.0, "{}", outcome.p99_ms);
}

#[test]
fn from_zero_requests_wait_for_the_start_in_their_order() {
    let mut scenario = scenario("100\n100.005\n100.01\n");
    scenario.trace = Trace::parse("0\n300\n300.005\n300.01\n300.5\n").unwrap();
    for policy in [Policy::Berth, Policy::Kpa] {
        let mut contender = contender(policy);
        contender.spec.min_replicas = 0;
        let outcome = simulate(&scenario, &contender);
        assert_eq!((outcome.answered, outcome.refused), (5, 0));
        // The first waits for the start; those behind it for those before them too.
        assert!((2000.0..2300.0).contains(&outcome.p99_ms), "{}", outcome.p99_ms);
        assert!(outcome.replicas < 0.6, "{policy:?}: {}", outcome.replicas);
        assert_eq!(outcome.changes[0].reason, "a request came");
        assert_eq!(outcome.changes.iter().filter(|change| change.to == 0).count(), 1, "{:?}", outcome.changes);
    }
}

#[test]
fn berth_has_fewer_intervals_over_than_the_rivals_and_no_more_replicas_than_the_kpa() {
    let scenario = scenario("seconds,rate\n0,30\n100,200\n250,60\n400,250\n600,100\n800,100\n");
    let [berth, kpa, hpa, dm] =
        [Policy::Berth, Policy::Kpa, Policy::Hpa, Policy::Dm].map(|policy| simulate(&scenario, &contender(policy)));
    assert!(berth.over < dm.over && berth.over < hpa.over, "{} {} {}", berth.over, hpa.over, dm.over);
    assert!(berth.replicas <= kpa.replicas, "{} {}", berth.replicas, kpa.replicas);
}

#[test]
fn the_plot_shows_every_policy() {
    let scenario = scenario("seconds,rate\n0,50\n60,200\n120,50\n");
    let outcomes = [Policy::Berth, Policy::Kpa].map(|policy| simulate(&scenario, &contender(policy)));
    let svg = plot("a < b", 100.0, &outcomes);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("a &lt; b") && !svg.contains("NaN"));
    assert_eq!(svg.matches("<polyline").count(), 7);
    assert!(svg.contains(">berth: ") && svg.contains(">kpa: "));
}
