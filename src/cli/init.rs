//! `init`: a pipeline with events to start from.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use pgan_pipe::pipeline::schema;

use super::{
    Failure, Outcome,
    failure::{INVALID, IO},
    output::{print, write_file},
};

const PIPELINE: &str = include_str!("../../pipelines/quickstart.yaml");
const EVENTS: [(&str, &[u8]); 2] = [
    ("events/train.parquet", include_bytes!("../../examples/dijet/train.parquet")),
    ("events/test.parquet", include_bytes!("../../examples/dijet/test.parquet")),
];

/// The schema beside the pipeline, which editors find by the pipeline's first line.
const SCHEMA: &str = "pipeline.schema.json";

const NEXT: &str = "  \
  pgan-pipe plan pipeline.yaml               what would run, and why
  pgan-pipe run pipeline.yaml                about a minute on two cores
  pgan-pipe sample pipeline.yaml boosted -n 100000 -o events.parquet";

const EXAMPLES: &str = "\
Examples:
  pgan-pipe init            into this folder
  pgan-pipe init study      into a new one";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Init {
    /// The folder to write into; it is made if it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

impl Init {
    pub(super) fn run(&self) -> Outcome {
        let pipeline =
            PIPELINE.replace("../examples/dijet/", "events/").replace("pipelines/quickstart.yaml", "pipeline.yaml");
        let pipeline = format!("# yaml-language-server: $schema={SCHEMA}\n{pipeline}");
        let schema = format!("{:#}\n", schema::pipeline());
        if self.folder.exists() && !self.folder.is_dir() {
            let message = format!("{} is no folder; name one to write into", self.folder.display());
            return Err(Failure::message(INVALID, message));
        }
        let files: Vec<(PathBuf, &[u8])> = [("pipeline.yaml", pipeline.as_bytes()), (SCHEMA, schema.as_bytes())]
            .into_iter()
            .chain(EVENTS)
            .map(|(name, bytes)| (self.folder.join(name), bytes))
            .collect();
        if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
            let message = format!("{} exists already; nothing was written", path.display());
            return Err(Failure::message(INVALID, message));
        }
        for (path, bytes) in &files {
            if let Err(failure) = write(path, bytes) {
                // Those that are written would keep the next attempt from writing.
                files
                    .iter()
                    .take_while(|(written, _)| written != path)
                    .for_each(|(path, _)| drop(fs::remove_file(path)));
                return Err(failure);
            }
        }
        let mut text = String::new();
        for (path, _) in &files {
            let _ = writeln!(text, "wrote {}", path.display());
        }
        print(&(text + &self.next_steps()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// What to type next. The cache and the results are kept where the program is started, so the folder comes first.
    fn next_steps(&self) -> String {
        let folder = self.folder.to_string_lossy();
        let quote = if folder.chars().any(char::is_whitespace) { "\"" } else { "" };
        let enter =
            if self.folder == Path::new(".") { String::new() } else { format!("  cd {quote}{folder}{quote}\n") };
        format!("next:\n{enter}{NEXT}")
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))
            .map_err(|error| Failure::new(IO, error))?;
    }
    write_file(path, bytes)
}
