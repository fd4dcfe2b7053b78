//! What every policy keeps, what each is documented to do, and what Berth's says.

use proptest::prelude::*;

use super::*;

/// Windows of given arrivals at replicas that each take `service_ms` for a request, busy as they come, none waiting.
fn windows(arrivals: &[u32], service_ms: f64, ready: u32) -> Vec<Window> {
    (0_u64..).zip(arrivals).map(|(second, arrivals)| window(second, *arrivals, service_ms, ready)).collect()
}

fn window(second: u64, arrivals: u32, service_ms: f64, ready: u32) -> Window {
    let mut window = Window { start_ms: second * WINDOW_MS, arrivals, ready: f64::from(ready), ..Window::default() };
    let busy = f64::from(arrivals) * service_ms / 1000.0;
    window.in_service = busy.min(f64::from(ready));
    window.held = busy - window.in_service;
    for _ in 0..arrivals.min(50) {
        window.service.record(service_ms);
        window.latency.record(service_ms * (1.0 + window.held));
    }
    window
}

fn seen(windows: &[Window], ready: u32, start_ms: u64) -> Observed<'_> {
    let now_ms = windows.last().map_or(0, |window| window.start_ms + WINDOW_MS);
    Observed { now_ms, windows, ready, starting: 0, held: 0, start_ms }
}

fn spec(target: Target) -> Spec {
    Spec { target, max_replicas: 20, ..Spec::default() }
}

fn latency() -> Spec {
    Spec { scale_down_delay_ms: SCALE_DOWN_DELAY_MS, ..spec(Target::P99Ms(50.0)) }
}

fn once(policy: Policy, spec: &Spec, seen: &Observed<'_>) -> Decision {
    decide(policy, spec, seen, Memory::default()).0
}

/// Every second of a load, with replicas that start at once; the numbers of replicas after each.
fn play(policy: Policy, spec: &Spec, arrivals: &[u32], service_ms: f64) -> Vec<u32> {
    let (mut memory, mut ready, mut all, mut numbers) = (Memory::default(), spec.min_replicas.max(1), vec![], vec![]);
    for (second, count) in (0_u64..).zip(arrivals) {
        all.push(window(second, *count, service_ms, ready));
        let now_ms = (second + 1) * WINDOW_MS;
        if now_ms.is_multiple_of(policy.period_ms()) {
            let from = all.len().saturating_sub(120);
            let observed = Observed { now_ms, ..seen(&all[from..], ready, 1000) };
            let (decision, next) = decide(policy, spec, &observed, memory);
            (memory, ready) = (next, decision.replicas.max(1));
        }
        numbers.push(ready);
    }
    numbers
}

fn changes(numbers: &[u32]) -> usize {
    numbers.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

proptest! {
    #[test]
    fn no_policy_leaves_its_bounds(
        arrivals in prop::collection::vec(0_u32..500, 1..100),
        service_ms in 1.0_f64..200.0,
        min in 0_u32..5,
        more in 0_u32..10,
        ready in 0_u32..20,
        target in prop_oneof![
            (1.0_f64..300.0).prop_map(Target::P99Ms),
            (0.1_f64..10.0).prop_map(Target::Concurrency),
            (1.0_f64..100.0).prop_map(Target::RequestsPerSecond),
        ],
    ) {
        let spec = Spec { min_replicas: min, max_replicas: min + more, ..spec(target) };
        let all = windows(&arrivals, service_ms, ready);
        for policy in Policy::ALL {
            let mut memory = Memory::default();
            for length in 1..=all.len() {
                let (decision, next) = decide(policy, &spec, &seen(&all[..length], ready, 3000), memory);
                prop_assert!((min..=min + more).contains(&decision.replicas), "{policy:?}: {decision:?}");
                prop_assert!(!decision.reason.is_empty());
                memory = next;
            }
        }
    }

    #[test]
    fn more_load_never_gets_fewer_replicas(rate in 0_u32..400, more in 0_u32..100, service_ms in 1.0_f64..50.0) {
        for policy in [Policy::Berth, Policy::Kpa] {
            for target in [Target::P99Ms(100.0), Target::Concurrency(0.7), Target::RequestsPerSecond(30.0)] {
                let of = |rate: u32| once(policy, &spec(target), &seen(&windows(&[rate; 60], service_ms, 3), 3, 1000)).replicas;
                prop_assert!(of(rate) <= of(rate + more), "{policy:?} {target:?}");
            }
        }
    }

    #[test]
    fn the_same_values_give_the_same_decision(arrivals in prop::collection::vec(0_u32..300, 1..60)) {
        let all = windows(&arrivals, 10.0, 2);
        for policy in Policy::ALL {
            let one = decide(policy, &latency(), &seen(&all, 2, 1000), Memory::default());
            prop_assert_eq!(&one, &decide(policy, &latency(), &seen(&all, 2, 1000), Memory::default()));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Noise about a level is no reason to go up and down: at most one change in half a minute.
    #[test]
    fn a_steady_load_does_not_make_replicas_come_and_go(noise in prop::collection::vec(0_u32..30, 600), level in 50_u32..300) {
        let arrivals: Vec<u32> = noise.iter().map(|noise| level + noise).collect();
        let numbers = play(Policy::Berth, &latency(), &arrivals, 10.0);
        prop_assert!(changes(&numbers[120..]) <= 16, "{:?}", &numbers[120..]);
    }
}

#[test]
fn kpa_counts_the_stable_window_and_panics_on_a_burst() {
    let spec = spec(Target::Concurrency(1.0));
    let calm = windows(&[40; 60], 100.0, 4);
    assert_eq!(once(Policy::Kpa, &spec, &seen(&calm, 4, 1000)).replicas, 4);
    // Twelve under way for six seconds are 1.2 in the minute's mean, which one ready replica takes for a burst.
    let mut arrivals = [0; 60];
    arrivals[54..].fill(120);
    let burst = windows(&arrivals, 100.0, 1);
    let decision = once(Policy::Kpa, &spec, &seen(&burst, 1, 1000));
    assert_eq!(decision.replicas, 12);
    assert_eq!(decision.reason, "in panic: the stable window needs 2, the panic window 12");
    // Below twice the ready replicas it is none.
    assert_eq!(
        once(Policy::Kpa, &spec, &seen(&burst, 7, 1000)).reason,
        "in panic: the stable window needs 2, the panic window 12"
    );
}

#[test]
fn kpa_keeps_what_a_panic_asked_for_until_a_stable_window_has_passed() {
    let spec = spec(Target::Concurrency(1.0));
    let mut arrivals = vec![10_u32; 60];
    arrivals.extend([120; 10]);
    arrivals.extend([10; 130]);
    let numbers = play(Policy::Kpa, &spec, &arrivals, 100.0);
    assert_eq!(numbers[59], 1);
    assert_eq!(numbers[75], 12);
    assert_eq!(numbers[115], 12);
    assert_eq!(numbers[199], 1);
}

#[test]
fn kpa_reaches_zero_and_hpa_does_not() {
    let idle = Spec { min_replicas: 0, ..spec(Target::Concurrency(1.0)) };
    let nothing = windows(&[0; 60], 100.0, 1);
    assert_eq!(once(Policy::Kpa, &idle, &seen(&nothing, 1, 1000)).replicas, 0);
    assert!(Policy::Kpa.reaches_zero() && Policy::Berth.reaches_zero() && !Policy::Hpa.reaches_zero());
}

#[test]
fn hpa_follows_utilisation_with_tolerance_policies_and_stabilization() {
    let spec = spec(Target::Concurrency(1.0));
    // 85 % where 80 % should be is within a tenth.
    assert_eq!(once(Policy::Hpa, &spec, &seen(&windows(&[34; 30], 100.0, 4), 4, 1000)).replicas, 4);
    // Wholly busy: 4 × 1 / 0.8.
    assert_eq!(once(Policy::Hpa, &spec, &seen(&windows(&[60; 30], 100.0, 4), 4, 1000)).replicas, 5);
    // Replicas that start are idle ones: 4 busy of 6 are below the target.
    let starting = Observed { starting: 2, ..seen(&[], 4, 1000) };
    let busy = windows(&[60; 30], 100.0, 4);
    let observed = Observed { windows: &busy, now_ms: 30_000, ..starting };
    assert_eq!(once(Policy::Hpa, &spec, &observed).replicas, 6);
    let mut arrivals = vec![80; 60];
    arrivals.extend([8; 400]);
    let numbers = play(Policy::Hpa, &spec, &arrivals, 100.0);
    assert_eq!(numbers[59], numbers[59 + 290]);
    assert!(numbers[459] < numbers[59]);
}

#[test]
fn dm_goes_up_by_the_trend_and_down_by_one() {
    let spec = Spec { response: Some(Response::Mean(150.0)), ..spec(Target::Concurrency(1.0)) };
    let mut memory = Memory::default();
    let mut at = |arrivals: u32, ready: u32| {
        let all = windows(&[arrivals; 30], 100.0, ready);
        let (decision, next) = decide(Policy::Dm, &spec, &seen(&all, ready, 1000), std::mem::take(&mut memory));
        memory = next;
        decision.replicas
    };
    // Busy to 75 %: nothing, but the rate per replica, 15, is remembered.
    assert_eq!(at(15, 2), 2);
    // 30 per replica are twice as much, after 7.5 times the first guess of 1: (2 × 4 + 7.5) / 3 times 2 / 0.8.
    assert_eq!(at(60, 2), 13);
    // Two intervals without a scale-in, then one at a time.
    assert_eq!([at(20, 13), at(20, 13), at(20, 13), at(20, 12)], [13, 13, 12, 11]);
    // As busy, but in time.
    let quick = Spec { response: Some(Response::Mean(1e6)), ..spec };
    assert_eq!(once(Policy::Dm, &quick, &seen(&windows(&[60; 30], 100.0, 2), 2, 1000)).replicas, 2);
}

#[test]
fn berth_explains_itself() {
    let say = |spec: &Spec, all: &[Window], ready: u32, held: u32| {
        let observed = Observed { held, ..seen(all, ready, 4000) };
        let decision = once(Policy::Berth, spec, &observed);
        format!("{}: {}", decision.replicas, decision.reason)
    };
    let load = windows(&[200; 60], 20.0, 6);
    assert_eq!(
        say(&latency(), &load, 6, 0),
        "6: 200.0 requests/s, 198.0 to provide for as now, 20.0 ms each: 6 keep 99 of 100 within 50 ms"
    );
    assert_eq!(
        say(&spec(Target::Concurrency(0.5)), &load, 6, 0),
        "8: 200.0 requests/s, 200.0 to provide for as now, 20.0 ms each: 8 with 0.5 under way at each"
    );
    assert_eq!(
        say(&spec(Target::RequestsPerSecond(90.0)), &load, 6, 0),
        "3: 200.0 requests/s, 200.0 to provide for as now, 20.0 ms each: 3 with 90 requests/s each"
    );
    assert_eq!(
        say(&latency(), &load, 6, 300),
        "7: 200.0 requests/s, 198.0 to provide for as now, 20.0 ms each: 6 keep 99 of 100 within 50 ms; 7 work off 300 that wait"
    );
    assert_eq!(
        say(&spec(Target::P99Ms(10.0)), &load, 6, 0),
        "8: 200.0 requests/s, 200.0 to provide for as now, 20.0 ms each: the model alone takes longer than 10 ms, more replicas do not help"
    );
    let idle = Spec { min_replicas: 0, ..latency() };
    let mut memory = Memory::default();
    let nothing = windows(&[0; 100], 20.0, 1);
    let mut last = String::new();
    for length in 1..=nothing.len() {
        let (decision, next) = decide(Policy::Berth, &idle, &seen(&nothing[..length], 1, 1000), memory);
        (memory, last) = (next, format!("{}: {}", decision.replicas, decision.reason));
    }
    assert_eq!(last, "0: no request for 60 s");
}

#[test]
fn berth_goes_with_a_slope_before_the_load_is_there() {
    // 2 requests/s more each second, replicas of 20 requests/s that take half a minute to start.
    let ramp: Vec<u32> = (0..120).map(|second| 40 + 2 * second).collect();
    let all = windows(&ramp, 50.0, 20);
    let (mut memory, mut last) = (Memory::default(), None);
    for length in 1..=all.len() {
        let from = length.saturating_sub(60);
        let (decision, next) = decide(
            Policy::Berth,
            &Spec { max_replicas: 60, ..spec(Target::Concurrency(1.0)) },
            &seen(&all[from..length], 20, 30_000),
            memory,
        );
        (memory, last) = (next, Some(decision));
    }
    let last = last.unwrap();
    assert!(last.reason.contains("by the trend, in 31 s"), "{}", last.reason);
    // 278 now, 340 when they will have started: 17 of 20 requests/s each.
    assert!((17..=19).contains(&last.replicas), "{last:?}");
}

#[test]
fn a_forecast_that_was_wrong_is_not_believed() {
    // A saw whose teeth are as long as a start: the slope always promises what does not come.
    let saw: Vec<u32> = (0..400).map(|second| 40 + 4 * (second % 30)).collect();
    let all = windows(&saw, 50.0, 20);
    let mut memory = Memory::default();
    for length in 1..=all.len() {
        let from = length.saturating_sub(60);
        let (decision, next) =
            decide(Policy::Berth, &spec(Target::Concurrency(1.0)), &seen(&all[from..length], 20, 15_000), memory);
        memory = next;
        assert!(length < 100 || decision.reason.contains("as now"), "{length}: {}", decision.reason);
    }
}

#[test]
fn berth_knows_a_day_ahead_on_the_second_day() {
    // Office hours begin at once, at nine. A replica takes five minutes to start.
    let rate = |second: u64| if (32_400..64_800).contains(&(second % 86_400)) { 200 } else { 20 };
    let spec = spec(Target::Concurrency(1.0));
    let (mut memory, mut all, mut before) = (Memory::default(), Vec::new(), Vec::new());
    for second in 0..(86_400 + 32_400) {
        all.push(window(second, rate(second), 50.0, 20));
        if all.len() > 60 {
            all.remove(0);
        }
        let (decision, next) = decide(Policy::Berth, &spec, &seen(&all, 1, 300_000), memory);
        memory = next;
        if second == 32_400 - 200 || second == 86_400 + 32_400 - 200 {
            before.push(decision);
        }
    }
    let [first, second] = before.as_slice() else { panic!("{before:?}") };
    assert!(first.reason.contains("as now"), "{}", first.reason);
    assert!(second.reason.contains("as on earlier days"), "{}", second.reason);
    assert!(second.replicas > 2 * first.replicas, "{first:?} {second:?}");
}
