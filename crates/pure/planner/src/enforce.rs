//! Decides which requests and limits this machine can keep, and says so of the others.

use resources::{
    inference_service::ResourceRequirements,
    quantity::{self, QuantityError},
};

/// What a machine has and can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Thousandths of CPUs that the controller may use.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What one replica is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Threads that compute; `None` leaves the choice to the runtime.
    pub threads: Option<u64>,
    /// Bytes of memory; `None` sets no limit.
    pub memory_bytes: Option<u64>,
    /// What was asked for and cannot be kept, in words.
    pub shortfalls: Vec<String>,
}

/// Turns requests and limits into what a replica is started with.
///
/// Without control groups of its own, a process can be held to memory by its resource limits, and to whole CPUs by its number
/// of computing threads. Nothing is reserved: a request only fits the machine or does not.
pub fn allowance(asked: Option<&ResourceRequirements>, machine: &Machine) -> Result<Allowance, QuantityError> {
    let mut allowance = Allowance::default();
    let Some(asked) = asked else { return Ok(allowance) };
    if let Some(limits) = &asked.limits {
        if let Some(cpu) = &limits.cpu {
            let milli = quantity::cpu_milli(cpu)?;
            allowance.threads = Some(milli.div_ceil(1000));
            if milli % 1000 != 0 {
                allowance.shortfalls.push(format!(
                    "the limit of `{cpu}` CPUs is kept as {} computing threads: parts of a CPU need control groups",
                    milli.div_ceil(1000)
                ));
            }
        }
        allowance.memory_bytes = limits.memory.as_deref().map(quantity::bytes).transpose()?;
    }
    if let Some(requests) = &asked.requests {
        if let Some(cpu) = &requests.cpu
            && quantity::cpu_milli(cpu)? > machine.cpu_milli
        {
            let have = machine.cpu_milli / 1000;
            allowance.shortfalls.push(format!("`{cpu}` CPUs are requested and this machine has {have}"));
        }
        if let Some(memory) = &requests.memory
            && quantity::bytes(memory)? > machine.memory_bytes
        {
            let have = machine.memory_bytes >> 20;
            allowance.shortfalls.push(format!("`{memory}` of memory is requested and this machine has {have}Mi"));
        }
    }
    Ok(allowance)
}

#[cfg(test)]
mod tests {
    use resources::inference_service::ResourceList;

    use super::*;

    const MACHINE: Machine = Machine { cpu_milli: 2000, memory_bytes: 4 << 30 };

    fn asked(list: fn(&str, &str) -> ResourceRequirements, cpu: &str, memory: &str) -> Allowance {
        allowance(Some(&list(cpu, memory)), &MACHINE).unwrap()
    }

    fn list(cpu: &str, memory: &str) -> Option<ResourceList> {
        Some(ResourceList { cpu: Some(cpu.to_owned()), memory: Some(memory.to_owned()) })
    }

    #[test]
    fn limits_become_threads_and_bytes() {
        let limits = |cpu: &str, memory: &str| ResourceRequirements { limits: list(cpu, memory), requests: None };
        let whole = Allowance { threads: Some(2), memory_bytes: Some(256 << 20), shortfalls: Vec::new() };
        assert_eq!(asked(limits, "2", "256Mi"), whole);
        let part = asked(limits, "500m", "1G");
        assert_eq!(part.threads, Some(1));
        assert!(part.shortfalls[0].contains("`500m`"), "{:?}", part.shortfalls);
        assert!(allowance(Some(&limits("two", "1G")), &MACHINE).is_err());
        assert_eq!(allowance(None, &MACHINE), Ok(Allowance::default()));
    }

    #[test]
    fn requests_fit_or_are_named() {
        let requests = |cpu: &str, memory: &str| ResourceRequirements { requests: list(cpu, memory), limits: None };
        assert_eq!(asked(requests, "2", "4Gi"), Allowance::default());
        assert_eq!(asked(requests, "3", "5Gi").shortfalls.len(), 2);
    }
}
