//! `schema`: the format of pipeline files, for editors and for people.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Args;
use pgan_pipe::{
    pipeline::schema::{self, options},
    stage::{Problem, Stage},
};

use super::{
    Failure, Outcome,
    failure::{INVALID, IO},
    output::{print, say, write_file},
};

mod pages;
mod terminal;

/// What all stages have.
const COMMON: &str = "common";
/// What `evaluate` measures.
const METRICS: &str = "metrics";

const EXAMPLES: &str = "\
Examples:
  pgan-pipe schema > pipeline.schema.json    for editors; the pipeline's first line is then
                                             # yaml-language-server: $schema=pipeline.schema.json
  pgan-pipe schema boost                     the fields of a `boost` stage
  pgan-pipe schema metrics                   what `evaluate` measures";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Schema {
    /// Show the fields of this stage kind instead, those that all stages have (`common`), or what `evaluate` measures (`metrics`)
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// Write all of these as Markdown into this folder, a page for each
    #[arg(long, value_name = "DIR", conflicts_with = "topic")]
    reference: Option<PathBuf>,
}

impl Schema {
    pub(super) fn run(&self) -> Outcome {
        match (&self.topic, &self.reference) {
            (Some(topic), _) => print(&of_topic(topic)?)?,
            (None, Some(folder)) => {
                fs::create_dir_all(folder)
                    .map_err(|error| Failure::message(IO, format!("cannot create {}: {error}", folder.display())))?;
                for (name, text) in pages::all() {
                    write_file(&folder.join(name), text.as_bytes())?;
                }
                say(&format!("the reference is in {}; README.md is its first page", folder.display()));
            }
            (None, None) => print(&format!("{:#}", schema::pipeline()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn of_topic(topic: &str) -> Result<String, Failure> {
    match topic {
        COMMON => Ok(terminal::options(COMMON, "What any stage may have.", &options::common())),
        METRICS => Ok(terminal::metrics()),
        kind => {
            let summary = Stage::summary(kind).unwrap_or_default();
            options::of_kind(kind).map(|found| terminal::options(kind, summary, &found)).ok_or_else(|| unknown(kind))
        }
    }
}

fn unknown(topic: &str) -> Failure {
    let known = Stage::KINDS.iter().copied().chain([COMMON, METRICS]);
    let problem = Problem::new("", format!("there is no stage kind `{topic}`")).suggest(topic, known);
    Failure::message(INVALID, format!("{}\n  = help: {}", problem.message, problem.help.unwrap_or_default()))
}
