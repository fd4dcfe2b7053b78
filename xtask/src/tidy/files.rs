//! Files: their first line, their length, their name, and words that mean something on one machine only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::Finding;
use crate::workspace::output;

/// Longest file, in lines.
const LINES_MAX: usize = 800;

/// Longest test module inside the file that it tests, in lines.
const INLINE_TEST_LINES_MAX: usize = 100;

/// Largest file that is text of ours; what is larger is no source.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Folders of one machine. In parts, so that this file is not found.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Checks every file that git has or would take.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names = output(Command::new("git").arg("-C").arg(root).args(listed))?;
    let mut findings = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let path = PathBuf::from(name);
        // A file that git has and the work tree has not, or that is no text, is not looked at.
        let Ok(bytes) = fs::read(root.join(&path)) else { continue };
        if bytes.len() > TEXT_BYTES_MAX {
            continue;
        }
        if let Ok(text) = String::from_utf8(bytes) {
            findings.extend(check_file(&path, &text));
        }
    }
    Ok(findings)
}

fn check_file(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = words_of_a_machine(path, text).into_iter().collect();
    let extension = path.extension().and_then(|extension| extension.to_str());
    let source = matches!(extension, Some("rs" | "py" | "sh"));
    let lines = text.lines().count();
    if source && lines > LINES_MAX {
        let what = format!("{lines} lines, more than {LINES_MAX}: split it by what its parts are about");
        findings.push(Finding::at(path, what));
    }
    if extension == Some("rs") {
        findings.extend(check_rust(path, text));
    }
    findings
}

fn check_rust(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
        findings.push(Finding::at(path, "begins without a `//!` line: say in one sentence what the file is"));
    }
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        findings.push(Finding::at(path, "is a `mod.rs`: name it after its module, `foo.rs` beside `foo/`"));
    }
    let inline = inline_test_lines(text);
    if inline > INLINE_TEST_LINES_MAX {
        let what = format!(
            "{inline} lines of tests inside, more than {INLINE_TEST_LINES_MAX}: move them to `{}/tests.rs`",
            path.with_extension("").display()
        );
        findings.push(Finding::at(path, what));
    }
    findings
}

/// Lines of the module at the left margin that `#[cfg(test)]` marks.
fn inline_test_lines(text: &str) -> usize {
    let mut lines = text.lines().skip_while(|line| *line != "#[cfg(test)]").skip(1);
    let opens = lines.by_ref().find(|line| !line.starts_with("#["));
    if opens.is_some_and(|line| line.contains("mod ") && line.ends_with('{')) {
        lines.take_while(|line| *line != "}").count()
    } else {
        0
    }
}

fn words_of_a_machine(path: &Path, text: &str) -> Option<Finding> {
    let (number, found) = text.lines().enumerate().find_map(|(index, line)| {
        MACHINE_PATHS.iter().find(|found| line.contains(**found)).map(|found| (index + 1, found))
    })?;
    let what = format!("`{found}` is a folder of one machine: take the path from the environment or an argument");
    Some(Finding::new(format!("{}:{number}", path.display()), what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Vec<String> {
        check_file(Path::new(name), text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_passes() {
        assert_eq!(found("crates/a/src/lib.rs", "//! What it is.\n\nfn f() {}\n"), Vec::<String>::new());
        assert_eq!(found("docs/a.md", "# Words\n"), Vec::<String>::new());
    }

    #[test]
    fn the_first_line_says_what_the_file_is() {
        for text in ["", "fn f() {}\n", "// Not a doc line.\n", "\n//! Late.\n"] {
            let found = found("a.rs", text);
            assert!(found.len() == 1 && found[0].contains("`//!`"), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn long_files_are_found_and_long_documents_are_not() {
        let text = format!("//! Long.\n{}", "\n".repeat(LINES_MAX));
        assert!(found("a.rs", &text)[0].contains("split it"));
        assert!(found("a.py", &text)[0].contains("split it"));
        assert_eq!(found("a.md", &text), Vec::<String>::new());
        let longest = format!("//! Long.\n{}", "\n".repeat(LINES_MAX - 1));
        assert_eq!(found("a.rs", &longest), Vec::<String>::new());
    }

    #[test]
    fn long_tests_get_a_file_of_their_own() {
        let with = |lines: usize| {
            format!(
                "//! A.\n#[cfg(test)]\n#[expect(x)]\npub(crate) mod tests {{\n{}}}\nfn f() {{}}\n",
                "    //\n".repeat(lines)
            )
        };
        assert_eq!(found("a.rs", &with(INLINE_TEST_LINES_MAX)), Vec::<String>::new());
        assert!(found("src/a.rs", &with(INLINE_TEST_LINES_MAX + 1))[0].contains("`src/a/tests.rs`"));
        let elsewhere = format!("//! A.\n#[cfg(test)]\nmod tests;\n{}", "//\n".repeat(200));
        assert_eq!(found("a.rs", &elsewhere), Vec::<String>::new());
    }

    #[test]
    fn mod_files_and_machine_paths_are_found() {
        assert!(found("a/mod.rs", "//! A.\n")[0].contains("mod.rs"));
        let text = format!("one\ntwo {}x\n", MACHINE_PATHS[0]);
        assert!(found("docs/a.md", &text)[0].starts_with("docs/a.md:2: "));
    }
}
