//! Result to exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    match prodex::command::main(std::env::args_os().skip(1)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.report();
            ExitCode::from(error.exit_code())
        }
    }
}
