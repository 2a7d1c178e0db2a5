//! `ecumene`: hands what was typed to the library, and its outcome to the shell.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use server::cli::Cli;
use server::io::command;

// One allocator for every thread: tuned QUIC sends cost a quarter less with it than with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Ends by itself, with exit code 2, at what cannot be parsed.
    let cli = Cli::parse();
    match command::run(cli, &mut std::io::stdout()) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            let line = format!("ecumene: {failure}\n");
            // Where even this cannot be said, the exit code still speaks.
            drop(std::io::stderr().write_all(line.as_bytes()));
            ExitCode::from(failure.exit as u8)
        }
    }
}
