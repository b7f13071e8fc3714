//! The backend that the scenarios run as a session. With `guard -- COMMAND…` it is the thin shell around every process
//! that a test starts: see `bivouac_tests::guard`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "guard") {
        return bivouac_tests::guard::exec(args.collect());
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(bivouac_tests::guest::run()),
        Err(_) => ExitCode::FAILURE,
    }
}
