//! Resource limits of the process (setrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Error, Report, Rules};

/// Open files: the connections that `daemon` accepts at most, and room for libraries and the model.
const OPEN_FILES_MAX: u64 = 16_384 + 1024;

pub(super) fn apply(rules: &Rules, report: &mut Report) -> Result<(), Error> {
    // A core file would hold requests and weights.
    set(Resource::Core, 0, "set the limit of core files")?;
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open_files = OPEN_FILES_MAX.min(allowed);
    set(Resource::Nofile, open_files, "set the limit of open files")?;
    report.enforced(format!("limits: no core file, at most {open_files} open files"));
    if let Some(bytes) = rules.memory_bytes_max {
        let bytes = bytes.min(getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX));
        set(Resource::Data, bytes, "set the limit of memory")?;
        report.enforced(format!("memory: at most {bytes} bytes of private memory (RLIMIT_DATA)"));
    }
    Ok(())
}

fn set(resource: Resource, most: u64, doing: &'static str) -> Result<(), Error> {
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|errno| Error::System { doing, source: errno.into() })
}
