//! The templates of the scenarios, written into a world's own folder.

use std::path::{Path, PathBuf};

use crate::guard;

/// Template of most scenarios: callers choose timeouts, environment, arguments and any text for `text`.
pub const GUEST: &str = "guest";
/// The same, and a request for the ended session starts it again.
pub const WAKING: &str = "guest-waking";
/// The same, and it is ready once `/healthz` answers.
pub const PROBED: &str = "guest-probed";
/// The same, always on the port that the parameter-less HCL2 variable `port` names: only one can run at a time.
pub const STATIC: &str = "guest-static";
/// A copy of the whiteboard that the product bundles, under a name that `bivouac dev` does not know: it would spawn one.
pub const WHITEBOARD: &str = "board";

const POLICY: &str = r#"access = "public"
idle_timeout = { default = "2s", min = "500ms", max = "10m" }
startup_timeout = { default = "60s", min = "1s", max = "10m" }
max_lifetime = { min = "1s", max = "1h" }
stop_grace = "2s"
allow = ["env", "args"]

[params.text]
default = ""
[params.short]
pattern = "^[a-z]{1,8}$"
"#;

const JOB: &str = r#"variable "guest" { type = string }
variable "diary" { type = string }
variable "owner" { type = string }

job "guest" {
  type = "batch"
  group "session" {
    network {
      port "http" {}
    }
    service {
      port = "http"
    }
    task "guest" {
      driver = "raw_exec"
      config {
        command = var.guest
        args    = ["text=${NOMAD_META_text}"]
      }
      env {
        GUEST_DIARY = var.diary
        GUEST_OWNER = var.owner
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
"#;

const PORT: &str = "variable \"port\" { default = 1 }\n";

/// Writes them; returns the folder.
pub(super) fn write(world: &Path, diary: &Path) -> PathBuf {
    let folder = world.join("templates");
    template(&folder, GUEST, "", "", diary);
    template(&folder, WAKING, "wake = true\n", "", diary);
    template(&folder, PROBED, "", "ready_path = \"/healthz\"\n", diary);
    template(&folder, STATIC, "", "", diary);
    let fixed = JOB.replace("port \"http\" {}", "port \"http\" { static = var.port }");
    let job = folder.join(STATIC).join("job.nomad.hcl");
    std::fs::write(job, format!("{PORT}{fixed}")).expect("the job");
    bundled("whiteboard", &folder.join(WHITEBOARD));
    folder
}

/// A copy of a template that the product bundles.
fn bundled(name: &str, target: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates").join(name);
    std::fs::create_dir_all(target).expect("the template's folder");
    for file in std::fs::read_dir(&source).expect("the bundled template") {
        let file = file.expect("a file of the bundled template");
        std::fs::copy(file.path(), target.join(file.file_name())).expect("a copy of it");
    }
}

fn template(folder: &Path, name: &str, policy: &str, port: &str, diary: &Path) {
    let guest = quoted(&guard::guest_binary().to_string_lossy());
    let diary = quoted(&diary.to_string_lossy());
    let owner = quoted(&std::process::id().to_string());
    let text = format!(
        r#"description = "The guest of the scenarios"
{policy}{POLICY}
[ports.http]
{port}
[process]
command = [{guest}]
env = {{ GUEST_DIARY = {diary}, GUEST_OWNER = {owner} }}

[nomad]
jobspec = "job.nomad.hcl"
variables = {{ guest = {guest}, diary = {diary}, owner = {owner} }}
"#
    );
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).expect("the template's folder");
    std::fs::write(folder.join("template.toml"), text).expect("template.toml");
    std::fs::write(folder.join("job.nomad.hcl"), JOB).expect("the job");
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a quoted text")
}
