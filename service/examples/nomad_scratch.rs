use std::sync::Arc;
use std::time::{Duration, Instant};
use bivouac_nomad::{Client, Config};
use bivouac_protocol::*;
use bivouac_service::backend::{*, nomad::*};
use bivouac_service::spec::template::{Templates, Mode};
use jiff::Timestamp;

const TOML: &str = r#"
access = "public"
[ports.http]
[nomad]
jobspec = "job.nomad.hcl"
"#;
const HCL: &str = r#"
job "x" {
  type = "batch"
  group "g" {
    network {
      port "http" {}
    }
    task "t" {
      driver = "raw_exec"
      config {
        command = "SCRATCH_COMMAND"
        args = ["-c", "SCRATCH_SCRIPT"]
      }
      resources {
        cpu = 20
        memory = SCRATCH_MEMORY
      }
    }
  }
}
"#;
fn record(t: &bivouac_service::spec::Template) -> Record {
    Record { revision: 1, namespace: Namespace::default(), key: None, template: t.name.clone(), hash: t.hash.clone(), request: Default::default(),
        policy: t.policy(&Default::default()), generation: Generation(1), nonce: Nonce::random(), phase: Phase::Claimed, allocation: None, leases: Default::default(),
        touched_at: Timestamp::now(), reason: None, failures: 0, timeline: Timeline { claimed: Some(Timestamp::now()), ..Default::default() } }
}
async fn template(client: &Client, command: &str, script: &str, memory: &str) -> Arc<bivouac_service::spec::Template> {
    let hcl = HCL.replace("SCRATCH_COMMAND", command).replace("SCRATCH_SCRIPT", script).replace("SCRATCH_MEMORY", memory);
    let mut templates = Templates::default();
    templates.insert(Templates::from_embedded("scratch", TOML, Some(&hcl), &[], Mode::Nomad).unwrap());
    templates.parse_jobs(client).await;
    let t = templates.get(&"scratch".parse().unwrap()).unwrap().clone();
    println!("template problem: {:?}", t.problem());
    t
}
#[tokio::main]
async fn main() {
    let what = std::env::args().nth(2).unwrap();
    let client = Client::new(Config::new(std::env::args().nth(1).unwrap().parse().unwrap())).unwrap();
    let backend = Arc::new(NomadBackend::new(client.clone(), Settings::new("scratchcluster")));
    let (tx, mut rx) = tokio::sync::mpsc::channel(100);
    let b = backend.clone();
    let t0 = Instant::now();
    tokio::spawn(async move { b.observe(tx).await });
    let (otx, mut orx) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while let Some(o) = rx.recv().await { println!("[{:>8.1} ms] {o:?}", t0.elapsed().as_secs_f64()*1e3); let _ = otx.send((Instant::now(), o)); } println!("observe ended"); });
    println!("health {:?}", backend.health().await);
    if what == "watch" { tokio::time::sleep(Duration::from_secs(std::env::args().nth(3).unwrap().parse().unwrap())).await; return }
    let (cmd, script, mem) = match what.as_str() { "full" => ("/bin/sh", "exit 0", "99999999"), "fail" => ("/nope", "", "20"), "exit" => ("/bin/sh", "exit 3", "20"), "stubborn" => ("/bin/sh", "trap '' INT TERM; while true; do sleep 1; done", "20"), _ => ("/bin/sh", "exec sleep 1000", "20") };
    let t = template(&client, cmd, script, mem).await;
    while !matches!(orx.recv().await.unwrap().1, Observation::Synced) {}
    if what == "latency" {
        let mut waits = vec![];
        for _ in 0..40 {
            let r = record(&t); let id = SessionId::random();
            let s = Instant::now();
            backend.start(Start { session: id.clone(), record: Arc::new(r), template: t.clone(), url: "http://x".into() }).await.unwrap();
            let reg = s.elapsed();
            loop { let (at, o) = orx.recv().await.unwrap(); if let Observation::Allocation { run, allocated } = o && run.session == id { assert!(!allocated.ports.is_empty()); waits.push((at - s, reg)); break } }
            backend.stop(&Run { session: id, generation: Generation(1) }, Grace::None).await.unwrap();
        }
        waits.sort(); println!("p50 {:?} p90 {:?}", waits[20], waits[36]); return;
    }
    let r = record(&t); let session = SessionId::random(); let run = Run { session: session.clone(), generation: Generation(1) };
    println!("absent: {:?}", backend.inspect(&run).await);
    println!("stop of absent: {:?}", backend.stop(&run, Grace::None).await);
    let start = Start { session: session.clone(), record: Arc::new(r.clone()), template: t.clone(), url: "http://x".into() };
    println!("start {:?}", backend.start(start.clone()).await);
    println!("again {:?}", backend.start(start.clone()).await);
    let foreign = Start { record: Arc::new(Record { nonce: Nonce::random(), ..r.clone() }), ..start.clone() };
    println!("foreign {:?}", backend.start(foreign).await);
    println!("present: {:?}", backend.inspect(&run).await);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    println!("present: {:?}", backend.inspect(&run).await);
    let other = NomadBackend::new(client.clone(), Settings { namespace: "nowhere".into(), ..Settings::new("scratchcluster") });
    println!("found by another: {:?}", other.inspect(&run).await);
    println!("refused ns: {:?}", other.start(start.clone()).await);
    let grace = if what == "stubborn" { Grace::None } else { Grace::Template };
    let s = Instant::now();
    println!("stop {:?}", other.stop(&run, grace).await);
    println!("after stop: {:?} {:?}", s.elapsed(), backend.inspect(&run).await);
    loop { tokio::time::sleep(Duration::from_millis(20)).await; match backend.inspect(&run).await { Ok(Presence::Present { allocations, .. }) if allocations.iter().any(|a| !matches!(a.status, Status::Over(_))) => {}, p => { println!("over after {:?}: {p:?}", s.elapsed()); break } } }
    println!("purge {:?}", backend.purge(&run).await);
    println!("purged: {:?}", backend.inspect(&run).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
}
