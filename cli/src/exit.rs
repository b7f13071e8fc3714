//! How a command fails: one message for people, one exit code for scripts.

use std::io;
use std::process::ExitCode;

use bivouac_client::Error;
use owo_colors::OwoColorize;

use crate::output;

const FAILED: u8 = 1;
const NOT_FOUND: u8 = 3;
const UNAVAILABLE: u8 = 4;

/// There is no such thing: exit code 3.
#[derive(Debug)]
pub(crate) struct NotFound(pub(crate) String);

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// Prints what went wrong and returns the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::Refused(problem)) => {
            output::error(format_args!("{} {}", "error:".red().bold(), problem.title));
            if let Some(detail) = problem.detail.as_deref().filter(|detail| !detail.is_empty()) {
                output::error(format_args!("  {detail}"));
            }
            let request =
                problem.request_id.as_deref().map(|id| format!(" · request {id}")).unwrap_or_default();
            let again = problem.retry_after.map(|s| format!(" · try again in {s} s")).unwrap_or_default();
            output::error(format_args!("  {}", format!("code {}{request}{again}", problem.code).dimmed()));
        }
        _ => output::error(format_args!("{} {}", "error:".red().bold(), sentence(error))),
    }
    ExitCode::from(code(error))
}

/// The causes in one line. Some libraries put a cause into their own text as well: it is said once.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

fn code(error: &anyhow::Error) -> u8 {
    let of_cause = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<Error>() {
        Some(error) if error.is_not_found() => Some(NOT_FOUND),
        Some(error) if error.is_unavailable() => Some(UNAVAILABLE),
        _ => cause.is::<NotFound>().then_some(NOT_FOUND),
    };
    error.chain().find_map(of_cause).unwrap_or(FAILED)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // Only our own output: a pipe that breaks inside a client error is the network.
    error.chain().any(broken) && !error.chain().any(|cause| cause.is::<Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_client::Problem;

    fn refused(status: u16) -> anyhow::Error {
        let code = String::from("code");
        let problem =
            Problem { status, code, title: "t".into(), detail: None, request_id: None, retry_after: None };
        anyhow::Error::from(Error::Refused(Box::new(problem))).context("while doing something")
    }

    #[test]
    fn a_cause_is_said_once() {
        let error =
            anyhow::anyhow!("port taken").context("cannot listen: port taken").context("cannot start");
        assert_eq!(sentence(&error), "cannot start: cannot listen: port taken");
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        for (status, expected) in [(404, 3), (503, 4), (504, 4), (409, 1), (422, 1), (500, 1)] {
            assert_eq!(code(&refused(status)), expected, "status {status}");
        }
        assert_eq!(code(&NotFound("no such session".into()).into()), 3);
        assert_eq!(code(&anyhow::anyhow!("anything else")), 1);
    }
}
