//! The key that this machine's own commands use.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use resources::{
    access::{KeyCreate, KeyView, Permission},
    id::ServiceName,
};

use crate::{context::Context, failure::Failure};

/// Name of the key.
const NAME: &str = "local";
/// Everything that people do with models of their own machine.
const ALLOW: [&str; 3] = ["infer:*", "preview:*", "metrics"];

/// Makes sure that the key is there and that its file holds it.
pub(super) async fn ensure(context: &Context) -> Result<(), Failure> {
    let client = &context.client;
    let file = context.local_key();
    let keys = client.keys().await?.items;
    let known = keys.iter().find(|key| key.name == NAME);
    match fs::read_to_string(&file) {
        Ok(text) if known.is_some_and(|key| is_of(text.trim(), key) && permits_all(key)) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::io("read", &file, &error)),
        _ => {}
    }
    if let Some(known) = known {
        // Its secret is nowhere any more, so nobody misses it.
        client.revoke_key(&known.id).await?;
    }
    let broken = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot make the key: {error}"));
    let name = ServiceName::parse(NAME).map_err(|error| broken(&error))?;
    let allow: Result<Vec<Permission>, _> = ALLOW.into_iter().map(Permission::parse).collect();
    let created = client.create_key(&KeyCreate { name, allow: allow.map_err(|error| broken(&error))? }).await?;
    write_private(&file, format!("{}\n", created.key).as_bytes()).map_err(|error| Failure::io("write", &file, &error))
}

/// Whether a key permits what it is made for; one of an earlier version may not.
fn permits_all(key: &KeyView) -> bool {
    ALLOW.iter().all(|wanted| key.allow.iter().any(|allowed| allowed.to_string() == *wanted))
}

/// Whether a text is the key of this id, as far as can be seen without its digest.
fn is_of(text: &str, key: &KeyView) -> bool {
    let rest = text.strip_prefix("berth_").and_then(|rest| rest.strip_prefix(key.id.as_str()));
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'))
}

/// Writes a file that its owner alone can read: wholly or not at all, and on the disk when it comes back.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = parent.join(name);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    });
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_belongs_to_a_key_by_its_id() {
        let key = KeyView { id: "abc".to_owned(), name: NAME.to_owned(), allow: Vec::new(), created_at: String::new() };
        assert!(is_of("berth_abc_secret", &key));
        for text in ["berth_abcd_secret", "berth_abc_", "berth_abc", "abc_secret", ""] {
            assert!(!is_of(text, &key), "{text}");
        }
    }

    #[test]
    fn private_files() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("k");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        assert!(write_private(&home.path().join("no/where"), b"").is_err());
    }
}
