//! Options that several verbs have.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use pgan_pipe::{
    pipeline::Pipeline,
    remote::{Patience, Remote, Settings},
    run::this_image,
    store::Store,
};

use super::{
    Failure,
    failure::{INVALID, IO},
};

/// A pipeline with its overrides.
#[derive(Args)]
pub(super) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Replace a parameter, or a field as STAGE.FIELD; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
}

impl PipelineArgs {
    pub(super) fn load(&self) -> Result<Pipeline, Failure> {
        Ok(Pipeline::load(&self.file, &self.set)?)
    }
}

/// The one stage (by index) that a name means; of a swept stage one point must be named.
pub(super) fn one_stage(pipeline: &Pipeline, name: &str) -> Result<Option<usize>, Failure> {
    match *pipeline.select(name) {
        [first, .., _] => {
            let message = format!(
                "`{name}` stands for several points of a sweep: name one, as in `{}`",
                pipeline.stages[first].name
            );
            Err(Failure::message(INVALID, message))
        }
        ref found => Ok(found.first().copied()),
    }
}

/// Where results are kept.
#[derive(Args)]
pub(super) struct CacheArgs {
    /// The folder that results are kept in
    #[arg(long, value_name = "DIR", env = "PGAN_CACHE", hide_env_values = true, default_value = "cache")]
    pub(super) cache: PathBuf,
}

impl CacheArgs {
    pub(super) fn store(&self) -> Store {
        Store::at(&self.cache)
    }
}

/// Which remote to use; by default the one of `pgan.toml`.
#[derive(Args)]
pub(super) struct RemoteArgs {
    /// Where results are shared: a folder, s3://BUCKET/PREFIX, gs://…, az://… or http(s)://…; that of pgan.toml by default
    #[arg(long, value_name = "URL|DIR", env = "PGAN_REMOTE", hide_env_values = true)]
    pub(super) remote: Option<String>,
}

impl RemoteArgs {
    /// The settings for a pipeline, if a remote is named anywhere.
    pub(super) fn settings(&self, pipeline: &Path) -> Result<Option<Settings>, Failure> {
        let given = self.remote.as_deref().filter(|text| !text.is_empty());
        Ok(Settings::find(pipeline, given)?)
    }
}

/// Which remote to use, or none.
#[derive(Args)]
pub(super) struct MaybeRemoteArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Use no remote
    #[arg(long)]
    no_remote: bool,
}

impl MaybeRemoteArgs {
    /// The remote with its settings, as a run uses it.
    pub(super) fn of_run(&self, pipeline: &Path) -> Result<Option<(Remote, Settings)>, Failure> {
        let settings = if self.no_remote { None } else { self.remote.settings(pipeline)? };
        let remote = |settings: Settings| (Remote::new(settings.clone(), Patience::of_run(settings.timeout)), settings);
        Ok(settings.map(remote))
    }
}

/// How stages are run, one by one.
#[derive(Args)]
pub(super) struct WorkerArgs {
    /// The pgan-pipe program that runs the stages; this one by default
    #[arg(long, value_name = "PATH", env = "PGAN_WORKER", hide_env_values = true)]
    worker: Option<PathBuf>,
    /// Write a checkpoint of a training this often: an interruption costs no more than that
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) checkpoint_every: Duration,
}

impl WorkerArgs {
    /// The program that is named.
    pub(super) fn given(&self) -> Option<&PathBuf> {
        self.worker.as_ref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The program that runs the stages.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        match self.given() {
            Some(path) => Ok(path.clone()),
            None => found(this_image()),
        }
    }
}

/// The path of this program.
pub(super) fn this_program() -> Result<PathBuf, Failure> {
    found(std::env::current_exe())
}

fn found(program: std::io::Result<PathBuf>) -> Result<PathBuf, Failure> {
    program.context("cannot find this program to start workers").map_err(|error| Failure::new(IO, error))
}

/// A time in seconds, from 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a time; write 10 or 0.5, for example".to_owned())
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, as in `steps=500` or `boosted.steps=500`".to_owned()),
    }
}
