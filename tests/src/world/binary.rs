//! The product's binary: built once per test run, so that nobody tests yesterday's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde::Deserialize;

/// One line of cargo's report.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Where the product's binary is. `BIVOUAC_BIN` names one that was built already.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn product() -> &'static Path {
    static BINARY: LazyLock<PathBuf> =
        LazyLock::new(|| std::env::var_os("BIVOUAC_BIN").map_or_else(build, PathBuf::from));
    &BINARY
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--workspace", "--bin", "bivouac", "--message-format", "json", "--quiet"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "the binary does not build");
    let report = String::from_utf8_lossy(&built.stdout);
    let mut executables =
        report.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable);
    executables.next_back().expect("cargo names the executable")
}
