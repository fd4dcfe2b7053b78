//! Golden scripts, and random histories that every plan must survive.

mod random;
mod script;
mod world;

#[test]
fn scripts_give_the_plans_they_say() {
    let scripts = [
        ("first_start", include_str!("scripts/first_start.txt")),
        ("rollout", include_str!("scripts/rollout.txt")),
        ("crash_loop", include_str!("scripts/crash_loop.txt")),
        ("failed_rollout", include_str!("scripts/failed_rollout.txt")),
        ("restart", include_str!("scripts/restart.txt")),
        ("delete", include_str!("scripts/delete.txt")),
        ("limits", include_str!("scripts/limits.txt")),
        ("stuck", include_str!("scripts/stuck.txt")),
        ("stuck_run", include_str!("scripts/stuck_run.txt")),
        ("canary", include_str!("scripts/canary.txt")),
        ("shadow", include_str!("scripts/shadow.txt")),
    ];
    let wrong: Vec<String> = scripts
        .into_iter()
        .filter_map(|(name, text)| {
            let played = script::play(text);
            (played != text).then(|| format!("==> {name}.txt plays as\n{played}<==\n"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
