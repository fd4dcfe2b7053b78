//! Ages and sizes for people.

/// Milliseconds since the epoch of an RFC 3339 time in UTC, as Berth writes it.
pub(crate) fn ms_of(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").chars().take(3).collect::<String>().parse().ok()?;
    // Howard Hinnant's `days_from_civil`.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + thousandths)
}

/// How long ago `time` was: `5s`, `3m`, `2h`, `9d`.
pub(crate) fn age(time: &str, now_ms: u64) -> String {
    let Some(ms) = ms_of(time) else { return "?".to_owned() };
    let seconds = now_ms.saturating_sub(ms) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ages() {
        let now = 1_795_478_399_999;
        for (before_s, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_300, "2h"), (172_900, "2d")] {
            assert_eq!(age(&daemon::time::rfc3339(now - before_s * 1000), now), text);
        }
        assert_eq!(age("yesterday", now), "?");
        assert_eq!(age("2100-01-01T00:00:00Z", now), "0s");
    }

    proptest! {
        #[test]
        fn what_berth_writes_is_read_back(ms in 0..253_370_764_800_000_u64) {
            prop_assert_eq!(ms_of(&daemon::time::rfc3339(ms)), Some(ms));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:.-]{0,30}") {
            let _ = ms_of(&text);
        }
    }
}
