//! The templates of the scenarios, written into a world's own folder.

use std::path::{Path, PathBuf};

use crate::agents::docker::IMAGE;
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

/// The same, ready once `/healthz` answers, and woken by a request. While its node is unreachable it is waited for.
pub const LASTING: &str = "guest-lasting";
/// The same, but given up once its node has been unreachable for 5 s.
pub const OVERLAPPING: &str = "guest-overlapping";

/// The same, with a job that asks for what its HCL2 variables `driver`, `memory`, `pool` and `namespace` say.
pub const DEMANDING: &str = "guest-demanding";

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

/// The job of all of them. What its variables are in a world, the templates say; elsewhere whoever uses it.
pub const GUEST_JOB: &str = r#"variable "guest" { type = string }
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

/// A template that one scenario brings along.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) name: String,
    pub(super) toml: String,
    pub(super) job: String,
}

/// Writes them, and those that the scenario brings along; returns the folder.
pub(super) fn write(world: &Path, diary: &Path, brought: &[Own]) -> PathBuf {
    let folder = world.join("templates");
    for Own { name, toml, job } in brought {
        whole(&folder.join(name), toml, job, diary);
    }
    template(&folder, GUEST, "", "", diary);
    template(&folder, WAKING, "wake = true\n", "", diary);
    template(&folder, PROBED, "", "ready_path = \"/healthz\"\n", diary);
    template(&folder, STATIC, "", "", diary);
    let fixed = GUEST_JOB.replace("port \"http\" {}", "port \"http\" { static = var.port }");
    let job = folder.join(STATIC).join("job.nomad.hcl");
    std::fs::write(job, format!("{PORT}{fixed}")).expect("the job");
    template(&folder, DEMANDING, "", "", diary);
    std::fs::write(folder.join(DEMANDING).join("job.nomad.hcl"), demanding()).expect("the job");
    for (name, nomad) in [(LASTING, "on_partition = \"wait\""), (OVERLAPPING, "overlap_after = \"5s\"")] {
        template(&folder, name, "wake = true\n", "ready_path = \"/healthz\"\n", diary);
        extend(&folder.join(name).join("template.toml"), nomad);
    }
    bundled("whiteboard", &folder.join(WHITEBOARD));
    folder
}

/// Has the guest's templates run it in a container. Network and pids are the host's, so that it is as near as a child.
pub(super) fn put_into_containers(world: &Path) {
    const BARE: &str = "driver = \"raw_exec\"\n      config {\n        command = var.guest\n";
    let container = format!(
        "driver = \"docker\"\n      config {{\n        image        = \"{IMAGE}\"\n        network_mode = \"host\"\n        \
         pid_mode     = \"host\"\n        volumes      = [\"${{var.diary}}:${{var.diary}}\"]\n"
    );
    for folder in std::fs::read_dir(world.join("templates")).expect("the templates") {
        let job = folder.expect("a template").path().join("job.nomad.hcl");
        let text = std::fs::read_to_string(&job).expect("the job");
        std::fs::write(&job, text.replace(BARE, &container)).expect("the job");
    }
}

fn demanding() -> String {
    let variable = |(name, default): (&str, &str)| format!("variable \"{name}\" {{ default = {default} }}\n");
    let defaults =
        [("driver", "\"raw_exec\""), ("memory", "32"), ("pool", "\"default\""), ("namespace", "\"default\"")];
    let variables: String = defaults.into_iter().map(variable).collect();
    let job = GUEST_JOB
        .replace("type = \"batch\"", "type = \"batch\"\n  node_pool = var.pool\n  namespace = var.namespace")
        .replace("driver = \"raw_exec\"", "driver = var.driver")
        .replace("memory = 32", "memory = var.memory");
    format!("{variables}{job}")
}

/// Adds a line to the last section of a file, which is `[nomad]`.
fn extend(file: &Path, line: &str) {
    let text = std::fs::read_to_string(file).expect("template.toml");
    std::fs::write(file, format!("{text}{line}\n")).expect("template.toml");
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
    let toml =
        format!("description = \"The guest of the scenarios\"\n{policy}{POLICY}\n[ports.http]\n{port}");
    whole(&folder.join(name), &toml, GUEST_JOB, diary);
}

/// Adds to a template how the guest runs, here and on Nomad.
fn whole(folder: &Path, toml: &str, job: &str, diary: &Path) {
    let guest = quoted(&guard::guest_binary().to_string_lossy());
    let diary = quoted(&diary.to_string_lossy());
    let owner = quoted(&std::process::id().to_string());
    let text = format!(
        r#"{toml}
[process]
command = [{guest}]
env = {{ GUEST_DIARY = {diary}, GUEST_OWNER = {owner} }}

[nomad]
jobspec = "job.nomad.hcl"
variables = {{ guest = {guest}, diary = {diary}, owner = {owner} }}
"#
    );
    std::fs::create_dir_all(folder).expect("the template's folder");
    std::fs::write(folder.join("template.toml"), text).expect("template.toml");
    std::fs::write(folder.join("job.nomad.hcl"), job).expect("the job");
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a quoted text")
}
