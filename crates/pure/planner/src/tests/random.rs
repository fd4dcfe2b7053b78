//! Random histories: no plan breaks an invariant, and when the world calms down, everything wanted runs.

use proptest::prelude::*;
use resources::{
    id::ReplicaId,
    rollout::{Analysis, Rollout, Step, Wish},
};

use super::world::World;
use crate::{
    ObservedReplica, Phase,
    judge::{RolloutState, Verdict},
    traffic::wanted_percent,
};

#[derive(Clone, Debug)]
enum Event {
    Pass(u32),
    Deploy(u8, u32),
    Delete(u8),
    Canary(u8, Option<u32>),
    Rollout(u8, bool),
    Wish(u8, Option<Wish>),
    Window(u8, u32),
    Shadow(u8, Option<u32>),
    Scale(u8, u32),
    Ready(usize),
    Exit(usize),
    Gone(usize),
    Silent(usize),
    Stuck(usize),
    Relapse(u8),
    Pressure(u64),
    Priority(u8, i32),
    Acknowledge,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u32..90_000).prop_map(Event::Pass),
        4 => (0_u32..400).prop_map(Event::Pass),
        2 => (0_u8..3, 1_u32..5).prop_map(|(name, count)| Event::Deploy(name, count)),
        1 => (0_u8..3).prop_map(Event::Delete),
        3 => (0_u8..3, 0_u32..6).prop_map(|(name, replicas)| Event::Scale(name, replicas)),
        2 => (0_u8..3, proptest::option::of(0_u32..=100)).prop_map(|(name, percent)| Event::Canary(name, percent)),
        2 => (0_u8..3, any::<bool>()).prop_map(|(name, by_steps)| Event::Rollout(name, by_steps)),
        1 => (0_u8..3, wish()).prop_map(|(name, wish)| Event::Wish(name, wish)),
        3 => (0_u8..3, 0_u32..40).prop_map(|(name, errors)| Event::Window(name, errors)),
        1 => (0_u8..3, proptest::option::of(1_u32..=100)).prop_map(|(name, percent)| Event::Shadow(name, percent)),
        6 => any::<usize>().prop_map(Event::Ready),
        3 => any::<usize>().prop_map(Event::Exit),
        3 => any::<usize>().prop_map(Event::Gone),
        1 => any::<usize>().prop_map(Event::Silent),
        1 => any::<usize>().prop_map(Event::Stuck),
        3 => (0_u8..3).prop_map(Event::Relapse),
        3 => (0_u64..20).prop_map(Event::Pressure),
        2 => (0_u8..3, -1_i32..=1).prop_map(|(name, priority)| Event::Priority(name, priority)),
        3 => Just(Event::Acknowledge),
    ]
}

fn wish() -> impl Strategy<Value = Option<Wish>> {
    prop_oneof![Just(None), Just(Some(Wish::Pause)), Just(Some(Wish::Abort)), Just(Some(Wish::Promote))]
}

fn by_steps() -> Rollout {
    let steps = [5, 50].map(|percent| Step { percent, min_seconds: Some(0) }).to_vec();
    let analysis = Analysis { min_requests: Some(20), ..Analysis::default() };
    Rollout { steps, analysis: Some(analysis), ..Rollout::default() }
}

fn pick(world: &World, at: usize, fits: fn(&ObservedReplica) -> bool) -> Option<ReplicaId> {
    let fitting: Vec<_> = world.input.replicas.iter().filter(|replica| fits(replica)).collect();
    (!fitting.is_empty()).then(|| fitting[at % fitting.len()].id.clone())
}

/// A second in which every revision that there may be answers, and the newest one fails at times.
fn second(world: &mut World, name: &str, errors: u32) {
    let newest = world.input.services.iter().find(|service| service.name.as_str() == name);
    if let Some(newest) = newest.and_then(|service| service.revisions.last()).map(|newest| newest.revision.0) {
        let mut counted: Vec<_> = (1..newest).map(|revision| (revision, 100, 0, 5.0)).collect();
        counted.push((newest, 40, errors.saturating_sub(20), 5.0));
        world.window(name, &counted);
    }
}

/// The newest revision takes over where nothing is in its way, and then none of its replicas stays.
fn relapse(world: &mut World, name: &str) {
    for ready in [true, false, false, false] {
        for service in world.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
            (service.canary_percent, service.shadow_percent) = (None, None);
            service.rollout = (!ready).then(by_steps);
        }
        let newest = world.input.services.iter().find(|service| service.name.as_str() == name);
        let Some(newest) = newest.and_then(|service| service.revisions.last()).map(|newest| newest.revision) else {
            return;
        };
        let mine = |replica: &&ObservedReplica| replica.service.as_str() == name && replica.revision == newest;
        let active: Vec<_> = world.input.replicas.iter().filter(mine).filter(|replica| replica.is_active()).collect();
        for id in active.into_iter().map(|replica| replica.id.0.clone()).collect::<Vec<_>>() {
            if ready { world.ready(&id) } else { world.exit(&id, "signal 11", "") }
        }
        world.pass();
        world.input.now_ms += 1_000;
    }
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Pass(ms) => {
            world.input.now_ms += u64::from(*ms);
            world.pass();
        }
        Event::Deploy(name, count) => {
            let name = format!("s{name}");
            if !world.input.services.iter().any(|service| service.deleting && service.name.as_str() == name) {
                world.deploy(&name, *count);
            }
        }
        Event::Delete(name) => {
            let name = format!("s{name}");
            for service in world.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
                service.deleting = true;
            }
        }
        Event::Canary(name, percent) => world.canary(&format!("s{name}"), *percent),
        Event::Rollout(name, steps) => {
            let name = format!("s{name}");
            for service in world.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
                // The API refuses one beside the other.
                service.shadow_percent = service.shadow_percent.filter(|_| !steps);
                service.rollout = steps.then(by_steps);
            }
        }
        Event::Wish(name, wish) => {
            let name = format!("s{name}");
            for service in world.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
                service.revisions.last_mut().unwrap().wish = *wish;
            }
        }
        Event::Window(name, errors) => second(world, &format!("s{name}"), *errors),
        Event::Shadow(name, percent) => world.shadow(&format!("s{name}"), *percent),
        Event::Scale(name, replicas) => {
            let name = format!("s{name}");
            world.bounds(&name, 0, 6);
            world.scale(&name, *replicas, "the load is what it is");
        }
        Event::Pressure(percent) => world.pressure(*percent),
        Event::Priority(name, priority) => {
            let name = format!("s{name}");
            for service in world.input.services.iter_mut().filter(|service| service.name.as_str() == name) {
                service.priority = *priority;
            }
        }
        Event::Relapse(name) => relapse(world, &format!("s{name}")),
        Event::Acknowledge => world.input.gateway_acknowledged = world.generation,
        seen => happen_to_one(world, seen),
    }
}

/// What happens to one replica.
fn happen_to_one(world: &mut World, event: &Event) {
    let starting = |replica: &ObservedReplica| matches!(replica.phase, Phase::Starting { .. });
    let ending = |replica: &ObservedReplica| matches!(replica.phase, Phase::Stopping { .. });
    match event {
        Event::Ready(at) => {
            if let Some(id) = pick(world, *at, starting) {
                world.ready(&id.0);
            }
        }
        Event::Exit(at) => {
            if let Some(id) = pick(world, *at, ObservedReplica::is_alive) {
                world.exit(&id.0, "signal 9", "");
            }
        }
        Event::Gone(at) => {
            if let Some(id) = pick(world, *at, ending) {
                world.exit(&id.0, "exit code 0", "");
            }
        }
        Event::Silent(at) => {
            let now_ms = world.input.now_ms;
            if let Some(id) = pick(world, *at, ObservedReplica::is_ready) {
                world.replica(&id.0).silent_since_ms = Some(now_ms);
            }
        }
        Event::Stuck(at) => {
            if let Some(id) = pick(world, *at, ObservedReplica::is_ready) {
                world.replica(&id.0).busy_ms = u64::MAX;
            }
        }
        other => panic!("{other:?} is of more than one replica"),
    }
}

fn is_back(state: Option<&RolloutState>) -> bool {
    matches!(state.and_then(|state| state.verdict.as_ref()), Some(Verdict::RolledBack { .. }))
}

/// From here on all that starts becomes ready, all that is asked to stop does, and the gateway follows.
fn calm_down(world: &mut World) {
    for _ in 0..200 {
        let plan = world.pass();
        if plan.actions.is_empty() && plan.wake_at_ms.is_none() {
            return;
        }
        for replica in world.input.replicas.clone() {
            match replica.phase {
                Phase::Starting { .. } => world.ready(&replica.id.0),
                Phase::Stopping { .. } => world.exit(&replica.id.0, "exit code 0", ""),
                _ => {}
            }
        }
        world.input.gateway_acknowledged = world.generation;
        world.input.now_ms = plan.wake_at_ms.unwrap_or(0).max(world.input.now_ms + 1);
    }
    panic!("still busy: {:#?}", world.input);
}

proptest! {
    #[test]
    fn every_plan_keeps_the_invariants_and_the_world_converges(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::default();
        for event in &events {
            happen(&mut world, event);
        }
        for replica in &mut world.input.replicas {
            replica.silent_since_ms = None;
            replica.busy_ms = 0;
        }
        // Memory suffices again, for long enough.
        world.pressure(50);
        world.input.now_ms += 60_000;
        world.pressure(50);
        calm_down(&mut world);
        prop_assert_eq!(world.routes.len(), world.input.services.len());
        for service in &world.input.services {
            prop_assert!(!service.deleting);
            let newest = service.revisions.last().unwrap();
            let percent = wanted_percent(service, newest.rollout.as_ref(), newest.promoted);
            let back = percent == 0 && !newest.promoted && is_back(service.rollout.as_ref().and(newest.rollout.as_ref()));
            prop_assert_eq!(newest.completed, !back);
            let stable = service.revisions.iter().rev().skip(1).find(|desired| desired.promoted && percent < 100);
            prop_assert!(newest.promoted || stable.is_some());
            let running: Vec<_> =
                world.input.replicas.iter().filter(|replica| replica.service == service.name).collect();
            for desired in [Some(newest).filter(|_| !back), stable].into_iter().flatten() {
                prop_assert!(desired.completed);
                let mine = running.iter().filter(|replica| replica.revision == desired.revision).count();
                prop_assert_eq!(u32::try_from(mine).unwrap(), desired.replicas);
            }
            let wanted = if back { 0 } else { newest.replicas } + stable.map_or(0, |stable| stable.replicas);
            prop_assert_eq!(u32::try_from(running.len()).unwrap(), wanted);
            let route = world.routes.iter().find(|route| route.name == service.name).unwrap();
            if !back && newest.replicas > 0 && stable.is_none_or(|stable| stable.replicas > 0) {
                let share = if stable.is_some() { percent } else { 100 };
                prop_assert_eq!(route.split.first().map_or(100, |share| share.percent), share);
                let mirrored = service.shadow_percent.filter(|_| stable.is_some());
                prop_assert_eq!(route.shadow.map(|shadow| (shadow.revision, shadow.percent)), mirrored.map(|percent| (newest.revision, percent)));
                let most = stable.filter(|_| percent <= 50).map_or(newest.revision, |stable| stable.revision);
                prop_assert_eq!(route.default_revision, Some(most));
            }
            prop_assert_eq!(route.revisions.iter().map(|each| each.endpoints.len()).sum::<usize>(), running.len());
        }
    }
}
