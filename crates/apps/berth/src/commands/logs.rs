//! `berth logs`: lines of the replicas' logs, for people or as they were written.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    cli::Logs,
    context::Context,
    failure::Failure,
    output::{Output, printable},
};

/// How often `--follow` asks: soon enough for a person, seldom enough for the controller.
const PAUSE: Duration = Duration::from_millis(700);
/// Lines that `--follow` looks at; more than are written between two questions.
const WINDOW: u32 = 2_000;

pub(super) async fn logs(context: &Context, args: &Logs) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let replica = args.replica.as_deref();
    let text = client.logs(&args.name, args.tail, replica).await?;
    print(out, text.lines())?;
    if !args.follow {
        if text.is_empty() {
            out.note("no lines yet");
        }
        return Ok(());
    }
    let mut seen = client.logs(&args.name, WINDOW, replica).await?;
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = client.logs(&args.name, WINDOW, replica).await?;
        print(out, added(&seen, &now).into_iter())?;
        seen = now;
    }
}

fn print<'a>(out: Output, lines: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    for line in lines {
        if out.is_for_people() { out.text(&readable(line))? } else { out.text(line)? }
    }
    Ok(())
}

/// Lines of `now` that `seen` does not have. Both are the ends of the same logs.
fn added<'a>(seen: &str, now: &'a str) -> Vec<&'a str> {
    let mut known = std::collections::HashMap::new();
    for line in seen.lines() {
        *known.entry(line).or_insert(0_usize) += 1;
    }
    let is_new = |line: &&str| match known.get_mut(*line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    now.lines().filter(is_new).collect()
}

/// A line of JSON as `time LEVEL message name=value`; any other line as it is. The replica's id stays before it.
fn readable(line: &str) -> String {
    let (before, json) = line.find('{').map_or((line, ""), |at| line.split_at(at));
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(json) else { return printable(line) };
    let mut take = |name: &str| fields.remove(name).as_ref().map(plain).unwrap_or_default();
    let (time, level, message) = (take("timestamp"), take("level"), take("message"));
    let target = take("target");
    drop(target);
    let rest = flat("", &fields);
    let text = format!("{before}{time} {level:<5} {message}{rest}");
    printable(text.trim_end())
}

fn flat(prefix: &str, fields: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        match value {
            Value::Object(inner) => text.push_str(&flat(&format!("{prefix}{name}."), inner)),
            value => text.push_str(&format!(" {prefix}{name}={}", plain(value))),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let line = r#"spam-1-x  {"timestamp":"T","level":"INFO","message":"ready","target":"runtime","model":"spam","span":{"id":7}}"#;
        assert_eq!(readable(line), "spam-1-x  T INFO  ready model=spam span.id=7");
        assert_eq!(readable("plain {text"), "plain {text");
        assert_eq!(readable("red \u{1b}[31m"), "red \u{fffd}[31m");
    }

    #[test]
    fn what_was_added() {
        assert_eq!(added("a\nb\nb\n", "b\nb\nb\nc\n"), ["b", "c"]);
        assert_eq!(added("a\n", "a\n"), [""; 0]);
    }
}
