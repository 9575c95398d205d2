//! `cache push` and `cache pull`: results to and from a remote.

use std::{
    fmt::Write,
    process::ExitCode,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use clap::Args;
use pgan_pipe::{
    key::CacheKey,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState},
    remote::{Patience, Progress, Remote, RemoteError, Sending, Watch},
    store::Store,
};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs, RemoteArgs},
    elsewhere::Found,
    failure::{INVALID, STAGE, of_remote},
    output::{print, print_json, say},
    progress::Transfer,
    signals::stop_on,
    text::{bytes, count, seconds, several},
};

const PUSH_EXAMPLES: &str = "\
Examples:
  pgan-pipe cache push study.yaml                              all that the pipeline has made, to the remote of pgan.toml
  pgan-pipe cache push study.yaml boosted --remote s3://bucket/results
  pgan-pipe cache push study.yaml --remote /mnt/group/cache    to a folder that others can read

What the remote has already is not sent again; a push that was cut off goes on from there.";

const PULL_EXAMPLES: &str = "\
Examples:
  pgan-pipe cache pull study.yaml                              all that the remote of pgan.toml has for the pipeline
  pgan-pipe cache pull study.yaml boosted --remote https://example.org/cache

Everything that comes is compared with its digest. A pull that was cut off goes on from there. `run` pulls what it needs by itself.";

#[derive(Args)]
pub(in crate::cli) struct Share {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages whose results to move, with all that they need; all by default
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Say nothing but what went wrong
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
#[command(after_help = PUSH_EXAMPLES)]
pub(in crate::cli) struct Push {
    #[command(flatten)]
    share: Share,
    /// Send also what the remote has already: to mend it
    #[arg(long)]
    overwrite: bool,
}

#[derive(Args)]
#[command(after_help = PULL_EXAMPLES)]
pub(in crate::cli) struct Pull {
    #[command(flatten)]
    share: Share,
}

/// What became of the results, by names of stages.
#[derive(Default)]
struct Outcomes {
    moved: Vec<String>,
    there: Vec<String>,
    /// They are not where they should be taken from.
    absent: Vec<String>,
    failed: Vec<(String, RemoteError)>,
}

impl Push {
    pub(super) fn run(&self) -> Outcome {
        let Session { pipeline, store, remote, stop } = &self.share.begin()?;
        if !remote.address().is_writable() {
            return Err(RemoteError::ReadOnly { address: remote.address().clone() }.into());
        }
        let plan =
            Plan::make(pipeline, store, &self.share.targets, &[]).map_err(|error| Failure::of_plan(pipeline, error))?;
        let (mut outcomes, mut records) = (Outcomes::default(), Vec::new());
        for stage in &plan.stages {
            match &stage.state {
                StageState::Cached { record, .. } => records.push((stage.name.clone(), Arc::clone(record))),
                _ => outcomes.absent.push(stage.name.clone()),
            }
        }
        let clock = Instant::now();
        let mut transfer = self.share.transfer("pushing");
        let to_send: Vec<_> = records.iter().map(|(_, record)| Arc::clone(record)).collect();
        let mut watch = Watch { stop, on_progress: &mut |progress| transfer.show(progress) };
        let (mut pushed, progress) = remote.push(store, &to_send, self.overwrite, &mut watch)?;
        drop(transfer);
        for (stage, record) in records {
            match pushed.remove(&record.key) {
                Some(Ok(Sending::Sent)) => outcomes.moved.push(stage),
                Some(Ok(Sending::There)) | None => outcomes.there.push(stage),
                Some(Ok(Sending::Differs)) => {
                    say(&format!(
                        "warning: {stage}: the remote holds another result of the same key, which stays: is the device \
                         deterministic? `--overwrite` replaces it"
                    ));
                    outcomes.there.push(stage);
                }
                Some(Err(error)) => outcomes.failed.push((stage, error)),
            }
        }
        let absent = "have no result here: `pgan-pipe run` makes them";
        self.share.end(["push", "pushed", "there", absent], remote, &outcomes, &progress, clock)
    }
}

impl Pull {
    pub(super) fn run(&self) -> Outcome {
        let Session { pipeline, store, remote, stop } = &self.share.begin()?;
        let clock = Instant::now();
        let mut found = Found::on(remote, stop);
        let plan = found.plan(pipeline, store, &self.share.targets, &[])?;
        if let Some(trouble) = found.trouble {
            return Err(trouble.into());
        }
        let mut outcomes = Outcomes::default();
        let mut wanted: Vec<(String, CacheKey)> = Vec::new();
        for PlannedStage { name, state, .. } in &plan.stages {
            match state {
                StageState::Cached { .. } => outcomes.there.push(name.clone()),
                StageState::Elsewhere { key, .. } => wanted.push((name.clone(), *key)),
                StageState::Run { key, .. } => match found.bad.iter().position(|bad| bad.is_of(*key)) {
                    Some(at) => outcomes.failed.push((name.clone(), found.bad.swap_remove(at))),
                    None => outcomes.absent.push(name.clone()),
                },
                StageState::DependsOn { .. } => outcomes.absent.push(name.clone()),
            }
        }
        let mut transfer = self.share.transfer("pulling");
        let offered = found.offered.into_values().collect();
        let mut watch = Watch { stop, on_progress: &mut |progress| transfer.show(progress) };
        let (mut pulled, progress) = remote.pull(store, offered, &mut watch)?;
        drop(transfer);
        for (stage, key) in wanted {
            match pulled.remove(&key) {
                Some(Err(RemoteError::Absent { what })) => {
                    say(&format!("warning: {stage}: {what} is not there although the remote has a record of it"));
                    outcomes.absent.push(stage);
                }
                Some(Err(error)) => outcomes.failed.push((stage, error)),
                Some(Ok(_)) | None => outcomes.moved.push(stage),
            }
        }
        let absent = "are not there: `pgan-pipe run` makes them";
        self.share.end(["pull", "pulled", "cached", absent], remote, &outcomes, &progress, clock)
    }
}

/// What both verbs work with.
struct Session {
    pipeline: Pipeline,
    store: Store,
    remote: Remote,
    stop: Arc<AtomicUsize>,
}

impl Share {
    fn begin(&self) -> Result<Session, Failure> {
        let pipeline = self.pipeline.load()?;
        let Some(settings) = self.remote.settings(&self.pipeline.file)? else {
            let message = "no remote is named: give `--remote URL|DIR`, set PGAN_REMOTE, or write it into pgan.toml beside the \
                           pipeline:\n\n  [remote]\n  url = \"s3://BUCKET/PREFIX\"\n";
            return Err(Failure::message(INVALID, message));
        };
        let remote = Remote::new(settings, Patience::PUSH_OR_PULL);
        let stop = stop_on(&[SIGINT, SIGTERM])?;
        Ok(Session { pipeline, store: self.cache.store_of(&self.pipeline.file), remote, stop })
    }

    fn transfer(&self, verb: &'static str) -> Transfer {
        Transfer::new(verb, self.quiet, self.json)
    }

    /// Tells what was done, and gives the worst exit code of what was not.
    fn end(
        &self,
        [verb, moved, there, absent]: [&'static str; 4],
        remote: &Remote,
        outcomes: &Outcomes,
        progress: &Progress,
        clock: Instant,
    ) -> Outcome {
        let took = clock.elapsed().as_secs_f64();
        // A remote that takes nothing says so of each result.
        let is_closed = |error: &RemoteError| matches!(error, RemoteError::Closed { .. });
        for (stage, error) in outcomes.failed.iter().filter(|(_, error)| !is_closed(error)) {
            say(&format!("error: {stage}: {error}"));
        }
        let closed: Vec<_> = outcomes.failed.iter().filter(|(_, error)| is_closed(error)).collect();
        if let Some((_, error)) = closed.first() {
            let stages: Vec<String> = closed.iter().map(|(stage, _)| stage.clone()).collect();
            say(&format!("error: {}: {error}", several(&stages)));
        }
        let failed: Vec<&str> = outcomes.failed.iter().map(|(stage, _)| stage.as_str()).collect();
        if self.json {
            let line: Value = json!({
                "event": format!("{verb}_finished"), "remote": remote.address().to_string(), moved: outcomes.moved,
                there: outcomes.there, "absent": outcomes.absent, "failed": failed, "objects": progress.objects(),
                "bytes": progress.bytes(), "seconds": took,
            });
            print_json([line])?;
        } else if !self.quiet {
            let mut text = format!(
                "{} {moved}, {} {there}; {} of {} in {}",
                count(outcomes.moved.len(), "result"),
                outcomes.there.len(),
                count(usize::try_from(progress.objects()).unwrap_or(usize::MAX), "object"),
                bytes(progress.bytes()),
                seconds(took)
            );
            if !outcomes.absent.is_empty() {
                let _ = write!(text, "\nthese {absent}: {}", several(&outcomes.absent));
            }
            print(&text)?;
        }
        let asked = outcomes.absent.iter().any(|stage| self.targets.contains(stage));
        let worst = outcomes.failed.iter().map(|(_, error)| of_remote(error)).min();
        Ok(ExitCode::from(worst.unwrap_or(if asked { STAGE } else { 0 })))
    }
}
