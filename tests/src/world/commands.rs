//! Commands of the binary that run to their end.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use super::doors::Role;
use super::{Kind, World};

/// Longest time that one may take.
const LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// Runs a client command against this world.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn bivouac(&self, args: &[&str]) -> Output {
        self.run(args, &[("BIVOUAC_ADDR", &self.api_url()), ("BIVOUAC_TOKEN", &self.token())]).await
    }

    /// Starts another process like this world's service (or `dev`) with templates that it must refuse.
    ///
    /// # Panics
    /// When it does not end by itself.
    pub async fn started_with_templates(&self, templates: &Path) -> Output {
        let templates = templates.display().to_string();
        let secret = self.folder().join("cluster.secret").display().to_string();
        let mut args = match &self.parts.kind {
            Kind::Embedded(_) => vec!["dev", "--api", "127.0.0.1:0", "--proxy", "127.0.0.1:0"],
            Kind::Cluster(_) => vec!["service", "--api", "127.0.0.1:0", "--internal", "127.0.0.1:0"],
        };
        if !self.is_embedded() {
            for flag in
                ["--cluster-secret-file", "--link-secret-file", "--ticket-secret-file", "--token-file"]
            {
                args.extend([flag, &secret]);
            }
            args.extend(["--session-url", "http://localhost:80", "--prefix", "nobody"]);
        }
        args.extend(["--templates", &templates]);
        let env = match &self.parts.kind {
            Kind::Embedded(_) => Vec::new(),
            Kind::Cluster(site) => self.reach(Role::Service, site.nomad_address(), site.consul_address()),
        };
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.run(&args, &env).await
    }

    /// A client command against this world, to be started by the scenario; killed when it is dropped.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = self.bare_command(args);
        command.env("BIVOUAC_ADDR", self.api_url()).env("BIVOUAC_TOKEN", self.token());
        command
    }

    fn bare_command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(super::product());
        for name in super::process::settings_of_the_person() {
            command.env_remove(name);
        }
        command
            .args(args)
            .env("XDG_STATE_HOME", self.folder().join("other-state"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let command = self.bare_command(args).envs(env.iter().copied()).output();
        let output = tokio::time::timeout(LIMIT, command).await;
        output.unwrap_or_else(|_| panic!("bivouac {args:?} does not end")).expect("the binary runs")
    }

    /// Starts a further replica of the service and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_a_replica(&self) {
        let replica = self.prepare_replica(self.proxy_port(0), &[], false).await;
        replica.start().await;
    }
}
