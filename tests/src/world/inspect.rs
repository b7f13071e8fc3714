//! What a cluster world left in Nomad and Consul: asked there, not at the product.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bivouac_protocol::id::cluster_fingerprint;
use reqwest::Method;
use serde_json::Value;

use super::{Kind, Replica, Session, World};
use crate::eventually;
use crate::faults::Caught;

impl Session {
    /// Waits until a replica is about to commit this session's idle stop, and holds its transaction back on the wire.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn commit_held(&self, replica: usize) -> Caught {
        // Everything else that a replica writes about a session is written by then.
        let key = format!("sessions/{}", self.id);
        eventually("the record tells that it is ready", Duration::from_secs(20), async || {
            let record = self.world.document(&key).await?;
            if record["timeline"]["ready"].is_string() { Ok(()) } else { Err(record.to_string()) }
        })
        .await;
        let commit = self.world.service(replica).consul.hold("PUT /v1/txn");
        commit.arrived().await;
        commit
    }

    /// Waits until Nomad knows that it runs. What it still believes to be pending when it misses the host, it places
    /// elsewhere.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn known_to_run(&self) {
        let job = format!("session-{}-{}", self.id, self.generation());
        eventually("Nomad knows that it runs", Duration::from_secs(60), async || {
            let status = self.world.allocations(&job).await?[0]["ClientStatus"].clone();
            if status == "running" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
}

impl World {
    /// The jobs of this world, with their meta.
    ///
    /// # Errors
    /// When Nomad does not answer.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn jobs(&self) -> Result<Vec<Value>, String> {
        let own = cluster_fingerprint(&self.parts.secrets.cluster.clone().into());
        let answer =
            self.site().nomad(Method::GET, "/v1/jobs?prefix=session-&meta=true&per_page=10000").await?;
        let jobs = answer.expect_status(200)?.json().as_array().cloned().unwrap_or_default();
        Ok(jobs.into_iter().filter(|job| job["Meta"]["bivouac_cluster"] == own.as_str()).collect())
    }

    /// One job in full.
    ///
    /// # Errors
    /// When Nomad does not answer, or there is no such job.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn job(&self, id: &str) -> Result<Value, String> {
        Ok(self.site().nomad(Method::GET, &format!("/v1/job/{id}")).await?.expect_status(200)?.json())
    }

    /// The allocations of a job.
    ///
    /// # Errors
    /// When Nomad does not answer.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn allocations(&self, job: &str) -> Result<Vec<Value>, String> {
        let answer = self.site().nomad(Method::GET, &format!("/v1/job/{job}/allocations")).await?;
        Ok(answer.expect_status(200)?.json().as_array().cloned().unwrap_or_default())
    }

    /// A document of this world's ledger; `null` if there is none.
    ///
    /// # Errors
    /// When Consul does not answer.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn document(&self, key: &str) -> Result<Value, String> {
        let path = format!("/v1/kv/{}/{key}?raw&consistent", self.prefix());
        Ok(self.site().consul(Method::GET, &path).await?.json())
    }

    /// The keys of this world's ledger below `folder`.
    ///
    /// # Errors
    /// When Consul does not answer.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn keys(&self, folder: &str) -> Result<Vec<String>, String> {
        let path = format!("/v1/kv/{}/{folder}?keys&consistent", self.prefix());
        let keys = self.site().consul(Method::GET, &path).await?.json();
        Ok(serde_json::from_value(keys).unwrap_or_default())
    }

    /// The number of the replica that holds the leader's lock.
    ///
    /// # Errors
    /// When nobody does, or Consul does not answer.
    ///
    /// # Panics
    /// In an embedded world.
    pub async fn leader(&self) -> Result<usize, String> {
        let path = format!("/v1/kv/{}/leader?consistent", self.prefix());
        let entry = self.site().consul(Method::GET, &path).await?.expect_status(200)?.json()[0].clone();
        if !entry["Session"].is_string() {
            return Err("nobody leads".to_owned());
        }
        let value =
            base64::engine::general_purpose::STANDARD.decode(entry["Value"].as_str().unwrap_or_default());
        let holder: Value = serde_json::from_slice(&value.unwrap_or_default()).unwrap_or_default();
        let name = holder["replica"].as_str().unwrap_or_default().to_owned();
        // A replica's name begins with the address of its API.
        let leads = |replica: &Arc<Replica>| {
            replica.process.ports().iter().any(|port| name.contains(&format!(":{port} ")))
        };
        self.replicas().iter().position(leads).ok_or_else(|| format!("a stranger leads: {name}"))
    }

    /// Waits until no session has a job that is not over, nor an entry in Consul's catalogue. In an embedded world there
    /// is nothing to look at: whether a backend runs is told by its own diary.
    ///
    /// # Panics
    /// When something stays.
    pub async fn nothing_runs(&self) {
        if self.is_embedded() {
            return;
        }
        eventually("no job and no service stays behind", Duration::from_secs(20), async || {
            for job in self.jobs().await? {
                if job["Status"] != "dead" {
                    return Err(format!("job {} is {}", job["ID"], job["Status"]));
                }
                let service =
                    format!("session-{}", job["Meta"]["bivouac_session"].as_str().unwrap_or_default());
                if !self.site().catalogue(&service).await?.is_empty() {
                    return Err(format!("Consul lists {service}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// What Consul's servers know now, as `consul snapshot save` does.
    ///
    /// # Panics
    /// When Consul does not tell it, or in an embedded world.
    pub async fn consul_snapshot(&self) -> Vec<u8> {
        let url = format!("{}/v1/snapshot", self.site().consul_url());
        let answer = self.site().http().get(url).send().await.expect("an answer of Consul");
        assert!(answer.status().is_success(), "a snapshot: {}", answer.status());
        answer.bytes().await.expect("a snapshot").to_vec()
    }

    /// Brings it back, as `consul snapshot restore` does.
    ///
    /// # Panics
    /// When Consul does not take it, or in an embedded world.
    pub async fn restore_consul(&self, snapshot: Vec<u8>) {
        let url = format!("{}/v1/snapshot", self.site().consul_url());
        let answer = self.site().http().put(url).body(snapshot).send().await.expect("an answer of Consul");
        assert!(answer.status().is_success(), "a restored snapshot: {}", answer.status());
    }

    /// Takes away what this world's sessions and processes left in agents that others use, too.
    pub(super) async fn clean(&self) {
        let Kind::Cluster(site) = &self.parts.kind else { return };
        for job in self.jobs().await.unwrap_or_default() {
            let id = job["ID"].as_str().unwrap_or_default();
            let _ =
                site.nomad(Method::DELETE, &format!("/v1/job/{id}?purge=true&no_shutdown_delay=true")).await;
        }
        let _ = site.consul(Method::DELETE, &format!("/v1/kv/{}/?recurse", self.prefix())).await;
        let Ok(services) = site.consul(Method::GET, "/v1/agent/services").await else { return };
        let processes: Vec<u16> = (self.replicas().iter().flat_map(|replica| replica.process.ports()))
            .chain(self.proxies().iter().flat_map(|proxy| proxy.process.ports()))
            .collect();
        for (id, service) in services.json().as_object().into_iter().flatten() {
            if processes.iter().any(|port| service["Port"] == *port)
                || id.starts_with(&format!("{}-", self.prefix()))
            {
                let _ = site.consul(Method::PUT, &format!("/v1/agent/service/deregister/{id}")).await;
            }
        }
    }
}
