//! `berth key`: make, list, revoke.

use std::path::Path;

use resources::{
    access::{KeyCreate, KeyView, Permission},
    id::ServiceName,
};
use serde_json::json;

use crate::{cli::Key, context::Context, failure::Failure, quantities::age, table::table, up::write_private};

pub(super) async fn key(context: &Context, key: Key) -> Result<(), Failure> {
    match key {
        Key::Create { name, allow, save } => create(context, &name, allow, save.as_deref()).await,
        Key::List => list(context).await,
        Key::Revoke { keys } => revoke(context, &keys).await,
    }
}

async fn create(context: &Context, name: &str, allow: Vec<Permission>, save: Option<&Path>) -> Result<(), Failure> {
    let out = context.out;
    let name = ServiceName::parse(name).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(path) = save.filter(|path| path.exists()) {
        return Err(Failure::failed(format!("`{}` exists already: choose another file", path.display())));
    }
    let created = context.client.create_key(&KeyCreate { name, allow }).await?;
    if let Some(path) = save {
        if let Err(error) = write_private(path, created.key.as_bytes()) {
            // Nobody has seen it, so nobody can use it.
            context.client.revoke_key(&created.view.id).await?;
            return Err(Failure::io("write", path, &error).hint("the key was revoked again"));
        }
        return if out.is_for_people() {
            out.text(&format!("key `{}` written to {}", created.view.name, path.display()))
        } else {
            out.value(&created.view)
        };
    }
    if !out.is_for_people() {
        return out.value(&created);
    }
    out.note(&format!("key `{}` ({}) permits {}", created.view.name, created.view.id, permissions(&created.view)));
    out.note("it is shown this once:");
    out.text(&created.key)
}

async fn list(context: &Context) -> Result<(), Failure> {
    let (list, out) = (context.client.keys().await?, context.out);
    if !out.is_for_people() {
        return out.value(&list);
    }
    if list.items.is_empty() {
        out.note("no keys; `berth key create NAME --allow infer:SERVICE` makes one");
        return Ok(());
    }
    let now_ms = daemon::time::now_ms();
    let rows = list
        .items
        .iter()
        .map(|key| vec![key.name.clone(), key.id.clone(), permissions(key), age(&key.created_at, now_ms)]);
    out.text(&table(&["NAME", "ID", "ALLOW", "AGE"], rows.collect()))
}

fn permissions(key: &KeyView) -> String {
    key.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn revoke(context: &Context, keys: &[String]) -> Result<(), Failure> {
    let out = context.out;
    let mut revoked = Vec::new();
    for key in keys {
        let done = context.client.revoke_key(key).await?;
        if !done.applied_by_gateway {
            out.warning(&format!(
                "`{key}` is revoked, but the gateway has not said yet that it knows: see `berth status`"
            ));
        }
        if out.is_for_people() {
            let id = if *key == done.revoked { String::new() } else { format!(" ({})", done.revoked) };
            out.text(&format!("key `{key}`{id} revoked"))?;
        }
        revoked.push(done);
    }
    match (out.is_for_people(), revoked.as_slice()) {
        (true, _) => Ok(()),
        (false, [one]) => out.value(one),
        (false, all) => out.value(&json!({"items": all})),
    }
}
