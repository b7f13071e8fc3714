//! What to do about a job that Nomad refuses. Its own texts name what is wrong, and nothing more. Pure.

/// By a mark of Nomad's text: what an operator can do.
const REMEDIES: &[(&str, &str)] = &[
    ("nonexistent namespace", "create that Nomad namespace, or mend `namespace` in the template's job"),
    ("nonexistent node pool", "create that node pool, or mend `node_pool` in the template's job"),
    (
        "not allowed in namespace",
        "permit it in the capabilities of the job's Nomad namespace, or use another one in the template's job",
    ),
    (
        "disabled by the scheduler configuration",
        "permit it again: nomad operator scheduler set-config -reject-job-registration=false",
    ),
    ("quota", "raise the quota of the job's Nomad namespace, or ask for less in the template's job"),
    ("exceeds", "ask for less in the template's job, or raise the limit in Nomad's server configuration"),
];

/// The refusal with what to do about it, where that is known.
pub(crate) fn advised(refusal: &str) -> String {
    match REMEDIES.iter().find(|(mark, _)| refusal.contains(mark)) {
        Some((_, remedy)) => format!("{}: {remedy}", refusal.trim_end_matches(['.', ' '])),
        None => refusal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Nomad 1.11.3 wrote them.
    #[test]
    fn refusals_of_a_real_cluster_say_what_to_do() {
        for (refusal, remedy) in [
            (r#"1 error occurred: job "x" is in nonexistent namespace "y""#, "create that Nomad namespace"),
            (r#"1 error occurred: job "x" is in nonexistent node pool "y""#, "create that node pool"),
            (r#"used task driver "raw_exec" is not allowed in namespace "y""#, "capabilities"),
            (
                "job registration, dispatch, and scale are disabled by the scheduler configuration",
                "set-config",
            ),
        ] {
            let advised = advised(refusal);
            assert!(advised.starts_with(refusal) && advised.contains(remedy), "{advised}");
        }
        assert_eq!(advised("Missing job task groups"), "Missing job task groups");
    }
}
