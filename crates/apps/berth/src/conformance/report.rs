//! The results, as a table, JUnit XML, or for serde.

use std::fmt::Write as _;

use serde::Serialize;

/// How much a check weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The specification demands it. A failure fails the run.
    Required,
    /// Careful servers do it.
    Optional,
    /// Part of an extension.
    Extension,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As the clause says.
    Pass,
    /// Not as the clause says; with what was seen.
    Fail(String),
    /// It does not apply to this server or model; with why.
    Skip(String),
}

/// What a check is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Stable id, such as `rest.infer.id`.
    pub(crate) id: &'static str,
    /// How much it weighs.
    pub(crate) level: Level,
    /// What must hold.
    pub(crate) title: &'static str,
    /// Where that is written.
    pub(crate) clause: &'static str,
}

#[derive(Debug, Serialize)]
struct Row {
    id: &'static str,
    level: Level,
    title: &'static str,
    clause: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// Collects results.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Recorder {
    pub(super) fn record(&mut self, check: Check, outcome: Outcome) {
        let (outcome, detail) = match outcome {
            Outcome::Pass => ("pass", String::new()),
            Outcome::Fail(detail) => ("fail", detail),
            Outcome::Skip(detail) => ("skip", detail),
        };
        let Check { id, level, title, clause } = check;
        self.rows.push(Row { id, level, title, clause, outcome, detail });
    }

    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(super) fn finish(self, url: &str, grpc: Option<&str>, model: &str) -> Report {
        Report {
            url: url.to_owned(),
            grpc: grpc.map(str::to_owned),
            model: model.to_owned(),
            passed: self.count("pass"),
            failed: self.count("fail"),
            skipped: self.count("skip"),
            checks: self.rows,
            notes: self.notes,
        }
    }

    fn count(&self, outcome: &str) -> usize {
        self.rows.iter().filter(|row| row.outcome == outcome).count()
    }
}

/// Every result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    model: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    checks: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Whether a required check failed.
    pub(crate) fn failed(&self) -> bool {
        self.checks.iter().any(|row| row.level == Level::Required && row.outcome == "fail")
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let width = self.checks.iter().map(|row| row.id.len()).max().unwrap_or_default();
        let mut text = String::new();
        for row in &self.checks {
            let mark = match row.outcome {
                "pass" => "ok  ",
                "fail" => "FAIL",
                _ => "skip",
            };
            let level = format!("{:?}", row.level).to_lowercase();
            let _ = writeln!(text, "{mark}  {level:<9}  {:<width$}  {}", row.id, row.title);
            if !row.detail.is_empty() {
                let _ = writeln!(text, "      {:<9}  {:<width$}  {} [{}]", "", "", row.detail, row.clause);
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = write!(text, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        text
    }

    /// For CI systems.
    pub(crate) fn junit(&self) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            text,
            "<testsuite name=\"open-inference-protocol\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            self.checks.len(),
            self.failed,
            self.skipped
        );
        for row in &self.checks {
            let _ = write!(
                text,
                "  <testcase classname=\"{:?}\" name=\"{}: {}\"",
                row.level,
                escape(row.id),
                escape(row.title)
            );
            let detail = escape(&format!("{} [{}]", row.detail, row.clause));
            let _ = match row.outcome {
                "fail" => writeln!(text, "><failure message=\"{detail}\"/></testcase>"),
                "skip" => writeln!(text, "><skipped message=\"{detail}\"/></testcase>"),
                _ => writeln!(text, "/>"),
            };
        }
        text.push_str("</testsuite>");
        text
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
