//! How much memory is left: of the machine, and of the control groups that the controller and its replicas are in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Memory;

/// Files of one version of control groups.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` that counts cached files which the kernel gives back before it runs short.
    cached: &'static str,
}

const V1: Names =
    Names { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cached: "total_inactive_file" };
const V2: Names = Names { limit: "memory.max", used: "memory.current", cached: "inactive_file" };

/// The memory under `root`, of whatever has the smallest part of it left. A group without a limit is as its parent.
pub(super) fn read(root: &Path) -> Option<Memory> {
    let machine = machine(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut tightest = machine;
    for (mount, path, names) in groups.lines().filter_map(place) {
        let mount = root.join(mount);
        for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
            let found = group(&mount.join(ancestor), &names).filter(|found| found.total_bytes < machine.total_bytes);
            tightest = found.filter(|found| is_tighter(found, &tightest)).unwrap_or(tightest);
        }
    }
    Some(tightest)
}

fn is_tighter(one: &Memory, other: &Memory) -> bool {
    let crossed = |a: u64, b: u64| u128::from(a) * u128::from(b);
    crossed(one.available_bytes, other.total_bytes) < crossed(other.available_bytes, one.total_bytes)
}

fn machine(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { available_bytes: bytes("MemAvailable:")?, total_bytes: bytes("MemTotal:")? })
}

/// Where a line of `/proc/self/cgroup` says that the memory is counted: the mount, the group in it, and what its files are called.
fn place(line: &str) -> Option<(&'static str, &str, Names)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    match controllers {
        "" => Some(("sys/fs/cgroup", path, V2)),
        listed if listed.split(',').any(|name| name == "memory") => Some(("sys/fs/cgroup/memory", path, V1)),
        _ => None,
    }
}

fn group(directory: &Path, names: &Names) -> Option<Memory> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let total_bytes = number(directory.join(names.limit))?;
    let used = number(directory.join(names.used))?;
    let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(names.cached)?.strip_prefix(' ')?.parse::<u64>().ok());
    let taken = used.saturating_sub(cached.unwrap_or(0));
    Some(Memory { available_bytes: total_bytes.saturating_sub(taken), total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files below a directory.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    500 kB\n");

    #[test]
    fn it_is_the_machines_where_nothing_holds_it_tighter() {
        let machine = Some(Memory { available_bytes: 512_000, total_bytes: 1_024_000 });
        assert_eq!(read(tree(&[MEMINFO]).path()), machine);
        let free = tree(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "4096\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "1000\n"),
        ]);
        assert_eq!(read(free.path()), machine);
        assert_eq!(read(tree(&[]).path()), None);
        assert!(read(Path::new("/")).is_some_and(|memory| memory.total_bytes >= memory.available_bytes));
    }

    #[test]
    fn groups_of_both_versions_hold_it() {
        let second = tree(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "4096\n"),
            ("sys/fs/cgroup/a/memory.max", "100000\n"),
            ("sys/fs/cgroup/a/memory.current", "99000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 9\ninactive_file 1000\n"),
        ]);
        assert_eq!(read(second.path()), Some(Memory { available_bytes: 2_000, total_bytes: 100_000 }));
        // In a container the path of the first version is the host's, and the mount is the container's group.
        let first = tree(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "200000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "150000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 10000\n"),
        ]);
        assert_eq!(read(first.path()), Some(Memory { available_bytes: 60_000, total_bytes: 200_000 }));
    }
}
