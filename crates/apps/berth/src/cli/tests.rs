//! The command line as a contract: its help is a checked-in document.

use clap::CommandFactory as _;

use super::*;

/// The document, in the root of the project.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/reference/cli.md");

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn contract_of_the_command_line() {
    let rendered = rendered();
    if std::env::var("BERTH_CONTRACTS").is_ok_and(|value| value == "write") {
        std::fs::write(DOCUMENT, rendered).unwrap();
        return;
    }
    let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(written == rendered, "docs/reference/cli.md is not what `--help` says: run `make contracts`");
}

/// Every `--help` as one document.
fn rendered() -> String {
    let mut text = "# Command line\n\nWhat `--help` says of every command. Written by `make contracts`.\n".to_owned();
    let mut command = Cli::command().term_width(100);
    command.build();
    section(&mut command, "berth", &mut text);
    text
}

fn section(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let mark = if path.contains(' ') { "##" } else { "## The executable:" };
    text.push_str(&format!("\n{mark} `{path}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            section(sub, &format!("{path} {name}"), text);
        }
    }
}

#[test]
fn every_command_has_examples() {
    fn check(command: &clap::Command, path: &str) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:\n"), "{path}");
        // An example that does not parse helps nobody.
        for line in help.lines().filter_map(|line| line.strip_prefix("  berth ")) {
            let line = line.split(" | ").next().and_then(|line| line.split(" > ").next()).unwrap_or_default();
            let words = line.split_whitespace().map(|word| word.trim_matches('\''));
            let parsed = Cli::try_parse_from(std::iter::once("berth").chain(words));
            assert!(parsed.is_ok(), "{path}: `berth {line}`: {}", parsed.unwrap_err());
        }
        for sub in command.get_subcommands() {
            check(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    check(&Cli::command(), "berth");
}

#[test]
fn options_of_every_command_may_stand_anywhere() {
    for line in ["berth -o json get", "berth get -o json", "berth key list --data-dir /d -q", "berth --no-color doctor"]
    {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    let cli = Cli::try_parse_from("berth controller --data-dir /d".split(' ')).unwrap();
    assert!(matches!(cli.command, Command::Controller(args) if args.data_dir.to_str() == Some("/d")));
}

#[test]
fn usage_that_is_wrong() {
    for line in [
        "berth",
        "berth deploy",
        "berth deploy a b c",
        "berth get -o xml",
        "berth infer spam",
        "berth infer spam --input x --key secret",
        "berth key create x",
        "berth key create x --allow everything",
        "berth up --tls-cert c",
        "berth logs x --tail 0",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
