//! Formats, parts and the arrivals that come of them.

use super::*;

#[test]
fn requests_of_steps() {
    let trace = Trace::parse("0,100\n6,120\n12,0\n").unwrap();
    assert_eq!(trace.seconds(), 18.0);
    assert_eq!(trace.requests(), 220.0);
    assert_eq!(trace.steps[1], Step { from_s: 6.0, rate: 20.0 });
    let trace = Trace::parse("seconds,requests\n# a remark\n0,100\n\n6,120\n").unwrap();
    assert_eq!(trace.requests(), 220.0);
}

#[test]
fn rates_and_arrivals() {
    let trace = Trace::parse("seconds,rps\n0,10\n60,20\n").unwrap();
    assert_eq!((trace.seconds(), trace.requests()), (120.0, 1800.0));
    let trace = Trace::parse(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-29 23:59:59.5000000,4808,10\n2024-03-01 00:00:01.25,7,1\n",
    )
    .unwrap();
    assert_eq!(trace.arrivals, [0.0, 1.75]);
    assert_eq!(Trace::parse("1.5\n2.5\n").unwrap().arrivals, [0.0, 1.0]);
    assert_eq!(
        Trace::parse("at\n2026-01-01T00:00:00Z\n2027-01-01T00:00:00Z\n").unwrap().seconds(),
        365.0 * 86_400.0 + 1.0
    );
}

#[test]
fn what_is_no_trace_is_said_with_its_line() {
    let says = |text: &str| Trace::parse(text).unwrap_err().to_string();
    assert!(says("").contains("no rows"));
    assert!(says("seconds,requests\n").contains("no rows"));
    assert_eq!(says("0,1\n6,many\n"), "line 2: `many` is no number of requests: write a number from 0");
    assert_eq!(says("0,1\n6,-1\n"), "line 2: `-1` is no number of requests: write a number from 0");
    assert_eq!(says("6,1\n0,1\n"), "line 2: it is before the row above: sort by time");
    assert_eq!(says("h\n1\nx\n"), "line 3: `x` is no time: write seconds, or a date and time");
    assert!(says("0,1\n1e9,1\n").contains("longer than a year"));
}

#[test]
fn parts_repetitions_and_multiples() {
    let trace = Trace::parse("0,100\n10,200\n20,300\n").unwrap();
    let part = trace.between(5.0, 25.0);
    assert_eq!((part.seconds(), part.requests()), (20.0, 50.0 + 200.0 + 150.0));
    let twice = part.repeated(2);
    assert_eq!((twice.seconds(), twice.requests()), (40.0, 800.0));
    assert_eq!(trace.scaled(1.5, 1.0).requests(), 900.0);
    let arrivals = Trace::parse("0\n1\n1.5\n9\n30\n").unwrap();
    let scaled = arrivals.scaled(10.0, 10.0);
    let rates: Vec<f64> = scaled.steps.iter().map(|step| step.rate).collect();
    assert_eq!(rates, [4.0, 0.0, 0.0, 10.0]);
    assert_eq!(arrivals.between(1.0, 9.0).arrivals, [0.0, 0.5]);
}

#[test]
fn arrivals_are_in_order_and_as_many_as_the_rates_say() {
    let trace = Trace::parse("seconds,rate\n0,50\n100,0\n200,150\n300,0\n").unwrap();
    let all: Vec<f64> = Arrivals::new(&trace, Random::new(3, 1)).collect();
    assert!(all.is_sorted());
    let within = |from: f64, to: f64| all.iter().filter(|at| (from * 1e3..to * 1e3).contains(*at)).count();
    assert!((4_700..5_300).contains(&within(0.0, 100.0)), "{}", within(0.0, 100.0));
    assert_eq!(within(100.0, 200.0), 0);
    assert!((14_500..15_500).contains(&within(200.0, 300.0)));
    assert_eq!(within(300.0, 500.0), 0);
}
