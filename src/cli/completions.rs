//! `completions` and `man`: what shells and `man` read about this program.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{
    Cli, Failure, Outcome,
    failure::IO,
    output::{print, say},
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe completions bash > ~/.local/share/bash-completion/completions/pgan-pipe
  pgan-pipe completions zsh > ~/.zfunc/_pgan-pipe
  pgan-pipe completions fish > ~/.config/fish/completions/pgan-pipe.fish";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pgan-pipe", &mut text);
        print(&String::from_utf8_lossy(&text))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
#[command(after_help = "Example:\n  pgan-pipe man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// The folder for the pages, one for each verb; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Outcome {
        let written =
            fs::create_dir_all(&self.folder).and_then(|()| clap_mangen::generate_to(Cli::command(), &self.folder));
        written
            .map_err(|error| Failure::message(IO, format!("cannot write into {}: {error}", self.folder.display())))?;
        say(&format!("the pages are in {}; `man pgan-pipe` is the first", self.folder.display()));
        Ok(ExitCode::SUCCESS)
    }
}
