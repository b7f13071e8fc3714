//! nginx: one worker; what belongs to a proxy that is fit for use (connections are kept, the backend is told who asks),
//! and no log.

use std::fmt::Write;

use anyhow::Result;

use super::{CONNECTIONS, OTHER_HOSTS, Plan};

pub(super) fn configuration(plan: &Plan<'_>) -> Result<String> {
    let (mut hosts, mut upstreams) = (String::new(), String::new());
    for (number, (host, backend)) in plan.routes.iter().enumerate() {
        writeln!(hosts, "    {host} sessions{number};")?;
        write!(
            upstreams,
            "  upstream sessions{number} {{
    server {backend};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
"
        )?;
    }
    for number in 0..OTHER_HOSTS {
        writeln!(hosts, "    other-session-{number:04}.localhost sessions0;")?;
    }
    let (plain, tls, certificate) = (plan.plain, plan.tls, plan.certificate.display());
    // When it runs out of them it closes connections whose first request has not come yet. Files are the bound here.
    let connections = 2 * CONNECTIONS;
    Ok(format!(
        r#"daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ worker_connections {connections}; }}
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
{hosts}  }}
  map $http_upgrade $kept_or_upgraded {{ default upgrade; "" ""; }}
{upstreams}  server {{
    listen {plain};
    listen {tls} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    location / {{
      if ($target = "") {{ return 404; }}
      proxy_pass http://$target;
      proxy_http_version 1.1;
      proxy_read_timeout 1h;
      proxy_set_header Connection $kept_or_upgraded;
      proxy_set_header Upgrade $http_upgrade;
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
