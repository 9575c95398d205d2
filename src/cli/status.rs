//! `status`: what is cached, queued on a cluster, running, or was interrupted and at which step.

use std::{collections::BTreeSet, process::ExitCode};

use clap::Args;
use pgan_pipe::{
    plan::{PlannedStage, StageState},
    run::last_lines,
    store::{Mark, Store, Work},
    submit::{Found, Standing, lookup},
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, MaybeRemoteArgs, PipelineArgs},
    elsewhere,
    failure::STALE,
    output::{print, print_json, say},
    plan::reasons,
    text::{bytes, columns, several, since},
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe status pipeline.yaml                where stages and jobs stand
  pgan-pipe status pipeline.yaml --exit-code    4 unless every stage is cached, for scripts";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    remote: MaybeRemoteArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// End with code 4 unless every stage is cached
    #[arg(long)]
    exit_code: bool,
}

impl Status {
    pub(super) fn run(&self) -> Outcome {
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store();
        let plan = elsewhere::plan(&pipeline, &self.pipeline.file, &store, (&[], &[]), &self.remote)?;
        self.cache.announce(&self.pipeline.file, true);
        let open = plan.stages.iter().filter(|stage| !matches!(stage.state, StageState::Cached { .. }));
        let open: BTreeSet<&str> = open.map(|stage| stage.name.as_str()).collect();
        let of_plan = |error| Failure::of_plan(&pipeline, error);
        let (mut jobs, errors) = lookup(&pipeline, &store, &open).map_err(of_plan)?;
        let states = plan.stages.iter().map(|stage| State::of(stage, jobs.remove(&stage.name), &store));
        let states: Vec<State<'_>> = states.collect::<Result<_, _>>()?;
        for error in errors {
            say(&format!("warning: {error}"));
        }
        if self.json {
            print_json(states.iter().map(State::json))?;
        } else {
            let table = columns(&states.iter().map(State::row).collect::<Vec<_>>());
            print(&(table + &states.iter().filter_map(State::failure).collect::<String>()))?;
        }
        let stale = self.exit_code && !plan.up_to_date();
        Ok(if stale { ExitCode::from(STALE) } else { ExitCode::SUCCESS })
    }
}

/// A stage with what goes on for it.
struct State<'a> {
    stage: &'a PlannedStage,
    work: Work,
    /// The latest job for it, unless a run is at work on it that is none.
    job: Option<Found>,
}

impl<'a> State<'a> {
    fn of(stage: &'a PlannedStage, job: Option<Found>, store: &Store) -> Result<Self, Failure> {
        let work = match &stage.state {
            StageState::Run { key, .. } | StageState::Elsewhere { key, .. } => store.work(*key)?,
            StageState::Cached { .. } | StageState::DependsOn { .. } => Work::Idle,
        };
        let elsewhere = matches!(work, Work::Running(..));
        // A result that is stored no longer is to be made again, unless it is where this store has not looked.
        let unseen = |job: &Found| job.remote.is_some() && !matches!(stage.state, StageState::Elsewhere { .. });
        let job = job.filter(|job| job.standing != Standing::Done || unseen(job));
        let job = job.filter(|job| job.standing.in_flight() || !elsewhere);
        Ok(Self { stage, work, job })
    }

    fn word(&self) -> &'static str {
        match (&self.stage.state, &self.work, &self.job) {
            (StageState::Cached { .. }, ..) => "cached",
            (_, _, Some(Found { standing: Standing::Unknown, .. })) => "submitted",
            (_, _, Some(job)) => job.standing.word(),
            (StageState::DependsOn { .. }, ..) => "waiting",
            (_, Work::Running(..), _) => "running",
            (_, Work::Interrupted(_), _) => "interrupted",
            (StageState::Elsewhere { .. }, Work::Idle, _) => "to pull",
            (StageState::Run { .. }, Work::Idle, _) => "to run",
        }
    }

    fn row(&self) -> [String; 4] {
        let at = |mark: &Mark| format!("step {} of {}", mark.step, mark.steps);
        let detail = match (&self.stage.state, &self.work) {
            (StageState::Cached { record, .. }, _) => {
                format!("{}, {}", bytes(record.size()), since(&record.provenance.started))
            }
            (_, work) if self.job.is_some() => {
                let step = mark_of(work).map(at);
                self.job.iter().map(in_words).chain(step).collect::<Vec<_>>().join(", ")
            }
            (StageState::DependsOn { stages, .. }, _) => format!("for {}", several(stages)),
            (_, Work::Running(holder, mark)) => {
                format!("{holder}{}", mark.as_ref().map_or_else(String::new, |mark| format!(", {}", at(mark))))
            }
            (_, Work::Interrupted(mark)) => at(mark),
            (StageState::Elsewhere { record, .. }, Work::Idle) => {
                format!("{}, {}, on the remote", bytes(record.size()), since(&record.provenance.started))
            }
            (StageState::Run { why, .. }, Work::Idle) => reasons(why),
        };
        [self.word().to_owned(), self.stage.name.clone(), self.stage.kind.to_owned(), detail]
    }

    /// What is to be read of a job that failed or runs.
    fn failure(&self) -> Option<String> {
        let Found { job, standing, remote, .. } = self.job.as_ref()?;
        let log = job.log.display();
        match standing {
            // One of another machine comes by the remote, if it comes.
            Standing::Failed { why } => {
                let tail = last_lines(&job.log).map_or_else(String::new, |lines| format!("  log: {log}\n{lines}\n"));
                Some(format!("\n{}: {why}\n{tail}", self.stage.name))
            }
            Standing::Running { .. } if remote.is_none() => Some(format!("\n{}\n  log: {log}\n", self.stage.name)),
            _ => None,
        }
    }

    fn json(&self) -> serde_json::Value {
        let mut line = json!({
            "event": "stage_status", "stage": self.stage.name, "kind": self.stage.kind,
            "state": self.word().replace(' ', "_"),
        });
        match &self.stage.state {
            StageState::Cached { key, .. } | StageState::Elsewhere { key, .. } => line["key"] = json!(key),
            StageState::Run { key, why } => {
                line["key"] = json!(key);
                line["why"] = json!(why);
            }
            StageState::DependsOn { stages, .. } => line["depends_on"] = json!(stages),
        }
        if let Some(mark) = mark_of(&self.work) {
            line["step"] = json!(mark.step);
            line["steps"] = json!(mark.steps);
        }
        if let Work::Running(holder, _) = &self.work {
            line["holder"] = json!(holder.to_string());
        }
        if let Some(Found { job, engine, standing, outdated, remote }) = &self.job {
            line["job"] = json!({
                "engine": engine, "id": job.id, "state": standing.word(), "detail": standing.detail(), "log": job.log,
                "submission": job.submission, "outdated": outdated,
            });
            if let Some(remote) = remote {
                line["job"]["remote"] = json!(remote);
            }
            if let Standing::Failed { .. } = standing {
                line["job"]["log_tail"] = json!(last_lines(&job.log));
            }
        }
        line
    }
}

fn mark_of(work: &Work) -> Option<&Mark> {
    match work {
        Work::Running(_, mark) => mark.as_ref(),
        Work::Interrupted(mark) => Some(mark),
        Work::Idle => None,
    }
}

/// A job in a few words; why it failed stands elsewhere.
fn in_words(Found { job, standing, outdated, remote, .. }: &Found) -> String {
    let rest = match standing {
        Standing::Done => remote.as_ref().map_or_else(String::new, |remote| format!(", its result is on {remote}")),
        Standing::Running { node } if !node.is_empty() => format!(" on {node}"),
        Standing::Queued { reason } if !matches!(&**reason, "" | "None") => format!(": {reason}"),
        Standing::Cancelled { why } if !why.is_empty() => format!(": {why}"),
        _ => String::new(),
    };
    let outdated = if *outdated { ", which runs the stage as it was when submitted" } else { "" };
    format!("job {}{rest}{outdated}", job.id)
}
