//! `submit`: hands what is needed to a cluster's engine, one job a stage.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc, sync::atomic::AtomicUsize};

use clap::Args;
use pgan_pipe::{
    device::DeviceName,
    pipeline::Pipeline,
    plan::{Plan, StageState},
    remote::Watch,
    run::{Summary, last_lines},
    store::{Job, Store},
    submit::{
        Ended, EngineName, EngineOption, Event, Queued, Standing, SubmitError, SubmitOptions, follow, requests, submit,
    },
};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, MaybeRemoteArgs, PipelineArgs, WorkerArgs, command_line, this_program},
    elsewhere::Found,
    failure::{IO, STAGE},
    output::{print, print_json, say, write_json},
    results,
    signals::stop_on,
    text::count,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe submit pipeline.yaml --cache /shared/cache          a job for each stage that is not cached
  pgan-pipe submit pipeline.yaml boosted --wait                 one stage with all that it needs, to the end
  pgan-pipe submit pipeline.yaml --engine-option=--partition=gpu --engine-option=evaluation=--partition=cpu
  pgan-pipe submit pipeline.yaml --node-cache --remote s3://bucket/results      where machines share nothing else
  pgan-pipe submit pipeline.yaml --dry-run                      only show the jobs
  pgan-pipe status pipeline.yaml                                where they stand
  pgan-pipe cancel pipeline.yaml

The cache, the data and this program must lie on a file system that all machines share. With `--node-cache` machines need share nothing
but a remote, and have this program: data and results go by the remote. See docs/CLUSTER.md.";

/// The cache of a machine that shares none, in the words of its shell.
const NODE_CACHE: &str = "${TMPDIR:-/tmp}/pgan-pipe-$(id -un)/cache";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Submit {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages to bring up to date, with all that they need; all by default
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// The engine that has the jobs: slurm
    #[arg(long, value_name = "ENGINE", default_value = "slurm")]
    engine: EngineName,
    /// An option of the engine's own for every job, or as STAGE=OPTION for those of one stage; may be repeated
    #[arg(long = "engine-option", value_name = "[STAGE=]--OPTION", allow_hyphen_values = true)]
    engine_options: Vec<EngineOption>,
    /// cpu, libtorch, libtorch-cuda (a GPU for each stage that computes) or auto
    #[arg(long, default_value_t)]
    device: DeviceName,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    remote: MaybeRemoteArgs,
    /// Machines share nothing but the remote: each job works in a cache of its machine's own. Variables in it are of that machine
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = NODE_CACHE,
        value_parser = node_cache,
        conflicts_with = "no_remote"
    )]
    node_cache: Option<String>,
    /// This program on those machines, if it is elsewhere there
    #[arg(long, value_name = "PATH", requires = "node_cache")]
    program: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Follow the jobs to their end; then the exit code is 1 if one failed
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Show the jobs, and queue none
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a line on standard output; text for people goes to standard error
    #[arg(long)]
    json: bool,
    /// Say nothing but what went wrong
    #[arg(short, long)]
    quiet: bool,
}

impl Submit {
    pub(super) fn run(&self) -> Outcome {
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store();
        let options = self.options()?;
        let trouble = |error| match error {
            SubmitError::Plan(error) => Failure::of_plan(&pipeline, error),
            error => error.into(),
        };
        if self.dry_run {
            let jobs = requests(&pipeline, &store, &options).map_err(trouble)?;
            return self.show(jobs.into_iter().map(|(stage, job)| (stage, self.engine.engine().show(&job))).collect());
        }
        self.cache.announce(&self.pipeline.file, self.quiet);
        let mut groups = Groups::default();
        let queued = submit(&pipeline, &store, &options, &mut |event| {
            groups.add(event);
            self.tell(event);
        });
        let queued = queued.map_err(trouble)?;
        let stop = self.wait.then(|| stop_on(&[SIGINT, SIGTERM])).transpose()?;
        self.sum_up(&groups, &queued)?;
        match stop {
            Some(stop) => self.follow(&pipeline, &store, &queued.jobs, &stop),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn options(&self) -> Result<SubmitOptions, Failure> {
        let program = self.program.clone().map_or_else(this_program, Ok)?;
        let worker = self.worker.given().unwrap_or(&program).clone();
        // One without a folder is looked for on PATH, where the job runs.
        let absolute = |path: PathBuf| if path.components().count() > 1 { std::path::absolute(path) } else { Ok(path) };
        let absolute = |path| absolute(path).map_err(|error| Failure::new(IO, error));
        Ok(SubmitOptions {
            targets: self.targets.clone(),
            engine: self.engine,
            engine_options: self.engine_options.clone(),
            device: self.device,
            program: absolute(program)?,
            worker: absolute(worker)?,
            checkpoint_every: self.worker.checkpoint_every,
            argv: command_line(),
            remote: self.remote.of_run(&self.pipeline.file)?.map(|(_, settings)| settings),
            node_cache: self.node_cache.clone(),
        })
    }

    fn show(&self, jobs: Vec<(String, String)>) -> Outcome {
        if self.json {
            print_json(
                jobs.iter().map(|(stage, script)| json!({"event": "stage_script", "stage": stage, "script": script})),
            )?;
        } else if jobs.is_empty() {
            print("up to date: there is nothing to submit")?;
        } else {
            let scripts: Vec<String> =
                jobs.into_iter().map(|(stage, script)| format!("# {stage}\n{script}\n")).collect();
            print(&scripts.join("\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, event: &Event) {
        if self.json {
            // The jobs are queued all the same, and the last line fails as this one does.
            let _ = write_json([line(event, self.engine)]);
        }
        match event {
            Event::Stands(job, standing @ Standing::Failed { .. }) => {
                say(&format!("{}: {standing} (job {})", job.stage, job.id));
                // One of another machine comes by the remote, if it comes.
                if let Some(lines) = last_lines(&job.log) {
                    say(&format!("  log: {}\n{lines}", job.log.display()));
                }
            }
            _ if self.quiet => {}
            Event::Waiting(holder) => say(&format!("waiting for {holder}, which submits to the same cache")),
            Event::Cached(stage, _) => say(&format!("{stage}: cached")),
            Event::Submitted(job) => say(&format!("{}: job {}", job.stage, job.id)),
            Event::InFlight(job, standing) => {
                say(&format!("{}: not submitted again, for job {} is {standing}", job.stage, job.id));
            }
            Event::Stands(job, standing) => say(&format!("{}: {standing}", job.stage)),
            Event::Unanswered(error) => say(&format!("warning: {error}; asking again")),
        }
    }

    fn sum_up(&self, groups: &Groups, queued: &Queued) -> Result<(), Failure> {
        let Groups { submitted, in_flight, cached } = groups;
        if self.json {
            print_json([json!({
                "event": "submission_finished", "submission": queued.submission, "engine": self.engine.to_string(),
                "submitted": submitted, "in_flight": in_flight, "cached": cached,
            })])?;
        }
        if !self.quiet {
            let waiting =
                if in_flight.is_empty() { String::new() } else { format!("{} in flight already, ", in_flight.len()) };
            say(&format!(
                "{} submitted to {}, {waiting}{} cached",
                count(submitted.len(), "job"),
                self.engine,
                cached.len()
            ));
        }
        Ok(())
    }

    fn follow(&self, pipeline: &Pipeline, store: &Store, jobs: &[Job], stop: &Arc<AtomicUsize>) -> Outcome {
        let ended = follow(store, self.engine, jobs, stop, &mut |event| self.tell(event));
        let ended = match ended {
            Ok(ended) => ended,
            Err(signal) => {
                say(
                    "not waiting any longer; the jobs go on: `pgan-pipe status` tells of them, `pgan-pipe cancel` ends them",
                );
                return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(IO)));
            }
        };
        let Ended { done, failed, cancelled } = &ended;
        if self.json {
            print_json([json!({"event": "jobs_finished", "done": done, "failed": failed, "cancelled": cancelled})])?;
        }
        if !self.quiet {
            say(&format!("{} done, {} failed, {} cancelled", count(done.len(), "job"), failed.len(), cancelled.len()));
        }
        if !failed.is_empty() || !cancelled.is_empty() {
            return Ok(ExitCode::from(STAGE));
        }
        if self.node_cache.is_some() {
            self.pull(pipeline, store)?;
        }
        let plan =
            Plan::make(pipeline, store, &self.targets, &[]).map_err(|error| Failure::of_plan(pipeline, error))?;
        let stored = plan.stages.into_iter().filter_map(|stage| match stage.state {
            StageState::Cached { record, .. } => Some((stage.name, record)),
            _ => None,
        });
        let summary = Summary { results: stored.collect::<BTreeMap<_, _>>(), ..Summary::default() };
        results::show(pipeline, store, &summary, self.quiet)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Brings the results of jobs that gave them to the remote.
    fn pull(&self, pipeline: &Pipeline, store: &Store) -> Result<(), Failure> {
        let Some((remote, _)) = self.remote.of_run(&self.pipeline.file)? else { return Ok(()) };
        let stop = stop_on(&[SIGINT, SIGTERM])?;
        let mut found = Found::on(&remote, &stop);
        found.plan(pipeline, store, &self.targets, &[])?;
        if let Some(error) = found.trouble.take().or(found.bad.pop()) {
            return Err(error.into());
        }
        let offered = found.offered.into_values().collect();
        let (pulled, _) = remote.pull(store, offered, &mut Watch { stop: &stop, on_progress: &mut |_| {} })?;
        pulled.into_values().find_map(Result::err).map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A folder on another machine, in the words of its shell.
fn node_cache(text: &str) -> Result<String, String> {
    if !text.starts_with(['/', '$']) || text.contains(char::is_control) {
        return Err("write an absolute path, or one that begins with a variable, as in `$SCRATCH/cache`".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// What became of stages, by name.
#[derive(Default)]
struct Groups {
    submitted: Vec<String>,
    in_flight: Vec<String>,
    cached: Vec<String>,
}

impl Groups {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Cached(stage, _) => self.cached.push(stage.clone()),
            Event::Submitted(job) => self.submitted.push(job.stage.clone()),
            Event::InFlight(job, _) => self.in_flight.push(job.stage.clone()),
            Event::Waiting(_) | Event::Stands(..) | Event::Unanswered(_) => {}
        }
    }
}

/// An event as a line of JSON.
fn line(event: &Event, engine: EngineName) -> Value {
    let engine = engine.to_string();
    let with = |name: &str, job: &Job, standing: Option<&Standing>| {
        let mut line = json!({
            "event": name, "stage": job.stage, "engine": engine, "job": job.id, "after": job.after, "log": job.log,
            "submission": job.submission,
        });
        if let Some(standing) = standing {
            line["state"] = json!(standing.word());
            line["detail"] = json!(standing.detail());
        }
        line
    };
    match event {
        Event::Waiting(holder) => json!({"event": "submission_waiting", "holder": holder.to_string()}),
        Event::Cached(stage, key) => json!({"event": "stage_cached", "stage": stage, "key": key}),
        Event::Submitted(job) => with("stage_submitted", job, None),
        Event::InFlight(job, standing) => with("stage_in_flight", job, Some(standing)),
        Event::Stands(job, standing) => with("job_changed", job, Some(standing)),
        Event::Unanswered(error) => json!({"event": "engine_silent", "engine": engine, "message": error}),
    }
}
