//! What the proxy adds to the time of a request, at half of what nginx could bear.

use std::time::Duration;

use anyhow::Result;

use crate::bed::Bed;
use crate::load;
use crate::report::Spread;
use crate::rig::Rig;
use crate::rounds::{Effort, rate_of};
use crate::say;

const CONNECTIONS: u32 = 64;
/// What may be added: percentile and milliseconds.
const TARGETS: [(u32, f64); 2] = [(50, 0.3), (99, 2.0)];

pub(crate) async fn measure(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Spread> {
    let proxies = bed.proxies(rig);
    let [nginx, ..] = &proxies;
    let rate = rate_of(bed, nginx.plain).await? / 2.0;
    let during = effort.during * effort.rounds;
    say(&format!("latency: {rate:.0} requests/s for {during:?} each"));
    let mut subjects = Vec::new();
    for subject in [bed.small.directly()].into_iter().chain(proxies) {
        let aim = bed.small.at(subject.plain);
        load::open::run(aim, CONNECTIONS, rate, Duration::from_secs(1)).await?;
        let times = load::open::run(aim, CONNECTIONS, rate, during).await?;
        say(&format!(
            "  p50 {:.3} ms, p99 {:.3} ms {}",
            times.percentile(50),
            times.percentile(99),
            subject.name
        ));
        subjects.push((subject.name, times));
    }
    let title = format!("Latency at {rate:.0} requests/s, half of what nginx can bear");
    Ok(Spread { title, subjects, targets: TARGETS.to_vec() })
}
