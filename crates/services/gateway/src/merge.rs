//! Joins the metrics of several processes into one text, each sample labelled with the replica it comes from. Pure.
//!
//! The result is Prometheus' text format 0.0.4. Sources may be OpenMetrics 1.0, whose counters are named without `_total` in their
//! `# TYPE` line; they are recognised by their `# EOF`.

use std::collections::BTreeMap;

/// Bytes of one replica's metrics.
pub(crate) const SOURCE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Content type of the result.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Default)]
struct Group {
    help: Option<String>,
    kind: Option<String>,
    samples: Vec<String>,
}

/// Metrics of several processes, by family.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    groups: BTreeMap<String, Group>,
}

impl Merged {
    /// Adds a process's metrics. Lines that are not understood are left out.
    pub(crate) fn add(&mut self, text: &str, replica: Option<&str>) {
        let open_metrics = text.trim_end().ends_with("# EOF");
        let mut family = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut parts = comment.splitn(3, ' ');
                let (what, name, rest) =
                    (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                match what {
                    Some("HELP") => self.group(name).help.get_or_insert_with(|| rest.to_owned()),
                    Some("TYPE") => {
                        name.clone_into(&mut family);
                        self.group(name).kind.get_or_insert_with(|| kind(rest, open_metrics).to_owned())
                    }
                    _ => continue,
                };
            } else if let Some(sample) = labelled(line, replica) {
                let name = sample_name(line);
                let of_family = name.strip_prefix(family.as_str()).is_some_and(|rest| {
                    !family.is_empty()
                        && matches!(rest, "" | "_total" | "_bucket" | "_sum" | "_count" | "_created" | "_info")
                });
                let key = if of_family { family.as_str() } else { name };
                self.group(key).samples.push(sample);
            }
        }
    }

    fn group(&mut self, family: &str) -> &mut Group {
        self.groups.entry(family.to_owned()).or_default()
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        let mut text = String::new();
        for (family, group) in self.groups {
            if group.samples.is_empty() {
                continue;
            }
            // In this format a counter's family has the name of its samples.
            let counts = group.kind.as_deref() == Some("counter") && !family.ends_with("_total");
            let total = group.samples.iter().all(|sample| sample_name(sample).ends_with("_total"));
            let name = if counts && total { format!("{family}_total") } else { family };
            if let Some(help) = group.help {
                text.push_str(&format!("# HELP {name} {help}\n"));
            }
            if let Some(kind) = group.kind {
                text.push_str(&format!("# TYPE {name} {kind}\n"));
            }
            for sample in group.samples {
                text.push_str(&sample);
                text.push('\n');
            }
        }
        text
    }
}

fn kind(kind: &str, open_metrics: bool) -> &str {
    match kind.trim() {
        "unknown" if open_metrics => "untyped",
        "info" | "stateset" if open_metrics => "gauge",
        kind => kind,
    }
}

fn sample_name(line: &str) -> &str {
    line.split(['{', ' ']).next().unwrap_or_default()
}

/// A sample with the label added; nothing when the line is not a sample.
fn labelled(line: &str, replica: Option<&str>) -> Option<String> {
    let name = sample_name(line);
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    if name.is_empty() || !name.bytes().all(named) {
        return None;
    }
    let rest = line.strip_prefix(name)?;
    // Exemplars stand after `#` and have no place in this format.
    let rest = rest.split_once(" # ").map_or(rest, |(sample, _)| sample);
    let Some(replica) = replica else { return Some(format!("{name}{rest}")) };
    let label = format!("replica=\"{}\"", replica.replace(['\\', '"', '\n'], "_"));
    match rest.strip_prefix('{') {
        Some(labels) if labels.starts_with('}') => Some(format!("{name}{{{label}{labels}")),
        Some(labels) => Some(format!("{name}{{{label},{labels}")),
        None => Some(format!("{name}{{{label}}}{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_stand_together_with_one_head() {
        let one = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 3\n# TYPE g gauge\ng 1\n# EOF\n";
        let other = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 4\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n# EOF\n";
        let plain = "# TYPE nv_inference_count counter\nnv_inference_count{model=\"m\"} 7\n";
        let mut merged = Merged::default();
        merged.add(one, None);
        merged.add(other, Some("r-1"));
        merged.add(plain, Some("r-2"));
        let wanted = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{replica=\"r-1\",x=\"1\"} 4\n\
            # TYPE g gauge\ng 1\n\
            # TYPE h histogram\nh_bucket{replica=\"r-1\",le=\"+Inf\"} 2\nh_sum{replica=\"r-1\"} 1.5\nh_count{replica=\"r-1\"} 2\n\
            # TYPE nv_inference_count counter\nnv_inference_count{replica=\"r-2\",model=\"m\"} 7\n";
        assert_eq!(merged.text(), wanted);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[#a-z{}\"=,. \\nTYPEHLO_0-9]{0,300}") {
            let mut merged = Merged::default();
            merged.add(&text, Some("r"));
            drop(merged.text());
        }
    }
}
