//! Options that several verbs have.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{
    Arg, Args, Command,
    builder::{NonEmptyStringValueParser, PathBufValueParser, Resettable, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};
use pgan_pipe::{
    credentials::{cut_arguments, cut_text, is_address},
    pipeline::Pipeline,
    remote::{Patience, Remote, Settings},
    run::this_image,
    shell::quote,
    store::Store,
};

use super::{
    Failure,
    failure::{INVALID, IO},
    output::say,
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

/// The folder of results where none is named.
const CACHE: &str = "cache";

/// Where results are kept.
#[derive(Args)]
pub(super) struct CacheArgs {
    /// The folder that results are kept in; `cache` by default
    #[arg(long, value_name = "DIR", env = "PGAN_CACHE", hide_env_values = true, value_parser = Folder)]
    cache: Option<PathBuf>,
}

impl CacheArgs {
    pub(super) fn folder(&self) -> &Path {
        self.cache.as_deref().unwrap_or(Path::new(CACHE))
    }

    pub(super) fn store(&self) -> Store {
        Store::at(self.folder())
    }

    /// The store in which a pipeline's results are looked for; warns if it is not there and another lies beside the pipeline.
    pub(super) fn store_of(&self, pipeline: &Path) -> Store {
        self.announce(pipeline, true);
        self.store()
    }

    /// Says where results are kept that begin a new cache, and that there is one beside the pipeline, if nobody named another.
    pub(super) fn announce(&self, pipeline: &Path, quiet: bool) {
        let folder = self.folder();
        if Store::at(folder).root().join("records").exists() {
            return;
        }
        let beside = pipeline.parent().unwrap_or(Path::new("")).join(CACHE);
        let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let whole = whole.display();
        let is_another = || beside.canonicalize().ok() != folder.canonicalize().ok();
        if self.cache.is_none() && Store::at(&beside).root().is_dir() && is_another() {
            let beside = quote(&beside.display().to_string());
            say(&format!(
                "warning: there is no cache in {whole}, and one lies beside the pipeline: `--cache {beside}` uses that"
            ));
        } else if !quiet {
            say(&format!("a new cache: results are kept in {whole}"));
        }
    }
}

/// The reader of a folder's path. What looks like an address is none, and not repeated: it may hold a password.
#[derive(Clone)]
pub(super) struct Folder;

impl TypedValueParser for Folder {
    type Value = PathBuf;

    fn parse_ref(&self, command: &Command, option: Option<&Arg>, value: &OsStr) -> Result<PathBuf, clap::Error> {
        let folder = PathBufValueParser::new().parse_ref(command, option, value)?;
        if is_address(&value.to_string_lossy()) {
            let message = "a cache is a folder, and this looks like an address: `--remote` shares results by one; a folder of such a \
                           name is written with `./` before it";
            return Err(command.clone().error(ErrorKind::ValueValidation, message));
        }
        Ok(folder)
    }
}

/// Takes variables of the environment that are set to nothing as not set.
pub(super) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let set = |argument: Arg| match argument.get_env() {
        Some(name) if is_empty(name) => argument.env(Resettable::Reset),
        _ => argument,
    };
    command.mut_args(set).mut_subcommands(without_empty_variables)
}

/// Cuts the addresses in what an error repeats of the command line.
pub(super) fn without_secrets(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(said)) = error.get(kind) {
            let said = ContextValue::String(cut_text(said));
            error.insert(kind, said);
        }
    }
    error
}

/// Gives the command line for provenance and logs, without what is secret in addresses.
pub(super) fn command_line() -> Vec<String> {
    cut_arguments(std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))
}

/// Which remote to use; by default the one of `pgan.toml`.
#[derive(Args)]
pub(super) struct RemoteArgs {
    /// Where results are shared: a folder, s3://BUCKET/PREFIX, gs://…, az://… or http(s)://…; that of pgan.toml by default
    #[arg(
        long,
        value_name = "URL|DIR",
        env = "PGAN_REMOTE",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(super) remote: Option<String>,
}

impl RemoteArgs {
    /// The settings for a pipeline, if a remote is named anywhere.
    pub(super) fn settings(&self, pipeline: &Path) -> Result<Option<Settings>, Failure> {
        Ok(Settings::find(pipeline, self.remote.as_deref())?)
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
        self.worker.as_ref()
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
