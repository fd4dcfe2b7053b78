//! The house: where a crate stands says what it may use.

use std::path::Path;

use super::Finding;
use crate::workspace::{Dependency, Package};

/// Rooms of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Pure,
    Support,
    Services,
    Apps,
    Tests,
    Xtask,
}

/// The only ways between two crates of one room: who uses whom.
const WITHIN_A_ROOM: [(&str, &str); 4] =
    [("planner", "resources"), ("learning", "inference"), ("explain", "inference"), ("operator", "controller")];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["core", "common", "types", "shared", "utils"];

/// What pure crates may use: data structures, codecs and derives; nothing that reads a clock, a file, a socket or chance.
const PURE_DEPENDENCIES: [&str; 13] = [
    "base64",
    "bytemuck",
    "bytes",
    "half",
    "hex",
    "itoa",
    "serde",
    "serde-saphyr",
    "serde_json",
    "serde_path_to_error",
    "strsim",
    "thiserror",
    "zmij",
];

/// What the tests of pure crates may use besides.
const PURE_DEV_DEPENDENCIES: [&str; 2] = ["proptest", "serde_json"];

/// Checks the place, the name and the dependencies of every crate.
pub(super) fn check(root: &Path, packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(|package| check_crate(root, package, packages)).collect()
}

fn check_crate(root: &Path, package: &Package, packages: &[Package]) -> Vec<Finding> {
    let folder = package.folder(root);
    let Some(room) = room(folder) else {
        let what = "stands outside the house: move it to crates/{pure,support,services,apps}/NAME, tests/NAME or xtask";
        return vec![Finding::at(folder, what)];
    };
    let mut findings = Vec::new();
    if folder.file_name().is_none_or(|name| name.to_string_lossy() != package.name) {
        findings.push(Finding::at(
            folder,
            format!("the crate is called `{}`: give folder and crate one name", package.name),
        ));
    }
    if EMPTY_NAMES.contains(&package.name.as_str()) {
        findings.push(Finding::at(
            folder,
            format!("`{}` says nothing about what is inside: name it after that", package.name),
        ));
    }
    for dependency in &package.dependencies {
        findings.extend(check_dependency(root, package, room, dependency, packages));
    }
    findings
}

fn check_dependency(
    root: &Path,
    package: &Package,
    room_of_user: Room,
    dependency: &Dependency,
    packages: &[Package],
) -> Option<Finding> {
    let (user, used) = (package.name.as_str(), dependency.name.as_str());
    let manifest = package.folder(root).join("Cargo.toml");
    if dependency.path.is_none() {
        let dev = dependency.kind.as_deref() == Some("dev");
        let listed = PURE_DEPENDENCIES.contains(&used) || dev && PURE_DEV_DEPENDENCIES.contains(&used);
        return (room_of_user == Room::Pure && !listed).then(|| {
            let what = "is not on the list of what pure crates may use: do without it, or move the code that needs it \
                        to support or services; the list is in xtask/src/tidy/house.rs";
            Finding::at(&manifest, format!("`{used}` {what}"))
        });
    }
    let room_of_used = packages.iter().find(|other| other.name == used).and_then(|other| room(other.folder(root)));
    let allowed = room_of_used.is_some_and(|to| may_use(room_of_user, to) || WITHIN_A_ROOM.contains(&(user, used)));
    (!allowed).then(|| {
        let what = format!("`{user}` may not use `{used}`: {}", rule(room_of_user));
        Finding::at(&manifest, what)
    })
}

/// Where a crate's folder puts it.
fn room(folder: &Path) -> Option<Room> {
    let parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["crates", "pure", _] => Some(Room::Pure),
        ["crates", "support", _] => Some(Room::Support),
        ["crates", "services", _] => Some(Room::Services),
        ["crates", "apps", _] => Some(Room::Apps),
        ["tests", _] => Some(Room::Tests),
        ["xtask"] => Some(Room::Xtask),
        _ => None,
    }
}

/// The direction of dependencies between rooms.
fn may_use(user: Room, used: Room) -> bool {
    match user {
        Room::Pure => false,
        Room::Support => used == Room::Pure,
        Room::Services => matches!(used, Room::Pure | Room::Support),
        Room::Apps | Room::Tests | Room::Xtask => !matches!(used, Room::Tests | Room::Xtask),
    }
}

fn rule(user: Room) -> &'static str {
    match user {
        Room::Pure => "pure crates use no other, but planner uses resources, and learning and explain use inference",
        Room::Support => "support uses pure crates only",
        Room::Services => "services use pure and support crates, never each other, but operator uses controller",
        Room::Apps | Room::Tests | Room::Xtask => "nothing uses tests or xtask",
    }
}

#[cfg(test)]
mod tests;
