//! Where the client commands find the service that runs on this machine: the file that `bivouac dev` and
//! `make cluster` leave.

use std::path::PathBuf;

use anyhow::Context;

use crate::ready_file::Bound;

/// `${XDG_STATE_HOME:-~/.local/state}/bivouac`.
pub(crate) fn state_dir() -> anyhow::Result<PathBuf> {
    // A relative XDG directory is invalid and to be ignored, says its specification.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|base| base.join("bivouac"))
        .context("neither XDG_STATE_HOME nor HOME names a folder to keep state in")
}

/// The discovery file.
pub(crate) fn file() -> anyhow::Result<PathBuf> {
    Ok(state_dir()?.join("current.json"))
}

/// What it says, if it is there.
pub(crate) fn read() -> anyhow::Result<Option<Bound>> {
    let path = file()?;
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
}

/// Removes the file, unless another instance has written its own by now.
pub(crate) fn forget(ours: &Bound) {
    if let (Ok(path), Ok(Some(found))) = (file(), read())
        && found == *ours
    {
        std::fs::remove_file(path).ok();
    }
}
