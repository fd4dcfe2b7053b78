//! Tests of who is ejected, for how long, and of the way back.

use proptest::prelude::*;

use super::*;

fn failing(in_a_row: u32) -> Standing {
    Standing { in_a_row, ..Standing::default() }
}

fn answered(answered: u32, failed: u32) -> Standing {
    Standing { answered, failed, ..Standing::default() }
}

fn slow(ms: f64) -> Standing {
    Standing { samples: SAMPLES_MIN, latency_us: ms * 1000.0, ..Standing::default() }
}

fn out(seconds: u64) -> Standing {
    Standing { out: Duration::from_secs(seconds), ejections: 1, ..Standing::default() }
}

fn ejected(replicas: &[Standing]) -> Vec<usize> {
    judge(replicas).eject.iter().map(|ejection| ejection.at).collect()
}

#[test]
fn what_answers_say_of_their_replica() {
    for (protocol, status, grpc, wanted) in [
        (Protocol::Rest, 200, None, Some(Told::Fine)),
        (Protocol::Rest, 404, None, Some(Told::Fine)),
        (Protocol::Rest, 429, None, Some(Told::Fine)),
        (Protocol::Rest, 500, None, Some(Told::Fault)),
        (Protocol::Rest, 502, None, Some(Told::Fault)),
        (Protocol::Rest, 503, None, None),
        (Protocol::Rest, 504, None, None),
        (Protocol::Grpc, 200, None, Some(Told::Fine)),
        (Protocol::Grpc, 200, Some(3), Some(Told::Fine)),
        (Protocol::Grpc, 200, Some(13), Some(Told::Fault)),
        (Protocol::Grpc, 200, Some(14), None),
        (Protocol::Grpc, 500, None, Some(Told::Fault)),
    ] {
        assert_eq!(told(protocol, status, grpc), wanted, "{status} {grpc:?}");
    }
}

#[test]
fn failures_in_a_row_unless_all_fail_or_it_is_alone() {
    assert_eq!(ejected(&[failing(5), failing(4)]), [0]);
    assert!(ejected(&[failing(4), failing(0)]).is_empty());
    assert!(ejected(&[failing(9)]).is_empty());
    assert!(ejected(&[failing(9), failing(5)]).is_empty());
    // Of three one may go, the worst first; of four two.
    assert_eq!(ejected(&[failing(6), failing(9), failing(0)]), [1]);
    assert_eq!(ejected(&[failing(6), failing(9), failing(0), failing(7)]), [1, 3]);
}

#[test]
fn a_share_of_errors_that_stands_out() {
    assert_eq!(ejected(&[answered(50, 25), answered(50, 1), answered(50, 2)]), [0]);
    // Too few answers, too few errors, siblings that fail as well.
    assert!(ejected(&[answered(19, 19), answered(50, 1)]).is_empty());
    assert!(ejected(&[answered(50, 9), answered(50, 0)]).is_empty());
    assert!(ejected(&[answered(50, 25), answered(50, 10)]).is_empty());
    let told = judge(&[answered(50, 25), answered(40, 1), answered(60, 2)]).eject[0].why.to_string();
    assert_eq!(told, "25 of 50 answers failed, 3 of 100 of its siblings'");
}

#[test]
fn a_latency_of_several_times_the_median() {
    assert_eq!(ejected(&[slow(40.0), slow(9.0), slow(10.0), slow(8.0)]), [0]);
    assert!(ejected(&[slow(39.0), slow(9.0), slow(10.0), slow(10.0)]).is_empty());
    // Two siblings make no median, and what a pause of the machine takes is no reason.
    assert!(ejected(&[slow(400.0), slow(9.0), slow(10.0)]).is_empty());
    assert!(ejected(&[slow(4.0), slow(0.1), slow(0.1), slow(0.1)]).is_empty());
    let few = Standing { samples: SAMPLES_MIN - 1, ..slow(400.0) };
    assert!(ejected(&[few, slow(9.0), slow(10.0), slow(8.0)]).is_empty());
    let why = judge(&[slow(40.0), slow(9.0), slow(10.0), slow(8.0)]).eject[0].why;
    assert_eq!(why.to_string(), "its answers begin after 40.0 ms, its siblings' after 9.0 ms");
}

#[test]
fn each_further_time_is_longer_until_it_is_forgiven() {
    let time = |ejections, back| {
        let one = Standing { ejections, back: Duration::from_secs(back), ..failing(5) };
        judge(&[one, failing(0)]).eject[0].time.as_secs()
    };
    assert_eq!([time(0, 1000), time(1, 10), time(2, 10), time(50, 10), time(50, 300)], [30, 60, 90, 300, 30]);
}

#[test]
fn those_that_are_out_count_against_the_half() {
    assert!(ejected(&[out(10), failing(9), failing(0)]).is_empty());
    assert_eq!(ejected(&[out(10), failing(9), failing(0), failing(0)]), [1]);
    // Siblings have gone: those whose time is nearly over come back.
    let verdict = judge(&[out(10), out(5), failing(0)]);
    assert_eq!((verdict.readmit, verdict.eject), (vec![1], vec![]));
    assert_eq!(judge(&[out(10)]).readmit, [0]);
}

#[test]
fn the_way_back_is_a_ramp() {
    assert_eq!((ramp(Duration::ZERO), ramp(RAMP / 2), ramp(RAMP), ramp(RAMP * 9)), (100, 550, 1000, 1000));
    let meter = Meter::default();
    assert!(meter.takes(0, || 999));
    meter.eject(0, &Ejection { at: 0, why: Why::InARow(5), ejections: 1, time: OUT_BASE });
    assert!(!meter.takes(29_999, || 0) && meter.is_out(29_999));
    assert!(meter.takes(30_000, || 99) && !meter.takes(30_000, || 100));
    assert!(meter.takes(45_000, || 549) && !meter.takes(45_000, || 550));
    assert!(meter.takes(60_000, || 999));
    assert!(meter.has_returned(60_000) && !meter.has_returned(60_000));
}

#[test]
fn a_meter_counts_windows_rows_and_a_mean() {
    let meter = Meter::default();
    for _ in 0..100 {
        assert!(!meter.note(Told::Fine, Some(Duration::from_millis(10))));
    }
    let rows: Vec<bool> = (0..6).map(|_| meter.note(Told::Fault, Some(Duration::from_secs(9)))).collect();
    assert_eq!(rows, [false, false, false, false, true, true]);
    let seen = meter.standing(0);
    assert_eq!((seen.answered, seen.failed, seen.in_a_row, seen.samples), (106, 6, 6, SAMPLES_MIN));
    assert!((seen.latency_us - 10_000.0).abs() < 1.0, "{seen:?}");
    // One that took long, or whose time was the client's, says little.
    meter.note(Told::Fine, Some(Duration::from_secs(10)));
    meter.note(Told::Fine, None);
    let latency_us = meter.standing(0).latency_us;
    assert!((10_000.0..20_000.0).contains(&latency_us), "{latency_us}");
    meter.turn();
    assert!(!meter.note(Told::Fine, Some(Duration::from_millis(10))));
    let seen = meter.standing(0);
    assert_eq!((seen.answered, seen.failed, seen.in_a_row), (109, 6, 0));
    meter.turn();
    meter.turn();
    assert_eq!(meter.standing(0).answered, 0);
}

fn standing() -> impl Strategy<Value = Standing> {
    let numbers = (0u32..9, 0u32..100, 0u32..100, 0u32..40, 0.0f64..1e6);
    (numbers, prop_oneof![Just(0u64), 0u64..400], 0u32..20, 0u64..1000).prop_map(|(numbers, out, ejections, back)| {
        let (in_a_row, answered, failed, samples, latency_us) = numbers;
        let (out, back) = (Duration::from_secs(out), Duration::from_secs(back));
        Standing { out, ejections, back, in_a_row, answered, failed: failed.min(answered), samples, latency_us }
    })
}

proptest! {
    #[test]
    fn at_most_half_are_out_and_all_come_back(replicas in proptest::collection::vec(standing(), 0..12)) {
        let verdict = judge(&replicas);
        let out = |at: &usize| replicas[*at].is_out();
        let before = (0..replicas.len()).filter(out).count();
        prop_assert!(before - verdict.readmit.len() + verdict.eject.len() <= replicas.len() / 2);
        prop_assert!(verdict.readmit.iter().all(out));
        for ejection in &verdict.eject {
            prop_assert!(!out(&ejection.at) && ejection.time >= OUT_BASE && ejection.time <= OUT_MAX);
        }
    }

    /// Whatever replicas answer, none is out for longer than the longest time, and one of several always serves.
    #[test]
    fn no_history_takes_all_of_them_or_one_for_ever(
        steps in proptest::collection::vec((0usize..4, 0u8..4, 0u64..60_000), 1..200),
    ) {
        let meters: Vec<Meter> = std::iter::repeat_with(Meter::default).take(4).collect();
        let (mut now_ms, mut since) = (1_u64, [0_u64; 4]);
        for (at, what, ms) in steps {
            now_ms += ms;
            let (told, took) = if what == 0 { (Told::Fine, 1) } else { (Told::Fault, 50) };
            for _ in 0..10 {
                meters[at].note(told, Some(Duration::from_millis(took)));
            }
            let standings: Vec<Standing> = meters.iter().map(|meter| meter.standing(now_ms)).collect();
            for ejection in judge(&standings).eject {
                meters[ejection.at].eject(now_ms, &ejection);
                since[ejection.at] = now_ms;
            }
            let out: Vec<usize> = (0..4).filter(|at| meters[*at].is_out(now_ms)).collect();
            prop_assert!(out.len() <= 2);
            prop_assert!(out.iter().all(|at| now_ms - since[*at] < 300_000));
        }
    }
}
