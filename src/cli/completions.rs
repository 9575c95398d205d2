//! `completions` and `man`: what shells and `man` read about this program.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{
    Cli, Failure, Outcome,
    failure::IO,
    output::{print, say, write_file},
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
        fs::create_dir_all(&self.folder)
            .map_err(|error| Failure::message(IO, format!("cannot create {}: {error}", self.folder.display())))?;
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        self.write(&command)?;
        say(&format!("the pages are in {}; `man pgan-pipe` is the first", self.folder.display()));
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the pages of a command and of those below it.
    fn write(&self, command: &Command) -> Result<(), Failure> {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            self.write(command)?;
        }
        let page = clap_mangen::Man::new(command.clone());
        let mut text = Vec::new();
        page.render(&mut text).map_err(|error| Failure::new(IO, error))?;
        write_file(&self.folder.join(page.get_filename()), &text)
    }
}
