//! `cancel`: jobs that are queued or running on a cluster.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use pgan_pipe::submit;
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, key_value},
    failure::IO,
    output::{print, print_json},
    text::count,
};

const HELP: &str = "\
Cancels jobs that were submitted from this file with the same `--set`s, and with a stage those that come after it. What a training has
come to is kept: submitted or run again, it goes on from its last checkpoint.";

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Cancel {
    /// The pipeline file, which need not be valid or there any more
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stages whose jobs are cancelled, with those after them; all by default
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// As in `submit`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub(super) fn run(&self) -> Outcome {
        let set: Vec<String> = self.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let file = std::path::absolute(&self.file).map_err(|error| Failure::new(IO, error))?;
        let jobs = submit::cancel(&self.cache.store(), &file, &set, &self.stages)?;
        if self.json {
            let stages: Vec<&str> = jobs.iter().map(|job| job.stage.as_str()).collect();
            let line = |job| json!({"event": "job_cancelled", "job": job});
            let last = json!({"event": "cancel_finished", "cancelled": stages});
            print_json(jobs.iter().map(line).chain([last]))?;
        } else if jobs.is_empty() {
            print("nothing of this pipeline is queued or running on a cluster")?;
        } else {
            let lines: Vec<String> =
                jobs.iter().map(|job| format!("{}: cancelled job {}", job.stage, job.id)).collect();
            print(&format!("{}\n{} cancelled", lines.join("\n"), count(jobs.len(), "job")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
