//! Logs of processes: bounded in size and number, read from their ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes of a log before it is copied to `<log>.1` and begun again. What is written between the two is lost.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes read from the end of a log, at most.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Logs kept of replicas that are gone, per service: enough to see how a crash loop began.
const DEAD_LOGS_MAX: usize = 5;

/// The last `lines` lines.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = all.iter().skip(all.len().saturating_sub(lines));
    Ok(last.flat_map(|line| [*line, "\n"]).collect())
}

/// Fields of a record that a person who asks why a process ended can do without.
const RECORD_FIELDS_LEFT_OUT: [&str; 4] = ["timestamp", "level", "message", "target"];

/// A line as a person reads it: a structured record becomes `LEVEL message name=value …`, anything else stays.
pub(crate) fn readable(line: &str) -> String {
    let Ok(serde_json::Value::Object(record)) = serde_json::from_str(line) else { return line.to_owned() };
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named = |name: &str| record.get(name).map(text).unwrap_or_default();
    let mut readable = format!("{} {}", named("level"), named("message")).trim().to_owned();
    for (name, value) in record.iter().filter(|(name, _)| !RECORD_FIELDS_LEFT_OUT.contains(&name.as_str())) {
        readable.push_str(&format!(" {name}={}", text(value)));
    }
    readable
}

/// Whether a readable line was a record.
pub(crate) fn is_record(line: &str) -> bool {
    ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "].iter().any(|level| line.starts_with(level))
}

/// Begins a log again when it has grown too large. Its process goes on appending to the same file.
pub(crate) fn bound(path: &Path) -> io::Result<()> {
    let length = match fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if length > LOG_BYTES_MAX {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        fs::copy(path, older)?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// A replica's log: which service it belongs to, by `<service>-<revision>-<random>.log`.
pub(crate) fn service_of(file_name: &str) -> Option<(&str, &str)> {
    let id = file_name.strip_suffix(".log")?;
    let (rest, _) = id.rsplit_once('-')?;
    let (service, revision) = rest.rsplit_once('-')?;
    revision.bytes().all(|b| b.is_ascii_digit()).then_some((service, id))
}

/// Logs of one service's replicas, newest first.
pub(crate) fn of_service(directory: &Path, service: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found: Vec<(SystemTime, String, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        if let Some((of, id)) = name.to_str().and_then(service_of)
            && of == service
        {
            let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((modified, id.to_owned(), entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, id, path)| (id, path)).collect())
}

/// Bounds every log, and removes those of replicas that are gone: all but the newest few of a service that is there, and all
/// of one that is not.
pub(crate) fn tidy(directory: &Path, services: &BTreeSet<String>, live: &BTreeSet<String>) -> io::Result<()> {
    let mut dead: BTreeMap<String, Vec<(SystemTime, PathBuf)>> = BTreeMap::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str().filter(|name| name.ends_with(".log")) else { continue };
        match service_of(name) {
            Some((service, id)) if !live.contains(id) => {
                let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                dead.entry(service.to_owned()).or_default().push((modified, path));
            }
            _ => bound(&path)?,
        }
    }
    for (service, mut logs) in dead {
        logs.sort_by(|a, b| b.cmp(a));
        let kept = if services.contains(&service) { DEAD_LOGS_MAX } else { 0 };
        for (_, path) in logs.into_iter().skip(kept) {
            let mut older = path.as_os_str().to_owned();
            older.push(".1");
            drop(fs::remove_file(older));
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_read() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("a.log");
        fs::write(&log, "one\ntwo\nthree").unwrap();
        assert_eq!(tail(&log, 2).unwrap(), "two\nthree\n");
        assert_eq!(tail(&log, 9).unwrap(), "one\ntwo\nthree\n");
        assert!(tail(&home.path().join("none"), 1).is_err());
    }

    #[test]
    fn records_are_made_readable() {
        let record = r#"{"timestamp":"t","level":"ERROR","message":"model failed","model":"spam","n":3,"target":"x"}"#;
        assert_eq!(readable(record), "ERROR model failed model=spam n=3");
        assert!(is_record(&readable(record)));
        let verdict = "model failed to load: the graph has a cycle";
        assert_eq!(readable(verdict), verdict);
        assert!(!is_record(verdict));
        assert_eq!(readable("[1]"), "[1]");
    }

    #[test]
    fn a_large_log_begins_again() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("a.log");
        bound(&log).unwrap();
        let file = File::create(&log).unwrap();
        file.set_len(LOG_BYTES_MAX).unwrap();
        bound(&log).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), LOG_BYTES_MAX);
        file.set_len(LOG_BYTES_MAX + 1).unwrap();
        bound(&log).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(fs::metadata(home.path().join("a.log.1")).unwrap().len(), LOG_BYTES_MAX + 1);
    }

    #[test]
    fn logs_of_the_dead_are_few() {
        let home = tempfile::tempdir().unwrap();
        let names = (0..9).map(|n| format!("my-spam-2-x{n}.log"));
        for name in names.chain(["ham-1-a.log".to_owned(), "gateway.log".to_owned(), "notes.txt".to_owned()]) {
            fs::write(home.path().join(name), "x").unwrap();
        }
        let services = BTreeSet::from(["my-spam".to_owned()]);
        let live = BTreeSet::from(["my-spam-2-x0".to_owned()]);
        tidy(home.path(), &services, &live).unwrap();
        assert!(home.path().join("my-spam-2-x0.log").exists());
        assert!(!home.path().join("ham-1-a.log").exists());
        assert!(home.path().join("gateway.log").exists() && home.path().join("notes.txt").exists());
        assert_eq!(of_service(home.path(), "my-spam").unwrap().len(), 1 + DEAD_LOGS_MAX);
        assert!(of_service(home.path(), "spam").unwrap().is_empty());
    }
}
