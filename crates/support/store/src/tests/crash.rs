//! A push that fails or dies at any step leaves a whole bundle or none.

use std::{env, io, process::Command};

use super::*;
use crate::step::{self, STEPS};

const DIE_AT: &str = "BERTH_STORE_DIE_AT";
const DIE_IN: &str = "BERTH_STORE_DIE_IN";

/// Steps of a push of [`Bench::bundle`]: more than these there are not.
const STEPS_MAX: usize = 64;

#[test]
fn a_full_disk_at_any_step_leaves_nothing() {
    for failing in STEPS {
        let bench = Bench::new();
        let source = bench.bundle();
        step::set(Some(Box::new(
            move |step| {
                if step == failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            },
        )));
        let error = bench.store.push(&source).unwrap_err();
        step::set(None);
        assert!(matches!(error, StoreError::NoRoom { .. }), "{failing:?}: {error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        assert!(bench.left_over().is_empty(), "{failing:?}");
        // Only the last step comes after the bundle has its place: then it is whole.
        for digest in bench.store.list().unwrap() {
            assert_eq!(failing, step::Step::Placed);
            bench.store.verify(&digest).unwrap();
        }
        let pushed = bench.store.push(&source).unwrap();
        bench.store.verify(&pushed.digest).unwrap();
    }
}

/// Runs only as the child of the next test, which gives it a store and a step to die at.
#[test]
fn child_that_dies() {
    let (Ok(at), Some(directory)) = (env::var(DIE_AT), env::var_os(DIE_IN)) else { return };
    let mut left: usize = at.parse().unwrap();
    step::set(Some(Box::new(move |_| {
        if left == 0 {
            // As `kill -9`: nothing is dropped, nothing is flushed.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        left -= 1;
        Ok(())
    })));
    let directory = PathBuf::from(directory);
    let store = Store::open(&directory.join("store")).unwrap();
    store.push(&directory.join("b")).unwrap();
}

#[test]
fn a_kill_at_any_step_leaves_all_or_nothing() {
    let mut outcomes = BTreeSet::new();
    for at in 0..STEPS_MAX {
        let bench = Bench::new();
        let source = bench.bundle();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child_that_dies"])
            .env(DIE_AT, at.to_string())
            .env(DIE_IN, bench.directory.path())
            .output()
            .unwrap();
        let survived = child.status.success();
        let store = Store::open(&bench.root()).unwrap();
        assert!(bench.left_over().is_empty(), "step {at}");
        let digests = store.list().unwrap();
        for digest in &digests {
            store.verify(digest).unwrap();
        }
        outcomes.insert((survived, digests.len()));
        let pushed = store.push(&source).unwrap();
        store.verify(&pushed.digest).unwrap();
        assert_eq!(store.list().unwrap(), [pushed.digest]);
        store.collect(&BTreeSet::new(), Duration::ZERO).unwrap();
        assert!(files_below(&bench.root().join("blobs/sha256")).is_empty(), "step {at}");
        if survived {
            // Killed with nothing there, killed with all of it there, and not killed.
            assert_eq!(outcomes, BTreeSet::from([(false, 0), (false, 1), (true, 1)]));
            return;
        }
    }
    panic!("a push has more than {STEPS_MAX} steps");
}
