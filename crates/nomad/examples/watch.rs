//! Prints what happens to jobs and allocations: `cargo run -p bivouac-nomad --example watch -- http://127.0.0.1:4646`,
//! with a token in `NOMAD_TOKEN` where one is needed.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::Duration;

use anyhow::Context;
use bivouac_nomad::{Client, Config, Payload, Topic};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:4646".to_owned());
    let address = address.parse().context("the address is not a URL")?;
    let token = std::env::var("NOMAD_TOKEN").ok().map(Into::into);
    let nomad = Client::new(Config { token, ..Config::new(address) })?;
    println!("leader {}, agent {:?}", nomad.leader().await?, nomad.agent().await);
    let mut cursor = None;
    loop {
        let (mut events, continuity) = match nomad.events("*", &Topic::ALL, cursor.clone()).await {
            Ok(opened) => opened,
            Err(error) => {
                println!("{error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        println!("{continuity:?}");
        let error = loop {
            match events.next().await {
                Ok(event) => println!("{:>8} {:<22} {}", event.index, event.kind, describe(&event.payload)),
                Err(error) => break error,
            }
        };
        println!("{error}");
        cursor = Some(events.cursor());
    }
}

fn describe(payload: &Payload) -> String {
    match payload {
        Payload::Job { job, deleted } => {
            format!("job {} {} stop={} deleted={deleted}", job.id, job.status, job.stop)
        }
        Payload::Allocation(allocation) => {
            let ports = &allocation.allocated_resources.shared.ports;
            format!(
                "allocation {} of {} {} {ports:?}",
                allocation.id, allocation.job_id, allocation.client_status
            )
        }
        Payload::Evaluation(evaluation) => {
            format!(
                "evaluation of {} {} {:?}",
                evaluation.job_id,
                evaluation.status,
                evaluation.shortage(&Default::default())
            )
        }
    }
}
