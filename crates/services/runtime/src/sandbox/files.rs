//! Landlock: reads the model, writes nothing, connects nowhere, signals nobody (landlock(7)).

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Error, Report, Rules};

/// The newest rights that were reviewed for this file. Rights that a kernel does not know yet are left out; for each of
/// them seccomp, which refuses the system calls themselves, is the first wall.
const REVIEWED: ABI = ABI::V10;

pub(super) fn restrict(rules: &Rules, report: &mut Report) -> Result<(), Error> {
    let opened = PathFd::new(&rules.model);
    let model = opened.map_err(|error| Error::Model {
        path: rules.model.clone(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let may = if rules.model.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
    match enforce(model, may) {
        Ok(status) => say(&status, report),
        Err(error) => report.missing(format!("files: Landlock refused the rules ({error}), {OPEN_TO_ALL}")),
    }
    Ok(())
}

const OPEN_TO_ALL: &str = "so the runtime can read what its user can; writing is refused all the same";

fn enforce(model: PathFd, may: BitFlags<AccessFs>) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(REVIEWED))?
        .handle_access(AccessNet::from_all(REVIEWED))?
        .scope(Scope::from_all(REVIEWED))?
        .create()?
        .add_rule(PathBeneath::new(model, may))?
        .restrict_self()
}

fn say(status: &RestrictionStatus, report: &mut Report) {
    match (&status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            report.enforced(format!("files: reads its model, nothing else, and writes nothing (Landlock {effective_abi})"));
        }
        (_, LandlockStatus::NotEnabled) => report.missing(format!(
            "files: Landlock is switched off in this kernel (add `landlock` to `lsm=` on its command line), {OPEN_TO_ALL}"
        )),
        _ => report.missing(format!("files: this kernel has no Landlock (Linux 5.13 has it), {OPEN_TO_ALL}")),
    }
}
