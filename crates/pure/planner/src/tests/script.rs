//! Plays a script: lines of events, and after each `plan` what the plan said.

use std::collections::BTreeMap;

use resources::{
    condition::ConditionKind,
    digest::OutputCounts,
    id::Revision,
    rollout::{Analysis, Rollout, Step, Wish},
    snapshot::RouteService,
};

use super::world::World;
use crate::{
    Action, Plan,
    judge::{OutputWindow, Verdict},
};

/// The script again, with what its plans say now after each `plan`.
pub(crate) fn play(text: &str) -> String {
    let mut player = Player::default();
    let mut played = String::new();
    for line in text.lines().filter(|line| !line.starts_with("> ")) {
        played.push_str(line);
        played.push('\n');
        for said in player.event(line) {
            played.push_str("> ");
            played.push_str(&said);
            played.push('\n');
        }
    }
    played
}

#[derive(Default)]
struct Player {
    world: World,
    routes: Vec<RouteService>,
    said: BTreeMap<(String, ConditionKind), String>,
}

impl Player {
    fn event(&mut self, line: &str) -> Vec<String> {
        let (head, tail) = line.split_once(": ").unwrap_or((line, ""));
        let words: Vec<&str> = head.split(' ').collect();
        let world = &mut self.world;
        match words.as_slice() {
            [""] | ["#", ..] => {}
            ["at", ms] => world.input.now_ms = ms.parse().unwrap(),
            ["deploy", name, "replicas", count] => world.deploy(name, count.parse().unwrap()),
            ["canary", name, "none"] => world.canary(name, None),
            ["canary", name, percent] => world.canary(name, Some(percent.parse().unwrap())),
            ["rollout", name, steps @ ..] => {
                let steps =
                    steps.iter().map(|percent| Step { percent: percent.parse().unwrap(), min_seconds: Some(2) });
                let analysis = Analysis { min_requests: Some(50), max_seconds: Some(60), ..Analysis::default() };
                let rollout = Rollout { steps: steps.collect(), analysis: Some(analysis), ..Rollout::default() };
                world.service(name).rollout = Some(rollout);
            }
            ["manual", name] => world.by_hand(name),
            ["wish", name, wish] => {
                let wish = match *wish {
                    "promote" => Some(Wish::Promote),
                    "abort" => Some(Wish::Abort),
                    "pause" => Some(Wish::Pause),
                    _ => None,
                };
                world.service(name).revisions.last_mut().unwrap().wish = wish;
            }
            ["window", name, counted @ ..] => {
                let numbers = |text: &&str| {
                    let parts: Vec<u32> = text.split(['=', '/']).map(|part| part.parse().unwrap()).collect();
                    (u64::from(parts[0]), parts[1], parts[2], f64::from(parts[3]))
                };
                world.window(name, &counted.iter().map(numbers).collect::<Vec<_>>());
            }
            ["answers", name, revision, counts @ ..] => {
                let counts = counts.iter().map(|text| text.split_once('=').unwrap());
                let counts = counts.map(|(at, count)| (at.parse().unwrap(), count.parse().unwrap())).collect();
                let outputs = vec![OutputCounts { output: "label".to_owned(), counts }];
                let revision = Revision(revision.parse().unwrap());
                world.service(name).outputs.push(OutputWindow { revision, outputs });
            }
            ["restart"] => world.restart(),
            ["shadow", name, "none"] => world.shadow(name, None),
            ["shadow", name, percent] => world.shadow(name, Some(percent.parse().unwrap())),
            ["bounds", name, min, max] => world.bounds(name, min.parse().unwrap(), max.parse().unwrap()),
            ["scale", name, replicas] => world.scale(name, replicas.parse().unwrap(), tail),
            ["held", name, count] => world.held(name, count.parse().unwrap()),
            ["pressure", percent] => world.pressure(percent.parse().unwrap()),
            ["priority", name, priority] => world.service(name).priority = priority.parse().unwrap(),
            ["delete", name] => {
                world.input.services.iter_mut().find(|service| service.name.as_str() == *name).unwrap().deleting = true;
            }
            ["shortfall", name] => {
                let service = world.input.services.iter_mut().find(|service| service.name.as_str() == *name);
                service.unwrap().revisions.last_mut().unwrap().shortfalls.push(tail.to_owned());
            }
            ["lost-model", name] => {
                let service = world.input.services.iter_mut().find(|service| service.name.as_str() == *name);
                service.unwrap().revisions.last_mut().unwrap().bundle_present = false;
            }
            ["ack"] => world.input.gateway_acknowledged = world.generation,
            ["plan"] => {
                let plan = world.pass();
                return self.tell(&plan);
            }
            _ => self.seen(&words, tail),
        }
        Vec::new()
    }

    /// What is seen of replicas.
    fn seen(&mut self, words: &[&str], tail: &str) {
        let world = &mut self.world;
        match words {
            ["ready", ids @ ..] => ids.iter().for_each(|id| world.ready(id)),
            ["gone", ids @ ..] => ids.iter().for_each(|id| world.exit(id, "exit code 0", "")),
            ["exit", id, how @ ..] => world.exit(id, &how.join(" "), &tail.replace("\\n", "\n")),
            ["busy", id, ms] => world.replica(id).busy_ms = ms.parse().unwrap(),
            ["silent", id] => world.replica(id).silent_since_ms = Some(world.input.now_ms),
            ["missing", id] => world.replica(id).missing = vec![tail.to_owned()],
            other => panic!("no such event: {other:?}"),
        }
    }

    fn tell(&mut self, plan: &Plan) -> Vec<String> {
        let mut said: Vec<String> = plan.actions.iter().map(action).collect();
        said.extend(
            plan.evicted.iter().map(|eviction| format!("evicted {} at most {}", eviction.replica, eviction.at_most)),
        );
        if self.routes != plan.routes {
            said.extend(plan.routes.iter().map(route));
            self.routes.clone_from(&plan.routes);
        }
        for service in &plan.services {
            for condition in &service.conditions {
                let text = format!("{:?} {}: {}", condition.status, condition.reason, condition.message);
                let key = (service.name.to_string(), condition.kind);
                if self.said.get(&key) != Some(&text) {
                    said.push(format!("{} {:?} is {}", service.name, condition.kind, text.replace('\n', "\\n")));
                    self.said.insert(key, text);
                }
            }
            said.extend(service.report.iter().map(|line| format!("{}: {line}", service.name)));
            let replicas = service.replicas.iter();
            let replicas: Vec<String> = replicas
                .map(|replica| format!("{} {:?} restarts {}", replica.id, replica.phase, replica.restarts))
                .collect();
            said.push(format!("{} has [{}]", service.name, replicas.join(", ")));
        }
        said.extend(plan.wake_at_ms.map(|at_ms| format!("wake at {at_ms}")));
        said
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Start { service, revision } => format!("start {service} {revision}"),
        Action::Leave { replica, .. } => format!("leave {replica}"),
        Action::Stop { replica, .. } => format!("stop {replica}"),
        Action::Kill { replica, failed, .. } => format!("kill {replica}{}", if *failed { " as failed" } else { "" }),
        Action::Forget { replica } => format!("forget {replica}"),
        Action::Complete { service, revision } => format!("complete {service} {revision}"),
        Action::Rollout { service, revision, state } => {
            let verdict = match &state.verdict {
                None => "goes on".to_owned(),
                Some(Verdict::Promoted { .. }) => "promoted".to_owned(),
                Some(Verdict::RolledBack { .. }) => "rolled back".to_owned(),
                Some(Verdict::Aborted) => "aborted".to_owned(),
            };
            format!("rollout {service} {revision} step {} requests {} {verdict}", state.step, state.step_requests)
        }
        Action::Promote { service, revision } => format!("promote {service} {revision}"),
        Action::Demote { service, revision } => format!("demote {service} {revision}"),
        Action::Retire { service, revision } => format!("retire {service} {revision}"),
        Action::Remove { service } => format!("remove {service}"),
    }
}

fn route(route: &RouteService) -> String {
    let revisions: Vec<String> = route
        .revisions
        .iter()
        .map(|each| {
            let endpoints: Vec<&str> = each.endpoints.iter().map(|endpoint| endpoint.replica.0.as_str()).collect();
            format!("{} [{}]", each.revision, endpoints.join(" "))
        })
        .collect();
    let mut text =
        format!("route {} default {}: {}", route.name, route.default_revision.unwrap(), revisions.join(", "));
    for share in &route.split {
        text.push_str(&format!(", {} % to {}", share.percent, share.revision));
    }
    if let Some(shadow) = &route.shadow {
        text.push_str(&format!(", {} % mirrored to {}", shadow.percent, shadow.revision));
    }
    text
}
