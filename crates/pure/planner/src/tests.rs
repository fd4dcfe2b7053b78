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
        ("rollout_promote", include_str!("scripts/rollout_promote.txt")),
        ("rollout_back", include_str!("scripts/rollout_back.txt")),
        ("rollout_harm", include_str!("scripts/rollout_harm.txt")),
        ("rollout_hold", include_str!("scripts/rollout_hold.txt")),
        ("rollout_wishes", include_str!("scripts/rollout_wishes.txt")),
        ("rollout_restart", include_str!("scripts/rollout_restart.txt")),
        ("rollout_crash", include_str!("scripts/rollout_crash.txt")),
        ("rollout_relapse", include_str!("scripts/rollout_relapse.txt")),
        ("pressure", include_str!("scripts/pressure.txt")),
        ("shadow", include_str!("scripts/shadow.txt")),
        ("scale", include_str!("scripts/scale.txt")),
        ("scaled_rollout", include_str!("scripts/scaled_rollout.txt")),
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
