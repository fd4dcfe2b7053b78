//! Seccomp: the system calls that a runtime needs, and nothing else (seccomp(2)).
//!
//! Three filters, of which the strictest answer counts: calls that only an attack makes end the process; `clone3`, whose
//! arguments no filter can see, does not exist, so that the C library uses `clone`; what is not on the list of what a
//! runtime needs fails with `EPERM`.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Report;

mod lists;

use lists::{ALLOWED, ALLOWED_OLD, DEADLY};

pub(super) fn filter(report: &mut Report) {
    match install() {
        Ok(allowed) => {
            report.enforced(format!(
                "system calls: {allowed} are allowed, {} end the process, the rest fail (seccomp)",
                DEADLY.len()
            ));
            report.enforced("network: no socket but those it listens on, and their connections (seccomp)");
            report.enforced("processes: starts no program and no process, signals and traces no other (seccomp)");
            report.enforced("memory: makes none executable (seccomp)");
        }
        Err(error) => report.missing(format!(
            "system calls: the kernel refused the filter ({error}), so the runtime can open sockets and start programs"
        )),
    }
}

/// Installs the filters and says how many calls are left.
fn install() -> Result<usize, seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let always = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let compile = |rules, otherwise, matched| {
        let filter = SeccompFilter::new(rules, otherwise, matched, arch)?;
        BpfProgram::try_from(filter)
    };
    let mut allowed = always(ALLOWED);
    allowed.extend(always(ALLOWED_OLD));
    allowed.extend(conditional()?);
    let left = allowed.len();
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let programs = [
        compile(always(DEADLY), SeccompAction::Allow, SeccompAction::KillProcess)?,
        compile(always(lists::ABSENT), SeccompAction::Allow, enosys)?,
        // Last, since it does not allow to install another one.
        compile(allowed, eperm, SeccompAction::Allow)?,
    ];
    for program in &programs {
        seccompiler::apply_filter_all_threads(program)?;
    }
    Ok(left)
}

/// Calls that are allowed with some arguments only.
fn conditional() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let own_process = u64::from(std::process::id());
    let executable = bits(libc::PROT_EXEC);
    let mut rules = BTreeMap::from([
        // Threads, not processes.
        (libc::SYS_clone, vec![all([masked(0, bits(libc::CLONE_THREAD), bits(libc::CLONE_THREAD))?])?]),
        // No code is made or loaded after the start.
        (libc::SYS_mmap, vec![all([masked(2, executable, 0)?])?]),
        (libc::SYS_mprotect, vec![all([masked(2, executable, 0)?])?]),
        // Files are read; Landlock says which.
        (libc::SYS_openat, vec![all([masked(2, WRITING, 0)?])?]),
        // Tells a thread's name to `ps`.
        (libc::SYS_prctl, any(0, &[bits(libc::PR_SET_NAME), bits(libc::PR_GET_NAME)])?),
        (libc::SYS_fcntl, any(1, &FCNTL)?),
        (libc::SYS_ioctl, any(1, &IOCTL)?),
        // The pair that tokio's signal handler writes to.
        (libc::SYS_socketpair, any(0, &[bits(libc::AF_UNIX)])?),
        (libc::SYS_setsockopt, vec![all([equal(1, bits(libc::IPPROTO_TCP))?, equal(2, bits(libc::TCP_NODELAY))?])?]),
        // `abort` of this process.
        (libc::SYS_tgkill, any(0, &[own_process])?),
        // Reads limits, sets none.
        (libc::SYS_prlimit64, vec![all([equal(0, 0)?, null(2)?])?, all([equal(0, own_process)?, null(2)?])?]),
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![all([masked(1, WRITING, 0)?])?]);
    rules.retain(|_, chain| !chain.is_empty());
    Ok(rules)
}

/// Flags of `open` that can change a file: every mode but reading, and what makes or cuts one.
const WRITING: u64 = bits(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND)
    // `O_TMPFILE` without the bit of `O_DIRECTORY` that it has in it.
    | bits(libc::O_TMPFILE & !libc::O_DIRECTORY);

/// `TCGETS` (is this a terminal?), `FIONREAD`, `FIONBIO` and `FIOCLEX` of `asm-generic/ioctls.h`; the C library's constants
/// have a type of their own on every platform.
const IOCTL: [u64; 4] = [0x5401, 0x541b, 0x5421, 0x5451];

const FCNTL: [u64; 6] = [
    bits(libc::F_DUPFD),
    bits(libc::F_DUPFD_CLOEXEC),
    bits(libc::F_GETFD),
    bits(libc::F_SETFD),
    bits(libc::F_GETFL),
    bits(libc::F_SETFL),
];

/// The bits of a constant of the C library, none of which is negative.
const fn bits(constant: i32) -> u64 {
    constant.unsigned_abs() as u64
}

fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

/// One rule for each value that argument `index` may have.
fn any(index: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| all([equal(index, *value)?])).collect()
}

/// The kernel reads these arguments as 32 bits, so the rest does not count.
fn equal(index: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn null(index: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
}
