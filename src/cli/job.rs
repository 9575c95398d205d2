//! `job`: one stage of a submission, run as a job of a cluster's engine. Hidden.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use pgan_pipe::{
    remote::Settings,
    submit::{JobOptions, NodeOptions, perform},
};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::{
    Failure, Outcome,
    arguments::CacheArgs,
    failure::STAGE,
    output::say,
    progress::{self, Members, Verbosity},
    signals::stop_on,
};

#[derive(Args)]
pub(super) struct Job {
    /// The submission
    submission: String,
    /// The stage
    stage: String,
    /// Threads that it may use
    #[arg(long, value_name = "N", default_value = "1")]
    threads: usize,
    #[command(flatten)]
    cache: CacheArgs,
    /// The remote that has the submission, as it was handed over, if this machine shares nothing else
    #[arg(long, value_name = "SETTINGS", requires = "log")]
    remote: Option<String>,
    /// The log of this job
    #[arg(long, value_name = "FILE", requires = "remote")]
    log: Option<PathBuf>,
}

impl Job {
    pub(super) fn run(&self) -> Outcome {
        let node = match (&self.remote, &self.log) {
            (Some(remote), Some(log)) => Some(NodeOptions { remote: Settings::take_over(remote)?, log: log.clone() }),
            _ => None,
        };
        let options = JobOptions {
            submission: self.submission.clone(),
            stage: self.stage.clone(),
            threads: self.threads,
            stop: stop_on(&[SIGINT, SIGTERM, SIGUSR1])?,
            node,
        };
        let mut reporter = progress::reporter(Verbosity::Normal, false, Members::default());
        match perform(&self.cache.store(), &options, &mut |event| reporter.event(event)).map_err(Failure::from)? {
            Some(summary) if summary.failed.is_empty() => Ok(ExitCode::SUCCESS),
            Some(_) => Ok(ExitCode::from(STAGE)),
            None => {
                say("the time of this job is up: it is queued again, and goes on from its last checkpoint");
                Ok(ExitCode::from(128 + SIGUSR1 as u8))
            }
        }
    }
}
