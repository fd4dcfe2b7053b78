//! What is being waited for: a spinner on a terminal, a line for each change otherwise. On standard error.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::printable;

/// A message longer than the line is cut.
fn style() -> ProgressStyle {
    let style = ProgressStyle::default_spinner();
    let cut = style.clone().template("{spinner} {wide_msg}").unwrap_or(style);
    cut.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

/// Says what is being waited for.
#[derive(Debug)]
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
    quiet: bool,
    last: String,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { spinner: None, quiet, last: String::new() }
    }

    /// Only on a terminal: for what is usually over at once.
    pub(crate) fn hint(&mut self, text: &str) {
        if io::stderr().is_terminal() {
            self.say(text);
        }
    }

    /// It is waited for `text` now.
    pub(crate) fn say(&mut self, text: &str) {
        let text = printable(text);
        let text = text.lines().next().unwrap_or_default();
        if self.quiet || text == self.last {
            return;
        }
        text.clone_into(&mut self.last);
        if !io::stderr().is_terminal() {
            drop(writeln!(io::stderr().lock(), "{text}"));
            return;
        }
        let spinner = self.spinner.get_or_insert_with(|| {
            let spinner = ProgressBar::new_spinner();
            spinner.set_style(style());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        spinner.set_message(text.to_owned());
    }

    /// The wait is over; what was said disappears from a terminal.
    pub(crate) fn done(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        self.last.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
