//! Replicas of a simulation: starting, answering, leaving.

/// A request: when it came and how long it takes at a replica, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Request {
    pub came_ms: f64,
    pub service_ms: f64,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Starting,
    Ready,
    Leaving,
}

#[derive(Clone, Debug)]
struct Replica {
    phase: Phase,
    /// Grows with each life in this place, so that what was meant for an earlier one is known as such.
    life: u32,
    work: Vec<(u64, Request)>,
}

/// A replica in its place and life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    place: usize,
    life: u32,
}

/// All replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    pub ready: u32,
    pub starting: u32,
    pub leaving: u32,
    pub busy: u32,
}

impl Replicas {
    /// One more that starts.
    pub(super) fn start(&mut self) -> Handle {
        let free = self.all.iter().position(|replica| replica.phase == Phase::Free);
        let place = free.unwrap_or(self.all.len());
        if free.is_none() {
            self.all.push(Replica { phase: Phase::Free, life: 0, work: Vec::new() });
        }
        self.starting += 1;
        let mut life = 0;
        if let Some(replica) = self.all.get_mut(place) {
            replica.phase = Phase::Starting;
            replica.life += 1;
            life = replica.life;
        }
        Handle { place, life }
    }

    /// It answers from now on, if it was not taken away meanwhile.
    pub(super) fn make_ready(&mut self, handle: Handle) -> bool {
        let Some(replica) = find(&mut self.all, handle).filter(|replica| replica.phase == Phase::Starting) else {
            return false;
        };
        replica.phase = Phase::Ready;
        self.starting -= 1;
        self.ready += 1;
        true
    }

    /// Gives a request to the ready replica with the fewest; nothing when all are full.
    pub(super) fn take(&mut self, number: u64, request: Request, concurrency: u32) -> Option<Handle> {
        let most = usize::try_from(concurrency).unwrap_or(usize::MAX);
        let free = |(_, replica): &(usize, &mut Replica)| replica.phase == Phase::Ready && replica.work.len() < most;
        let (place, replica) =
            self.all.iter_mut().enumerate().filter(free).min_by_key(|(_, replica)| replica.work.len())?;
        replica.work.push((number, request));
        self.busy += 1;
        Some(Handle { place, life: replica.life })
    }

    /// A request is answered; nothing when its replica failed before.
    pub(super) fn finish(&mut self, handle: Handle, number: u64) -> Option<Request> {
        let replica = find(&mut self.all, handle)?;
        let at = replica.work.iter().position(|(found, _)| *found == number)?;
        let (_, request) = replica.work.swap_remove(at);
        self.busy -= 1;
        if replica.phase == Phase::Leaving && replica.work.is_empty() {
            replica.phase = Phase::Free;
            self.leaving -= 1;
        }
        Some(request)
    }

    /// Takes one away: one that starts, else the ready one with the least work, which it still finishes.
    pub(super) fn remove(&mut self) {
        if let Some(replica) = self.all.iter_mut().find(|replica| replica.phase == Phase::Starting) {
            replica.phase = Phase::Free;
            self.starting -= 1;
            return;
        }
        let ready = self.all.iter_mut().filter(|replica| replica.phase == Phase::Ready);
        if let Some(replica) = ready.min_by_key(|replica| replica.work.len()) {
            self.ready -= 1;
            if replica.work.is_empty() {
                replica.phase = Phase::Free;
            } else {
                replica.phase = Phase::Leaving;
                self.leaving += 1;
            }
        }
    }

    /// One fails; gives back what it was working on, or nothing when it was gone already.
    pub(super) fn fail(&mut self, handle: Handle) -> Option<Vec<(u64, Request)>> {
        let replica = find(&mut self.all, handle)?;
        match replica.phase {
            Phase::Free => return None,
            Phase::Starting => self.starting -= 1,
            Phase::Ready => self.ready -= 1,
            Phase::Leaving => self.leaving -= 1,
        }
        replica.phase = Phase::Free;
        let work = std::mem::take(&mut replica.work);
        self.busy -= u32::try_from(work.len()).unwrap_or(u32::MAX);
        Some(work)
    }

    /// Whether there is a free place at a ready one. Those that leave take none.
    pub(super) fn has_room(&self, concurrency: u32) -> bool {
        self.ready > 0 && (self.leaving > 0 || self.busy < self.ready.saturating_mul(concurrency))
    }

    /// Those that cost: all that are there.
    pub(super) fn there(&self) -> u32 {
        self.ready + self.starting + self.leaving
    }
}

fn find(all: &mut [Replica], handle: Handle) -> Option<&mut Replica> {
    all.get_mut(handle.place).filter(|replica| replica.life == handle.life)
}
