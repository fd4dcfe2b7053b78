//! What every command works with: the data directory, the client, the output.

use std::{
    env,
    path::{Path, PathBuf},
};

use client::Client;

use crate::{
    cli::Global,
    failure::{Exit, Failure},
    output::Output,
    progress::Progress,
};

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) out: Output,
}

impl Context {
    pub(crate) fn new(global: Global, out: Output) -> Result<Self, Failure> {
        let data_dir = data_dir(global.data_dir, |name| env::var_os(name).map(PathBuf::from))?;
        Ok(Self { client: Client::new(data_dir), out })
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.client.data_dir()
    }

    /// The file of the key that this machine's own commands use.
    pub(crate) fn local_key(&self) -> PathBuf {
        self.data_dir().join("local.key")
    }

    /// What is done meanwhile.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.out.is_quiet())
    }
}

/// The data directory, absolute: what was given, or the user's.
fn data_dir(given: Option<PathBuf>, env: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let filled = |path: &PathBuf| !path.as_os_str().is_empty();
    let chosen = given.filter(filled).or_else(|| {
        let base = env("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let base = base.or_else(|| env("HOME").filter(filled).map(|home| home.join(".local/share")));
        base.map(|base| base.join("berth"))
    });
    let Some(chosen) = chosen else {
        return Err(
            Failure::new(Exit::Usage, "there is no home directory").hint("name a data directory: `--data-dir DIR`")
        );
    };
    std::path::absolute(&chosen).map_err(|error| Failure::io("find", &chosen, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory() {
        let both = |name: &str| match name {
            "XDG_DATA_HOME" => Some(PathBuf::from("/x")),
            "HOME" => Some(PathBuf::from("/home/a")),
            _ => None,
        };
        let home = |name: &str| both(name).filter(|_| name == "HOME");
        assert_eq!(data_dir(Some("/d".into()), both).unwrap(), Path::new("/d"));
        assert_eq!(data_dir(Some("".into()), both).unwrap(), Path::new("/x/berth"));
        assert_eq!(data_dir(None, home).unwrap(), Path::new("/home/a/.local/share/berth"));
        assert!(data_dir(Some("d".into()), home).unwrap().is_absolute());
        assert_eq!(data_dir(None, |_| None).unwrap_err().exit, Exit::Usage);
    }
}
