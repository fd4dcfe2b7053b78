//! Small houses, right and wrong.

use std::path::PathBuf;

use super::*;

fn crate_at(folder: &str, uses: &[&str]) -> Package {
    let name = folder.rsplit('/').next().unwrap();
    let dependencies = uses.iter().map(|used| dependency(used)).collect();
    Package { name: name.to_owned(), manifest_path: PathBuf::from(format!("/r/{folder}/Cargo.toml")), dependencies }
}

/// `name` is a crate of the workspace, `name@` one of a registry, `name@dev` one for tests.
fn dependency(text: &str) -> Dependency {
    match text.split_once('@') {
        None => Dependency { name: text.to_owned(), kind: None, path: Some(PathBuf::from("/r")) },
        Some((name, kind)) => {
            Dependency { name: name.to_owned(), kind: (!kind.is_empty()).then(|| kind.to_owned()), path: None }
        }
    }
}

fn findings(packages: &[Package]) -> Vec<String> {
    check(Path::new("/r"), packages).iter().map(ToString::to_string).collect()
}

fn house() -> Vec<Package> {
    vec![
        crate_at("crates/pure/resources", &["serde@", "proptest@dev"]),
        crate_at("crates/pure/planner", &["resources"]),
        crate_at("crates/support/daemon", &["resources", "tokio@"]),
        crate_at("crates/services/gateway", &["resources", "daemon"]),
        crate_at("crates/services/controller", &["planner", "daemon"]),
        crate_at("crates/services/operator", &["controller"]),
        crate_at("crates/apps/berth", &["gateway", "controller"]),
        crate_at("tests/load", &["daemon"]),
        crate_at("xtask", &["anyhow@"]),
    ]
}

#[test]
fn the_house_stands() {
    assert_eq!(findings(&house()), Vec::<String>::new());
}

#[test]
fn wrong_directions_are_found() {
    for (folder, uses, says) in [
        ("crates/pure/learning", "resources", "pure crates use no other"),
        ("crates/pure/learning", "daemon", "pure crates use no other"),
        ("crates/support/access", "daemon", "support uses pure crates only"),
        ("crates/services/runtime", "gateway", "never each other"),
        ("crates/apps/console", "load", "nothing uses tests"),
        ("crates/pure/learning", "tokio@", "is not on the list"),
        ("crates/pure/learning", "proptest@", "is not on the list"),
        ("crates/pure/learning", "tempfile@dev", "is not on the list"),
    ] {
        let mut packages = house();
        packages.push(crate_at(folder, &[uses]));
        let found = findings(&packages);
        assert_eq!(found.len(), 1, "{folder} uses {uses}: {found:?}");
        assert!(found[0].starts_with(&format!("{folder}/Cargo.toml: ")) && found[0].contains(says), "{found:?}");
    }
}

#[test]
fn wrong_places_and_names_are_found() {
    assert!(findings(&[crate_at("lib/thing", &[])])[0].contains("outside the house"));
    assert!(findings(&[crate_at("crates/thing", &[])])[0].contains("outside the house"));
    assert!(findings(&[crate_at("crates/pure/utils", &[])])[0].contains("says nothing"));
    let mut renamed = crate_at("crates/pure/planner", &[]);
    renamed.name = "plans".to_owned();
    assert!(findings(&[renamed])[0].contains("one name"));
}
