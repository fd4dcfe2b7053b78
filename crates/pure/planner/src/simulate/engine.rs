//! The event loop: arrivals, answers, starts and failures in their order, and a decision at the end of each window.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use resources::window::WINDOW_MS;

use super::{
    Contender, Outcome, Scenario,
    random::Random,
    replicas::{Handle, Replicas, Request},
    tally::Tally,
    trace::Arrivals,
};
use crate::scale::{Memory, Observed, WINDOWS_MAX, Window, decide, whole};

/// Windows kept for decisions beyond the stable window.
const WINDOWS_BESIDE: usize = 60;
const WINDOW_S: f64 = WINDOW_MS as f64 / 1000.0;

#[derive(Clone, Copy, Debug)]
enum What {
    Answer(Handle, u64),
    Ready(Handle),
    Failure(Handle),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    at_ms: f64,
    /// Which of two at the same time is first.
    number: u64,
    what: What,
}

/// One policy under one load.
#[derive(Debug)]
pub struct Simulation<'a> {
    scenario: &'a Scenario,
    contender: &'a Contender,
    arrivals: std::iter::Peekable<Arrivals<'a>>,
    service: Random,
    chance: Random,
    events: BinaryHeap<Reverse<Event>>,
    queue: VecDeque<(u64, Request)>,
    replicas: Replicas,
    wanted: u32,
    memory: Memory,
    windows: VecDeque<Window>,
    window: Window,
    numbers: u64,
    now_ms: f64,
    end_ms: f64,
    tally: Tally,
}

impl<'a> Simulation<'a> {
    /// At the beginning: the fewest replicas are ready.
    pub fn new(scenario: &'a Scenario, contender: &'a Contender) -> Self {
        let seconds = scenario.trace.seconds();
        let mut simulation = Self {
            scenario,
            contender,
            arrivals: Arrivals::new(&scenario.trace, Random::new(scenario.seed, 1)).peekable(),
            service: Random::new(scenario.seed, 2),
            chance: Random::new(scenario.seed, 3),
            events: BinaryHeap::new(),
            queue: VecDeque::new(),
            replicas: Replicas::default(),
            wanted: 0,
            memory: Memory::default(),
            windows: VecDeque::new(),
            window: Window::default(),
            numbers: 0,
            now_ms: 0.0,
            end_ms: seconds * 1000.0,
            tally: Tally::new(seconds, scenario.interval_s, scenario.objective_ms),
        };
        let spec = &contender.spec;
        let first = if contender.policy == crate::scale::Policy::Fixed { spec.max_replicas } else { spec.min_replicas };
        let least = u32::from(!contender.policy.reaches_zero());
        simulation.wanted = first.max(least).min(spec.max_replicas.max(1));
        for _ in 0..simulation.wanted {
            let handle = simulation.replicas.start();
            simulation.become_ready(handle);
        }
        simulation
    }

    /// Goes on until a second; true when all is over.
    pub fn advance(&mut self, until_s: f64) -> bool {
        let until_ms = until_s * 1000.0;
        while self.now_ms < until_ms {
            if self.is_over() {
                return true;
            }
            self.step();
        }
        self.is_over()
    }

    /// Seconds simulated so far.
    pub fn at_s(&self) -> f64 {
        self.now_ms / 1000.0
    }

    /// What was found so far.
    pub fn outcome(self) -> Outcome {
        self.tally.outcome(&self.contender.name, self.scenario.trace.seconds())
    }

    /// After the last arrival what waits is still answered, for as long as a request may wait.
    fn is_over(&mut self) -> bool {
        let idle = self.queue.is_empty() && self.replicas.busy == 0;
        let long = self.now_ms > self.end_ms + self.scenario.timeout_ms;
        self.now_ms >= self.end_ms && self.arrivals.peek().is_none() && (idle || long)
    }

    fn step(&mut self) {
        let arrival = self.arrivals.peek().copied().unwrap_or(f64::INFINITY);
        let event = self.events.peek().map_or(f64::INFINITY, |Reverse(event)| event.at_ms);
        let tick = (self.window.start_ms + WINDOW_MS) as f64;
        if tick <= arrival && tick <= event {
            self.pass(tick);
            self.tick();
        } else if event <= arrival {
            self.pass(event);
            if let Some(Reverse(event)) = self.events.pop() {
                self.happen(event.what);
            }
        } else {
            self.pass(arrival);
            self.arrivals.next();
            self.arrive();
        }
    }

    /// Time goes on to `to_ms`, within the current window.
    fn pass(&mut self, to_ms: f64) {
        let share = (to_ms - self.now_ms) / 1000.0 / WINDOW_S;
        self.window.in_service += share * f64::from(self.replicas.busy);
        self.window.ready += share * f64::from(self.replicas.ready);
        self.window.held += share * self.queue.len() as f64;
        if self.now_ms < self.end_ms {
            self.tally.cost(self.now_ms, to_ms.min(self.end_ms), self.replicas.there());
        }
        self.now_ms = to_ms;
    }

    fn arrive(&mut self) {
        let request = Request { came_ms: self.now_ms, service_ms: self.scenario.service.draw(&mut self.service) };
        self.window.arrivals += 1;
        self.tally.came(self.now_ms);
        self.give_up_old();
        let number = self.number();
        if self.queue.is_empty() && self.replicas.has_room(self.scenario.concurrency) && self.serve(number, request) {
            return;
        }
        if self.queue.len() >= self.scenario.queue_max {
            self.tally.refused += 1;
            // Whoever is refused has not had an answer in time, whatever the mean says.
            self.tally.lost(request.came_ms, self.scenario.timeout_ms);
            return;
        }
        self.queue.push_back((number, request));
        if self.wanted == 0 {
            self.want(1, || "a request came".to_owned());
        }
    }

    fn serve(&mut self, number: u64, request: Request) -> bool {
        let Some(handle) = self.replicas.take(number, request, self.scenario.concurrency) else { return false };
        self.push(self.now_ms + request.service_ms, What::Answer(handle, number));
        true
    }

    /// The oldest are first, and all may wait as long.
    fn give_up_old(&mut self) {
        let oldest_ms = self.now_ms - self.scenario.timeout_ms;
        while let Some((_, request)) = self.queue.front().filter(|(_, request)| request.came_ms < oldest_ms) {
            self.tally.timed_out += 1;
            self.tally.lost(request.came_ms, self.scenario.timeout_ms);
            self.queue.pop_front();
        }
    }

    fn serve_waiting(&mut self) {
        self.give_up_old();
        while self.replicas.has_room(self.scenario.concurrency) {
            let Some((number, request)) = self.queue.front().copied() else { return };
            if !self.serve(number, request) {
                return;
            }
            self.queue.pop_front();
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Answer(handle, number) => {
                if let Some(request) = self.replicas.finish(handle, number) {
                    let latency = self.now_ms - request.came_ms;
                    self.window.latency.record(latency);
                    self.window.service.record(request.service_ms);
                    self.tally.answered(request.came_ms, latency);
                }
            }
            What::Ready(handle) => self.become_ready(handle),
            What::Failure(handle) => self.fail(handle),
        }
        self.serve_waiting();
    }

    fn become_ready(&mut self, handle: Handle) {
        let ready = self.replicas.make_ready(handle);
        if let Some(mean_s) = self.scenario.mean_time_to_failure_s.filter(|_| ready) {
            let lives_ms = mean_s * 1000.0 * self.chance.exponential();
            self.push(self.now_ms + lives_ms, What::Failure(handle));
        }
    }

    /// What a failed replica was working on is asked again, first, and another one starts in its place.
    fn fail(&mut self, handle: Handle) {
        let Some(work) = self.replicas.fail(handle) else { return };
        self.tally.failures += 1;
        let mut work: Vec<_> = work;
        work.sort_by_key(|(number, _)| *number);
        work.into_iter().rev().for_each(|each| self.queue.push_front(each));
        self.follow();
    }

    /// A window ends.
    fn tick(&mut self) {
        let next = Window { start_ms: self.window.start_ms + WINDOW_MS, ..Window::default() };
        let now_ms = next.start_ms;
        self.windows.push_back(std::mem::replace(&mut self.window, next));
        let spec = &self.contender.spec;
        let kept = usize::try_from(spec.stable_ms / WINDOW_MS).unwrap_or(WINDOWS_MAX) + 1;
        while self.windows.len() > kept.clamp(WINDOWS_BESIDE + 1, WINDOWS_MAX) {
            self.windows.pop_front();
        }
        if !now_ms.is_multiple_of(self.contender.policy.period_ms()) {
            return;
        }
        let seen = Observed {
            now_ms,
            windows: self.windows.make_contiguous(),
            ready: self.replicas.ready,
            starting: self.replicas.starting,
            held: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            start_ms: whole(self.scenario.start.mean_ms()),
        };
        let (decision, memory) = decide(self.contender.policy, spec, &seen, std::mem::take(&mut self.memory));
        self.memory = memory;
        // A policy that cannot wake from nothing keeps one.
        let replicas = decision.replicas.max(u32::from(!self.contender.policy.reaches_zero()));
        self.want(replicas, || decision.reason);
    }

    fn want(&mut self, replicas: u32, reason: impl FnOnce() -> String) {
        if replicas != self.wanted {
            self.tally.change(self.now_ms, self.wanted, replicas, reason());
            self.wanted = replicas;
        }
        self.follow();
    }

    /// Starts and takes away until there are as many as wanted.
    fn follow(&mut self) {
        while self.replicas.ready + self.replicas.starting < self.wanted {
            let handle = self.replicas.start();
            let start_ms = self.scenario.start.draw(&mut self.chance);
            self.push(self.now_ms + start_ms, What::Ready(handle));
        }
        while self.replicas.ready + self.replicas.starting > self.wanted {
            self.replicas.remove();
        }
    }

    fn push(&mut self, at_ms: f64, what: What) {
        let number = self.number();
        self.events.push(Reverse(Event { at_ms, number, what }));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at_ms.total_cmp(&other.at_ms).then(self.number.cmp(&other.number))
    }
}
