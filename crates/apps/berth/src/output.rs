//! Prints: results on standard output, everything else on standard error.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::{
    cli::{Format, Global},
    failure::{Exit, Failure},
};

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    color_out: bool,
    color_err: bool,
}

/// What a word says, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Waiting,
    Head,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let asked_not_to = global.no_color || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format: global.output,
            quiet: global.quiet,
            color_out: !asked_not_to && io::stdout().is_terminal(),
            color_err: !asked_not_to && io::stderr().is_terminal(),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether people read it.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    pub(crate) fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Prints a result for people.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()?;
        Ok(())
    }

    /// Prints a result for programs.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => resources::manifest::to_yaml(value)
                .map_err(|error| Failure::failed(format!("cannot write YAML: {error}")))?,
            _ => serde_json::to_string_pretty(value)
                .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?,
        };
        self.text(text.trim_end())
    }

    /// Prints a manifest: YAML unless JSON is asked for.
    pub(crate) fn manifest(&self, value: &impl Serialize) -> Result<(), Failure> {
        let format = if self.format == Format::Json { Format::Json } else { Format::Yaml };
        Self { format, ..*self }.value(value)
    }

    /// Prints one of many results for programs: a line of JSON, or a document of YAML.
    pub(crate) fn item(&self, value: &impl Serialize) -> Result<(), Failure> {
        if self.format == Format::Yaml {
            self.text("---")?;
            return self.value(value);
        }
        let text =
            serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        self.text(&text)
    }

    /// Says something to people that is no result; `--quiet` keeps it.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            drop(writeln!(io::stderr().lock(), "{text}"));
        }
    }

    /// Says something that people should know even with `--quiet`.
    pub(crate) fn warning(&self, text: &str) {
        let label = self.label("warning", AnsiColor::Yellow);
        drop(writeln!(io::stderr().lock(), "{label} {text}"));
    }

    /// Says why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.exit == Exit::Quiet {
            return;
        }
        let mut text = format!("{} {}", self.label("error", AnsiColor::Red), indented(&failure.message));
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{} {}", self.label("hint", AnsiColor::Cyan), indented(hint)));
        }
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// A word for standard output in the colour of what it says.
    pub(crate) fn toned(&self, word: &str, tone: Tone) -> String {
        let style = match tone {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Waiting => AnsiColor::Yellow.on_default(),
            Tone::Head => Style::new().bold(),
        };
        if self.color_out { format!("{style}{word}{style:#}") } else { word.to_owned() }
    }

    fn label(&self, word: &str, color: AnsiColor) -> String {
        let style = color.on_default().bold();
        if self.color_err { format!("{style}{word}:{style:#}") } else { format!("{word}:") }
    }
}

/// Later lines stand under the first.
fn indented(text: &str) -> String {
    printable(text).replace('\n', "\n  ")
}

/// Text that came from elsewhere, such as a log or a file's name, without what a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_commanded() {
        assert_eq!(printable("a\u{1b}[31mb\tc\nd\u{9b}"), "a\u{fffd}[31mb\tc\nd\u{fffd}");
        assert_eq!(indented("a\nb"), "a\n  b");
    }
}
