//! The backends of the sessions that are asked: nginx, which costs next to nothing, and the scenarios' guest, for WebSockets
//! and for starts that take as long as they are told to.

use std::path::Path;

use anyhow::Result;

use crate::load::bulk;

/// The template whose backend is nginx.
pub(crate) const SMALL: &str = "nginx";
/// The template whose backend is the guest.
pub(crate) const GUEST: &str = "guest";

/// The job of both: one process, as the yardsticks are one each.
const JOB: &str = r#"variable "binary" { type = string }
variable "big" { default = "" }

job "backend" {
  datacenters = ["*"]
  type        = "batch"

  group "backend" {
    network {
      port "http" {}
    }

    service {
      name = "session-${NOMAD_META_bivouac_session}"
      port = "http"
    }

    task "backend" {
      driver = "raw_exec"

      config {
        command = var.binary
        args    = ARGUMENTS
      }
CONFIGURATION
      resources {
        cpu    = 50
        memory = 512
      }
    }
  }
}
"#;

const NGINX: &str = r#"
      template {
        destination = "local/nginx.conf"
        data        = <<-CONFIG
        daemon off;
        master_process off;
        error_log stderr;
        pid nginx.pid;
        events { worker_connections 4096; }
        http {
          access_log off;
          client_body_temp_path temp-body;
          proxy_temp_path temp-proxy;
          fastcgi_temp_path temp-fastcgi;
          uwsgi_temp_path temp-uwsgi;
          scgi_temp_path temp-scgi;
          server {
            listen 127.0.0.1:{{ env "NOMAD_PORT_http" }} backlog=4096;
            keepalive_timeout 1h;
            keepalive_requests 1000000000;
            location / { default_type text/plain; return 200 "ok"; }
            location = BIG_PATH { sendfile on; alias ${var.big}; }
          }
        }
        CONFIG
      }
"#;

/// A template's two files.
pub(crate) struct Files {
    pub(crate) rules: String,
    pub(crate) job: String,
}

/// nginx: `ok` for everything but the large body.
pub(crate) fn small(nginx: &Path, folder: &Path) -> Result<Files> {
    let big = folder.join("big");
    std::fs::write(&big, vec![b'x'; bulk::SIZE])?;
    let arguments = r#"["-e", "stderr", "-p", "${NOMAD_TASK_DIR}", "-c", "nginx.conf"]"#;
    let job =
        JOB.replace("ARGUMENTS", arguments).replace("CONFIGURATION", &NGINX.replace("BIG_PATH", bulk::PATH));
    Ok(Files { rules: rules(&[("binary", nginx), ("big", &big)]), job })
}

/// The guest, on the port that its environment names.
pub(crate) fn guest(binary: &Path) -> Files {
    let job = JOB.replace("ARGUMENTS", "[]").replace("CONFIGURATION", "");
    Files { rules: rules(&[("binary", binary)]), job }
}

fn rules(variables: &[(&str, &Path)]) -> String {
    let quoted = |(name, path): &(&str, &Path)| {
        format!("{name} = {}", serde_json::Value::from(path.display().to_string()))
    };
    let variables = variables.iter().map(quoted).collect::<Vec<_>>().join(", ");
    format!(
        r#"description = "A backend that costs next to nothing"
access = "public"
idle_timeout = {{ default = "12h", max = "12h" }}
allow = ["env"]
[ports.http]
[nomad]
jobspec = "job.nomad.hcl"
variables = {{ {variables} }}
"#
    )
}
