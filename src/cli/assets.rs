//! `stanch __assets`: man pages and shell completions, for whoever makes a package.

use super::Failure;
use clap_complete::{Shell, generate_to};
use std::fs;
use std::path::{Path, PathBuf};

/// Write the man pages and the completions of bash, zsh and fish into a folder
#[derive(clap::Args)]
pub struct Args {
    /// Where to; made if it is not there
    folder: PathBuf,
}

/// Runs it: `FOLDER/man/stanch*.1` and `FOLDER/completions/`.
pub fn run(args: Args, mut command: clap::Command) -> Result<(), Failure> {
    write(&args.folder, &mut command).map_err(|error| {
        Failure::Fault(format!("cannot write into {}: {error}", args.folder.display()))
    })
}

fn write(folder: &Path, command: &mut clap::Command) -> std::io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, command, "stanch", &completions)?;
    }
    clap_mangen::generate_to(command.clone(), &man)
}
