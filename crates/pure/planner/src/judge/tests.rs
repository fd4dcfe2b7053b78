//! Rollouts in simulation: revisions that behave alike are seldom rolled back, harmful ones soon.

use resources::{
    digest::OutputCounts,
    histogram::Histogram,
    id::Revision,
    rollout::{Analysis, Rollout, RolloutPhase, Step, Wish},
    window::{RevisionWindow, WINDOW_MS},
};

use super::{Case, JudgeWindow, Judgement, OutputWindow, RolloutState, TESTS, Verdict, findings, judge};
use crate::simulate::random::Random;

const STABLE: Revision = Revision(1);
const CANARY: Revision = Revision(2);

/// How one revision answers in a second.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
    errors: f64,
    /// Median time, milliseconds, and how widely times are spread.
    median_ms: f64,
    spread: f64,
    /// Factor on the time of the slowest requests, two in a hundred of all.
    tail: f64,
    /// Chances of the classes 0 and 1; the rest is class 2.
    classes: [f64; 2],
}

const GOOD: Behaviour = Behaviour { errors: 0.002, median_ms: 5.0, spread: 0.4, tail: 1.0, classes: [0.5, 0.3] };

/// Requests per second, and what both revisions do alike, as time goes by.
type Weather = fn(u64, &mut Random) -> (f64, Behaviour);

fn steady(_: u64, _: &mut Random) -> (f64, Behaviour) {
    (80.0, GOOD)
}

/// Bursts with errors and long waits for everybody.
fn bursts(second: u64, random: &mut Random) -> (f64, Behaviour) {
    if second % 20 < 3 {
        (200.0, Behaviour { errors: 0.3 * random.uniform(), median_ms: 40.0, ..GOOD })
    } else {
        (30.0, GOOD)
    }
}

/// A day in a few minutes: load, time and answers drift.
fn drift(second: u64, random: &mut Random) -> (f64, Behaviour) {
    let phase = (second as f64 / 90.0 * std::f64::consts::TAU).sin();
    let behaviour = Behaviour {
        errors: 0.02 + 0.015 * phase,
        median_ms: 8.0 + 5.0 * phase + random.uniform(),
        spread: 0.6,
        tail: 1.0,
        classes: [0.4 + 0.3 * phase, 0.2],
    };
    (60.0 + 40.0 * phase, behaviour)
}

/// Few requests: most seconds have none for the new revision.
fn trickle(_: u64, random: &mut Random) -> (f64, Behaviour) {
    (6.0 * random.uniform(), GOOD)
}

#[derive(Debug, Default)]
struct Tally {
    window: Option<RevisionWindow>,
    classes: [u64; 3],
}

impl Tally {
    fn add(&mut self, revision: Revision, how: &Behaviour, random: &mut Random) {
        let window = self.window.get_or_insert_with(|| RevisionWindow {
            revision,
            answered: 0,
            errors: 0,
            busy_ms: 0,
            latency: Histogram::default(),
            service: Histogram::default(),
        });
        window.answered += 1;
        window.errors += u32::from(random.uniform() < how.errors);
        let normal = random.normal();
        let tail = if normal > 2.05 { how.tail } else { 1.0 };
        window.service.record(how.median_ms * (how.spread * normal).exp() * tail);
        let drawn = random.uniform();
        let class = usize::from(drawn >= how.classes[0]) + usize::from(drawn >= how.classes[0] + how.classes[1]);
        self.classes[class] += 1;
    }

    fn outputs(&self, revision: Revision) -> OutputWindow {
        let counts = self.classes.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        OutputWindow { revision, outputs: vec![OutputCounts { output: "label".to_owned(), counts }] }
    }
}

/// Seconds until the rollout of one revision is decided, and the requests that the new revision answered.
struct Outcome {
    judgement: Judgement,
    /// Whether some evidence alone was ever enough, whatever was measured.
    convinced: bool,
    answered: u64,
}

fn rollout(steps: &[u32]) -> Rollout {
    let step = |percent: &u32| Step { percent: *percent, min_seconds: Some(5) };
    let analysis = Analysis { min_requests: Some(100), ..Analysis::default() };
    Rollout { steps: steps.iter().map(step).collect(), analysis: Some(analysis), ..Rollout::default() }
}

fn play(seed: u64, rollout: &Rollout, weather: Weather, change: fn(Behaviour) -> Behaviour, seconds: u64) -> Outcome {
    let (mut random, limits) = (Random::new(seed, 41), rollout.limits());
    let mut outcome = Outcome { judgement: judge(None, &case(rollout, 0, &[], &[])), convinced: false, answered: 0 };
    for second in 1..=seconds {
        let (rate, alike) = weather(second, &mut random);
        let percent = rollout.steps[super::step(&outcome.judgement.state, rollout)].percent;
        let [mut stable, mut canary] = [Tally::default(), Tally::default()];
        let (mut at, other) = (random.exponential() / rate, change(alike));
        while at < 1.0 {
            if random.uniform() * 100.0 < f64::from(percent) {
                canary.add(CANARY, &other, &mut random);
            } else {
                stable.add(STABLE, &alike, &mut random);
            }
            at += random.exponential() / rate;
        }
        outcome.answered += canary.classes.iter().sum::<u64>();
        let outputs = [stable.outputs(STABLE), canary.outputs(CANARY)];
        let end_ms = second * WINDOW_MS;
        let windows =
            [JudgeWindow { end_ms, revisions: [stable.window, canary.window].into_iter().flatten().collect() }];
        outcome.judgement = judge(Some(&outcome.judgement.state), &case(rollout, end_ms, &windows, &outputs));
        let found = findings(&outcome.judgement.state.evidence, &limits);
        outcome.convinced |= found.iter().any(|one| one.log_e >= (TESTS / limits.false_rollback_rate).ln());
        if outcome.judgement.state.verdict.is_some() {
            break;
        }
    }
    outcome
}

fn case<'a>(rollout: &'a Rollout, now_ms: u64, windows: &'a [JudgeWindow], outputs: &'a [OutputWindow]) -> Case<'a> {
    Case { now_ms, rollout, canary: CANARY, stable: STABLE, wish: None, trouble: None, windows, outputs }
}

fn rolled_back(outcome: &Outcome) -> bool {
    outcome.judgement.phase == RolloutPhase::RolledBack
}

#[test]
fn what_behaves_alike_is_rolled_back_no_more_often_than_said() {
    const RUNS: u64 = 100;
    let mut held = rollout(&[5]);
    held.auto_promote = Some(false);
    let same = |behaviour| behaviour;
    let (mut wrong, mut convinced, mut runs) = (0, 0, 0);
    for (number, weather) in [steady as Weather, bursts, drift, trickle].into_iter().enumerate() {
        for seed in 0..RUNS {
            let outcome = play(seed * 10 + number as u64, &held, weather, same, 150);
            wrong += u64::from(rolled_back(&outcome));
            convinced += u64::from(outcome.convinced);
            runs += 1;
        }
    }
    // Even without asking whether what was measured is harmful.
    assert!(convinced * 20 <= runs, "{convinced} of {runs}, {wrong} rolled back");
    let promoted = (0..RUNS).filter(|seed| {
        let outcome = play(*seed, &rollout(&[5, 25, 50]), drift, same, 600);
        matches!(outcome.judgement.state.verdict, Some(Verdict::Promoted { .. }))
    });
    assert!(promoted.count() >= 95);
}

#[test]
fn what_is_better_is_not_rolled_back() {
    let better = |alike: Behaviour| Behaviour { errors: 0.0, median_ms: alike.median_ms / 2.0, ..alike };
    for seed in 0..40 {
        let outcome = play(seed, &rollout(&[5, 50]), bursts, better, 300);
        assert!(matches!(outcome.judgement.state.verdict, Some(Verdict::Promoted { .. })), "{}", outcome.judgement.why);
    }
}

/// The requests that a bad revision answered until it was rolled back, in the middle and in nine of ten cases.
fn cost(change: fn(Behaviour) -> Behaviour, word: &str) -> (u64, u64) {
    let mut patient = rollout(&[5, 25, 50]);
    patient.analysis.as_mut().unwrap().min_requests = Some(300);
    let outcomes: Vec<Outcome> = (0..60).map(|seed| play(seed, &patient, steady, change, 600)).collect();
    let found = outcomes.iter().filter(|outcome| rolled_back(outcome)).count();
    assert!(found >= 58, "{found} of 60 found: {word}");
    let said = outcomes.iter().filter(|outcome| outcome.judgement.why.contains(word)).count();
    assert!(said >= 55, "{said} of 60 say {word}: {}", outcomes[0].judgement.why);
    let mut answered: Vec<u64> = outcomes.iter().map(|outcome| outcome.answered).collect();
    answered.sort_unstable();
    (answered[30], answered[54])
}

#[test]
fn harm_is_found_soon() {
    let costs = [
        cost(|alike| Behaviour { errors: 0.05, ..alike }, "failed"),
        cost(|alike| Behaviour { tail: 2.0, ..alike }, "99th percentile"),
        cost(|alike| Behaviour { median_ms: alike.median_ms * 2.0, ..alike }, "99th percentile"),
        cost(|alike| Behaviour { classes: [0.3, 0.3], ..alike }, "fall elsewhere"),
    ];
    let most = [(150, 300), (300, 500), (150, 250), (300, 600)];
    for (cost, most) in costs.iter().zip(most) {
        assert!(cost.0 <= most.0 && cost.1 <= most.1, "{costs:?}");
    }
}

#[test]
fn silence_promotes_nothing() {
    let mut short = rollout(&[5]);
    short.analysis.as_mut().unwrap().max_seconds = Some(10);
    let first = judge(None, &case(&short, 1_000, &[], &[]));
    assert_eq!(first.phase, RolloutPhase::Judging);
    let late = judge(Some(&first.state), &case(&short, 11_000, &[], &[]));
    assert_eq!(late.phase, RolloutPhase::Held);
    assert!(late.why.contains("100 more are needed, and 10 s are over"), "{}", late.why);
    assert_eq!(late.state.verdict, None);
}

#[test]
fn a_person_decides() {
    let steps = rollout(&[5]);
    let begun = judge(None, &case(&steps, 0, &[], &[])).state;
    let wish =
        |state: &RolloutState, wish| judge(Some(state), &Case { wish: Some(wish), ..case(&steps, 1_000, &[], &[]) });
    assert_eq!(wish(&begun, Wish::Pause).phase, RolloutPhase::Paused);
    let aborted = wish(&begun, Wish::Abort);
    assert_eq!((aborted.phase, &aborted.state.verdict), (RolloutPhase::Aborted, &Some(Verdict::Aborted)));
    let promoted = wish(&aborted.state, Wish::Promote);
    assert_eq!(promoted.phase, RolloutPhase::Promoted);
    assert_eq!(wish(&promoted.state, Wish::Promote).state, promoted.state);
    // One that is paused is rolled back all the same.
    let trouble = Case { wish: Some(Wish::Pause), trouble: Some("it crashes"), ..case(&steps, 1_000, &[], &[]) };
    assert_eq!(judge(Some(&begun), &trouble).phase, RolloutPhase::RolledBack);
}

#[test]
fn a_state_comes_back_from_json_and_no_window_counts_twice() {
    let steps = rollout(&[5, 50]);
    let outcome = play(3, &steps, steady, |alike| alike, 20);
    let state = outcome.judgement.state;
    let text = serde_json::to_string(&state).unwrap();
    let mut read: RolloutState = serde_json::from_str(&text).unwrap();
    // A number's last digit may be lost on the way.
    assert!((read.evidence.errors - state.evidence.errors).abs() < 1e-9);
    read.evidence.errors = state.evidence.errors;
    read.evidence.latency = state.evidence.latency;
    for (one, other) in read.evidence.outputs.iter_mut().zip(&state.evidence.outputs) {
        one.log_e = other.log_e;
    }
    assert_eq!((read.step, read.evidence.seen.canary.answered), (state.step, state.evidence.seen.canary.answered));
    assert_eq!(read.evidence.outputs, state.evidence.outputs);
    assert!(text.len() < 20_000, "{}", text.len());
    let window = RevisionWindow {
        revision: CANARY,
        answered: 50,
        errors: 50,
        busy_ms: 0,
        latency: Histogram::default(),
        service: Histogram::default(),
    };
    let old = [JudgeWindow { end_ms: state.until_ms, revisions: vec![window] }];
    assert_eq!(judge(Some(&state), &case(&steps, 20_000, &old, &[])).state.evidence, state.evidence);
}
