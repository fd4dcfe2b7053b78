//! CSV to loads.

use super::{Step, Trace};

/// Bytes of a trace: millions of arrivals.
const TEXT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Seconds of a trace: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A row is wrong.
    #[error("line {line}: {what}")]
    Row {
        /// Counts from 1.
        line: usize,
        /// What is wrong, and what is expected.
        what: String,
    },
    /// There is nothing in it.
    #[error("there are no rows: write `seconds,requests` rows, or one arrival a row")]
    Empty,
    /// It is longer than it may be.
    #[error("it is longer than a year: give seconds, not milliseconds, or take a part")]
    TooLong,
    /// It is larger than it may be.
    #[error("it is larger than 256 MiB: take a part of it")]
    TooLarge,
}

/// What the columns say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    Arrival,
    Requests,
    Rate,
}

pub(super) fn parse(text: &str) -> Result<Trace, TraceError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TraceError::TooLarge);
    }
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let mut rows = lines.by_ref().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).peekable();
    let Some((_, first)) = rows.peek().copied() else { return Err(TraceError::Empty) };
    let header = time(cell(first, 0)).is_none();
    if header {
        rows.next();
    }
    let Some((_, second)) = rows.peek().copied() else { return Err(TraceError::Empty) };
    let columns = columns(if header { first } else { "" }, second);
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (line, row) in rows {
        let at = time(cell(row, 0)).ok_or_else(|| TraceError::Row {
            line,
            what: format!("`{}` is no time: write seconds, or a date and time", cell(row, 0)),
        })?;
        if times.last().is_some_and(|before| *before > at) {
            return Err(TraceError::Row { line, what: "it is before the row above: sort by time".to_owned() });
        }
        times.push(at);
        if columns != Columns::Arrival {
            let text = cell(row, 1);
            let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
            let what = || format!("`{text}` is no number of requests: write a number from 0");
            values.push(value.ok_or_else(|| TraceError::Row { line, what: what() })?);
        }
    }
    finish(times, &values, columns)
}

fn finish(mut times: Vec<f64>, values: &[f64], columns: Columns) -> Result<Trace, TraceError> {
    let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
        return Err(TraceError::Empty);
    };
    times.iter_mut().for_each(|at| *at -= first);
    let length = last - first;
    if length > SECONDS_MAX {
        return Err(TraceError::TooLong);
    }
    if columns == Columns::Arrival {
        // A whole second more, so that the last one is within.
        return Ok(Trace { steps: Vec::new(), arrivals: times, seconds: length.floor() + 1.0 });
    }
    // The last step is as long as the one before it.
    let before = times.iter().rev().nth(1).copied();
    let seconds = length + before.map_or(1.0, |before| length - before).max(f64::MIN_POSITIVE);
    let ends: Vec<f64> = times.iter().skip(1).copied().chain([seconds]).collect();
    let steps = times.iter().zip(ends).zip(values).map(|((from_s, to_s), value)| {
        let rate = match columns {
            Columns::Requests if to_s > *from_s => value / (to_s - from_s),
            Columns::Requests => 0.0,
            _ => *value,
        };
        Step { from_s: *from_s, rate }
    });
    Ok(Trace { steps: steps.collect(), arrivals: Vec::new(), seconds })
}

/// A header says it; without one, numbers in two columns are requests of steps, and all else is arrivals.
fn columns(header: &str, row: &str) -> Columns {
    let names = header.to_ascii_lowercase();
    let second = cell(&names, 1);
    let is_number = |at: usize| cell(row, at).parse::<f64>().is_ok();
    if !is_number(0) || !is_number(1) || row.split(',').count() > 2 {
        Columns::Arrival
    } else if ["rate", "rps", "per_second"].iter().any(|word| second.contains(word)) {
        Columns::Rate
    } else {
        Columns::Requests
    }
}

fn cell(row: &str, at: usize) -> &str {
    row.split(',').nth(at).unwrap_or_default().trim().trim_matches('"')
}

/// Seconds, or the seconds since 1970 of `2023-11-16 18:17:03.98` with a space or a `T` between.
fn time(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds).filter(|seconds| seconds.is_finite());
    }
    let (date, clock) = text.trim_end_matches('Z').split_once([' ', 'T'])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let clock = clock.split_once('+').map_or(clock, |(clock, _)| clock);
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0.0))?);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && (1..=9999).contains(&year);
    fits.then(|| days(year, month, day) as f64 * 86_400.0 + hours * 3600.0 + minutes * 60.0 + seconds)
}

/// Days since 1970 of a date in the Gregorian calendar; years begin in March, so that the odd day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}
