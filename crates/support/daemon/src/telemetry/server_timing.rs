//! Reads `Server-Timing` (W3C Server Timing): what another process says about where the time went. Pure.

use std::time::Duration;

/// Most entries that are read; Berth's runtime writes two.
const ENTRIES_MAX: usize = 8;

/// Longest duration that is believed: no request lives as long.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Names and durations, in order. Entries without a duration, or with one that is no time, are left out.
pub(super) fn read(header: &str) -> Vec<(&str, Duration)> {
    header.split(',').take(ENTRIES_MAX).filter_map(read_entry).collect()
}

/// `name;dur=1.5;desc="…"`, the duration in milliseconds.
fn read_entry(entry: &str) -> Option<(&str, Duration)> {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().filter(|name| is_token(name))?;
    let milliseconds: f64 = parts.find_map(|part| part.strip_prefix("dur="))?.parse().ok()?;
    let duration = Duration::try_from_secs_f64(milliseconds / 1000.0).ok()?;
    (duration <= DURATION_MAX).then_some((name, duration))
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_runtime_writes() {
        let read = read("queue;dur=0.25, compute;dur=12.5;desc=\"run\"");
        assert_eq!(read, [("queue", Duration::from_micros(250)), ("compute", Duration::from_micros(12_500))]);
    }

    #[test]
    fn what_is_no_duration_is_left_out() {
        for header in [
            "",
            "queue",
            "queue;dur=",
            "queue;dur=-1",
            "queue;dur=NaN",
            "queue;dur=inf",
            "queue;dur=1e300",
            ";dur=1",
            "a b;dur=1",
        ] {
            assert_eq!(read(header), [], "{header}");
        }
        assert_eq!(read(&"a;dur=1,".repeat(100)).len(), ENTRIES_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(header in "\\PC*") {
            prop_assert!(read(&header).iter().all(|(_, duration)| *duration <= DURATION_MAX));
        }
    }
}
