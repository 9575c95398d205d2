//! `run`: runs what is needed.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use clap::{ArgAction, Args};
use pgan_pipe::{
    device::DeviceName,
    pipeline::{ByteSize, Pipeline},
    plan::{Lock, Plan},
    run::{Capacity, RunError, RunOptions, Sharing, run},
    store::Store,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, MaybeRemoteArgs, PipelineArgs, WorkerArgs, command_line},
    failure::STAGE,
    output::say,
    plan,
    progress::{self, Members, Verbosity},
    results,
    signals::Stop,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe run pipeline.yaml                      bring everything up to date
  pgan-pipe run pipeline.yaml boosted              one stage, with all that it needs
  pgan-pipe run pipeline.yaml --set steps=500      with another parameter
  pgan-pipe run pipeline.yaml --set boosted.mixture.learn=fixed
  pgan-pipe run pipeline.yaml --device libtorch-cuda --jobs 2
  pgan-pipe run pipeline.yaml --lock               and write pipeline.lock, for others to check theirs by `--locked`";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Run {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages to bring up to date, with all that they need; all by default
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// cpu, libtorch, libtorch-cuda (stages spread over the GPUs), libtorch-cuda:N, or auto; see `pgan-pipe devices`
    #[arg(long, default_value_t)]
    device: DeviceName,
    /// Stages that may run at once; as many as there are threads by default
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Threads that all stages together may use; as many as there are cores by default
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory that stages may ask for together by `resources.memory`; all that the machine has by default
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Run this stage even if it is cached; may be repeated
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// Afterwards write a lock beside the pipeline (NAME.lock): keys, digests and versions of all that was used and made
    #[arg(long, conflicts_with_all = ["targets", "locked", "only_plan"])]
    lock: bool,
    /// Fail unless pipeline, sources and every result are as the lock beside the pipeline says
    #[arg(long, conflicts_with = "only_plan")]
    locked: bool,
    /// After a failure, go on with the stages that do not need the failed one
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    remote: MaybeRemoteArgs,
    /// Print one JSON object a line on standard output; text for people goes to standard error
    #[arg(long)]
    json: bool,
    /// Say nothing but what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more: why stages run, their keys, frequent progress
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Show what would run, and why; the same as `plan`
    #[arg(long = "dry-run")]
    only_plan: bool,
}

impl Run {
    pub(super) fn run(&self) -> Outcome {
        let store = self.cache.store();
        if self.only_plan {
            plan::show(&self.pipeline, &self.cache, &self.targets, &self.force, &self.remote, self.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        // Looking at large sources takes a while, and leaves nothing to be brought to an end.
        let stop = Stop::on(&[SIGINT, SIGTERM])?;
        let pipeline = self.pipeline.load()?;
        let options = self.options(&stop)?;
        let mut reporter = progress::reporter(self.verbosity(), self.json, Members::of(&pipeline, &self.targets));
        // Not before there is something to do: what is refused needs no cache.
        let mut is_announced = false;
        let summary = run(&pipeline, &store, &options, &mut |event| {
            if !std::mem::replace(&mut is_announced, true) {
                stop.begin();
                self.cache.announce(&self.pipeline.file, self.quiet);
            }
            reporter.event(event);
        });
        let told = reporter.end();
        let summary = summary.map_err(|error| match error {
            RunError::Plan(error) => Failure::of_plan(&pipeline, error),
            error => error.into(),
        })?;
        results::show(&pipeline, &store, &summary, self.quiet)?;
        if self.lock && summary.failed.is_empty() {
            self.write_lock(&pipeline, &store)?;
        }
        told?;
        Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(STAGE) })
    }

    fn write_lock(&self, pipeline: &Pipeline, store: &Store) -> Result<(), Failure> {
        let lock = Lock::of(pipeline, &Plan::make(pipeline, store, &[], &[])?)?;
        let changed = lock.write(&pipeline.path)?;
        if !self.quiet {
            let path = Lock::path(&pipeline.path);
            say(&format!("lock: {}{}", path.display(), if changed { "" } else { ", as it was" }));
        }
        Ok(())
    }

    fn options(&self, stop: &Stop) -> Result<RunOptions, Failure> {
        let machine = Capacity::of_this_machine();
        let threads = self.threads.map_or(machine.threads, usize::from);
        Ok(RunOptions {
            targets: self.targets.clone(),
            only_targets: false,
            force: self.force.clone(),
            keep_going: self.keep_going,
            capacity: Capacity {
                jobs: self.jobs.map_or(threads, usize::from),
                threads,
                memory: self.memory.map_or(machine.memory, ByteSize::get),
                gpus: machine.gpus,
            },
            device: self.device,
            worker: self.worker.path()?,
            lock: self.locked.then(|| Lock::read(&self.pipeline.file)).transpose()?,
            known: BTreeMap::new(),
            sharing: self.remote.of_run(&self.pipeline.file)?.map(|(remote, settings)| Sharing {
                remote,
                push: settings.push,
                timeout: settings.timeout,
            }),
            checkpoint_every: self.worker.checkpoint_every,
            stop: Arc::clone(&stop.signal),
            argv: command_line(),
        })
    }

    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }
}
