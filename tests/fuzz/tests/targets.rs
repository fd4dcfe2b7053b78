//! Every target takes its seeds, each for what it is, and some thousand changed ones.

use fuzz::{
    TARGETS,
    mutate::{Source, changed},
};

/// Changed inputs for each target: seconds of a build without optimisation.
const CHANGED: usize = 1500;

#[test]
fn every_target_takes_its_seeds() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}

#[test]
fn every_target_takes_changed_seeds() {
    for (number, target) in TARGETS.iter().enumerate() {
        let seeds = (target.seeds)();
        let mut source = Source::new(number as u64);
        for _ in 0..CHANGED {
            (target.run)(&changed(&seeds, &mut source));
        }
    }
}

#[test]
fn changes_are_the_same_each_time() {
    let seeds = (TARGETS[0].seeds)();
    let made = |seed| changed(&seeds, &mut Source::new(seed));
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
