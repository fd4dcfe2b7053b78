//! The decision, by example and for any queue.

use proptest::{collection::vec, option, prelude::*};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn policy(rows_max: usize, latency_max: Duration) -> Policy {
    Policy { rows_max, bytes_max: 1000, requests_max: usize::MAX, latency_max }
}

/// Entries of `(group, rows)` that came at `now`, a byte for each row.
fn entries<'a>(now: Instant, all: &'a [(Option<u8>, usize)]) -> Vec<(usize, Entry<'a, u8>)> {
    let entry = |(group, rows): &'a (Option<u8>, usize)| Entry {
        group: group.as_ref(),
        rows: *rows,
        bytes: *rows,
        arrived: now,
        deadline: None,
    };
    all.iter().map(entry).enumerate().collect()
}

fn decided(policy: &Policy, all: &[(Option<u8>, usize)]) -> Vec<usize> {
    let now = Instant::now();
    match decide(policy, entries(now, all), now) {
        Some(Decision::Run(members)) => members,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_waits_and_a_lone_request_runs_at_once() {
    let now = Instant::now();
    assert_eq!(decide::<u8>(&Policy::default(), [], now), None);
    assert_eq!(decided(&Policy::default(), &[(Some(1), 1)]), [0]);
}

#[test]
fn the_oldest_takes_its_group_along_in_order_until_one_does_not_fit() {
    let policy = policy(8, Duration::ZERO);
    assert_eq!(decided(&policy, &[(Some(1), 1), (Some(2), 1), (Some(1), 2), (None, 1), (Some(1), 5)]), [0, 2, 4]);
    // The one that does not fit is not overtaken by its own group.
    assert_eq!(decided(&policy, &[(Some(1), 4), (Some(1), 5), (Some(1), 1)]), [0]);
    assert_eq!(decided(&policy, &[(Some(1), 99), (Some(1), 1)]), [0]);
    assert_eq!(decided(&policy, &[(None, 1), (None, 1), (Some(1), 1)]), [0]);
    assert_eq!(decided(&Policy::OFF, &[(Some(1), 1), (Some(1), 1)]), [0]);
    let small = Policy { bytes_max: 3, ..policy };
    assert_eq!(decided(&small, &[(Some(1), 2), (Some(1), 1), (Some(1), 1)]), [0, 1]);
}

#[test]
fn it_waits_for_company_only_if_told_and_only_at_nobodys_expense() {
    let now = Instant::now();
    let policy = policy(4, 10 * MS);
    let lone = entries(now, &[(Some(1), 1)]);
    assert_eq!(decide(&policy, lone.clone(), now), Some(Decision::WaitUntil(now + 10 * MS)));
    assert_eq!(decide(&policy, lone.clone(), now + 10 * MS), Some(Decision::Run(vec![0])));
    let full = entries(now, &[(Some(1), 1), (Some(1), 3)]);
    assert_eq!(decide(&policy, full, now), Some(Decision::Run(vec![0, 1])));
    let too_many = entries(now, &[(Some(1), 2), (Some(1), 3)]);
    assert_eq!(decide(&policy, too_many, now), Some(Decision::Run(vec![0])));
    let stranger = entries(now, &[(Some(1), 1), (Some(2), 1)]);
    assert_eq!(decide(&policy, stranger, now), Some(Decision::Run(vec![0])));
    let (_, entry) = lone[0];
    let until = |deadline| decide(&policy, [(0, Entry { deadline: Some(deadline), ..entry })], now);
    assert_eq!(until(now + 10 * MS), Some(Decision::Run(vec![0])));
    assert_eq!(until(now + 11 * MS), Some(Decision::WaitUntil(now + 10 * MS)));
}

proptest! {
    #[test]
    fn a_decision_is_within_its_bounds_and_begins_with_the_oldest(
        queue in vec((option::of(0..3_u8), 1..6_usize, option::of(0..30_u64)), 1..40),
        (rows_max, bytes_max, latency_ms) in (0..20_usize, 1..20_usize, 0..20_u64),
        now_ms in 0..30_u64,
        requests_max in 0..10_usize,
    ) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let policy = Policy { rows_max, bytes_max, requests_max, latency_max: Duration::from_millis(latency_ms) };
        let waiting: Vec<_> = queue.iter().map(|(group, rows, deadline)| Entry {
            group: group.as_ref(), rows: *rows, bytes: *rows, arrived: start, deadline: deadline.map(at),
        }).collect();
        match decide(&policy, waiting.iter().copied().enumerate(), at(now_ms)).unwrap() {
            Decision::Run(members) => {
                prop_assert_eq!(members[0], 0);
                prop_assert!(members.is_sorted_by(|a, b| a < b));
                let rows: usize = members.iter().map(|at| waiting[*at].rows).sum();
                prop_assert!(members.len() == 1 || rows <= rows_max.min(bytes_max) && members.len() <= requests_max);
                prop_assert!(members.iter().all(|at| waiting[*at].group == waiting[0].group));
                prop_assert!(members.len() == 1 || waiting[0].group.is_some());
                // Nobody of the group was passed over.
                let last = *members.last().unwrap();
                let passed = waiting[..last].iter().enumerate();
                let group = waiting[0].group;
                prop_assert!(passed.filter(|(_, entry)| group.is_some() && entry.group == group)
                    .all(|(at, _)| members.contains(&at)));
            }
            Decision::WaitUntil(until) => {
                prop_assert!(until > at(now_ms) && until == at(latency_ms));
                prop_assert!(waiting.iter().all(|entry| entry.group == waiting[0].group));
                prop_assert!(waiting.iter().all(|entry| entry.deadline.is_none_or(|deadline| deadline > until)));
                prop_assert!(waiting.iter().map(|entry| entry.rows).sum::<usize>() < rows_max);
            }
        }
    }
}
