//! What `/proc` says of processes. A process may end at any moment, so that every answer may be missing.

use std::fs;

use planner::Machine;

use crate::db::ProcessId;

/// The process of this number, if it lives. A zombie does not.
pub(crate) fn identify(pid: i32) -> Option<ProcessId> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let born = parse_stat(&stat)?;
    Some(ProcessId { pid, born })
}

/// When a process was born, out of `/proc/<pid>/stat`: the 20th field after the name, which is in parentheses and may hold any.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Arguments of a process, the executable first.
pub(crate) fn arguments(pid: i32) -> Vec<String> {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// What a process takes, pages that it shares counted in parts (its proportional set size).
pub(crate) fn memory_bytes(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let text = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = text.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Living processes whose arguments fit.
pub(crate) fn find(fits: impl Fn(&[String]) -> bool) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| fits(&arguments(*pid))).filter_map(identify).collect()
}

/// Whether these are the arguments of one of our processes: `<berth> <role> … <option> <value> …`.
pub(crate) fn is_role(arguments: &[String], role: &str, option: &str, value: &str) -> bool {
    let has = arguments.windows(2).any(|pair| matches!(pair, [name, given] if name == option && given == value));
    arguments.get(1).is_some_and(|word| word == role) && has
}

/// What this machine has.
pub(crate) fn machine() -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu_milli = u64::try_from(cpus).unwrap_or(1).saturating_mul(1000);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
    Machine { cpu_milli, memory_bytes: kib.unwrap_or(0).saturating_mul(1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = identify(pid).unwrap();
        assert_eq!(me.pid, pid);
        assert!(me.born > 0);
        let mine = arguments(pid);
        assert!(!mine.is_empty());
        assert!(find(|arguments| arguments == mine).contains(&me));
        assert!(memory_bytes(pid).is_some_and(|bytes| bytes > 0));
        assert_eq!((identify(-1), memory_bytes(-1)), (None, None));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(4242));
        assert_eq!(parse_stat(&stat.replace(") S ", ") Z ")), None);
        assert_eq!(parse_stat("7 (x"), None);
    }

    #[test]
    fn roles_are_told_by_their_arguments() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let runtime = words("/usr/bin/berth runtime --socket /d/run/r-1.sock --model a=/d");
        assert!(is_role(&runtime, "runtime", "--socket", "/d/run/r-1.sock"));
        assert!(!is_role(&runtime, "runtime", "--socket", "/d/run/r-2.sock"));
        assert!(!is_role(&runtime, "gateway", "--socket", "/d/run/r-1.sock"));
        assert!(!is_role(&[], "runtime", "--socket", ""));
    }
}
