//! The binary: parses the command line, runs one command, and ends with a documented exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    catalyst::cli::main()
}
