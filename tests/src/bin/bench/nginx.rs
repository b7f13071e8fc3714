//! nginx: the yardstick in front of a backend, and the backend itself.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bivouac_tests::agents::Agents;
use tokio::net::TcpStream;

use crate::process::Process;

/// Name of the template whose backend is nginx.
pub(crate) const TEMPLATE: &str = "nginx";

/// Other hostnames in the yardstick's map: what a proxy looks up is one of many.
const OTHER_HOSTS: usize = 999;

/// The session's job. One process, as the yardstick is one: the same backend serves both.
pub(crate) const JOB: &str = r#"variable "nginx" { type = string }

job "nginx" {
  datacenters = ["*"]
  type        = "batch"

  group "nginx" {
    network {
      port "http" {}
    }

    service {
      name = "session-${NOMAD_META_bivouac_session}"
      port = "http"
    }

    task "nginx" {
      driver = "raw_exec"

      config {
        command = var.nginx
        args    = ["-e", "stderr", "-p", "${NOMAD_TASK_DIR}", "-c", "nginx.conf"]
      }

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
            listen 127.0.0.1:{{ env "NOMAD_PORT_http" }};
            keepalive_timeout 1h;
            keepalive_requests 1000000000;
            location / { default_type text/plain; return 200 "ok"; }
          }
        }
        CONFIG
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
"#;

/// The rules of that template.
pub(crate) fn rules(nginx: &Path) -> String {
    let nginx = serde_json::Value::from(nginx.display().to_string());
    format!(
        r#"description = "A backend that costs next to nothing"
access = "public"
idle_timeout = {{ default = "12h", max = "12h" }}
[ports.http]
[nomad]
jobspec = "job.nomad.hcl"
variables = {{ nginx = {nginx} }}
"#
    )
}

/// nginx's binary: on PATH, or where Debian has it, which is not on an ordinary user's PATH.
pub(crate) fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|dir| dir.join("nginx"));
    candidates.find(|candidate| candidate.is_file()).context("there is no nginx: run `scripts/setup bench`")
}

/// nginx as the proxy of one session among many.
pub(crate) struct Yardstick {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Yardstick {
    /// Starts it in front of `backend`, which it knows as `host`, and waits until it listens.
    pub(crate) async fn start(
        agents: &Agents,
        nginx: &Path,
        (folder, address): (&Path, SocketAddr),
        (host, backend): (&str, SocketAddr),
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("nginx.conf"), configuration(address, host, backend)?)?;
        let mut command = Command::new(nginx);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder);
        let mut process = Process::start(agents, "nginx", folder, command)?;
        process.until(async || Ok(TcpStream::connect(address).await?)).await?;
        Ok(Self { process, address })
    }
}

/// One worker; what belongs to a proxy that is fit for use (connections are kept, the backend is told who asks), and no
/// log.
fn configuration(address: SocketAddr, host: &str, backend: SocketAddr) -> Result<String> {
    let mut hosts = String::new();
    for number in 0..OTHER_HOSTS {
        writeln!(hosts, "    other-session-{number:04}.localhost sessions;")?;
    }
    Ok(format!(
        r#"daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path temp-body;
  proxy_temp_path temp-proxy;
  fastcgi_temp_path temp-fastcgi;
  uwsgi_temp_path temp-uwsgi;
  scgi_temp_path temp-scgi;
  map_hash_max_size 4096;
  map_hash_bucket_size 128;
  map $host $target {{
    default "";
    {host} sessions;
{hosts}  }}
  upstream sessions {{
    server {backend};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
  server {{
    listen {address};
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    location / {{
      if ($target = "") {{ return 404; }}
      proxy_pass http://$target;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"#
    ))
}
