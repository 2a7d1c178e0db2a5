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
    // In pages of 2 MiB half of the memory would lie idle, and nothing is faster for them. Where they
    // cannot be declined the server runs as well.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).unwrap_or_default();
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
