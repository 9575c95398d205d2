//! `status`: what is cached, running, or was interrupted and at which step.

use std::process::ExitCode;

use clap::Args;
use pgan_pipe::{
    plan::{PlannedStage, StageState},
    store::{Mark, Store, Work},
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, MaybeRemoteArgs, PipelineArgs},
    elsewhere,
    failure::STALE,
    output::{print, print_json},
    plan::reasons,
    text::{bytes, columns, several, since},
};

#[derive(Args)]
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
        let states: Vec<State<'_>> =
            plan.stages.iter().map(|stage| State::of(stage, &store)).collect::<Result<_, _>>()?;
        if self.json {
            print_json(states.iter().map(State::json))?;
        } else {
            print(&columns(&states.iter().map(State::row).collect::<Vec<_>>()))?;
        }
        let stale = self.exit_code && !plan.up_to_date();
        Ok(if stale { ExitCode::from(STALE) } else { ExitCode::SUCCESS })
    }
}

/// A stage with what goes on for it.
struct State<'a> {
    stage: &'a PlannedStage,
    work: Work,
}

impl<'a> State<'a> {
    fn of(stage: &'a PlannedStage, store: &Store) -> Result<Self, Failure> {
        let work = match &stage.state {
            StageState::Run { key, .. } | StageState::Elsewhere { key, .. } => store.work(*key)?,
            StageState::Cached { .. } | StageState::DependsOn { .. } => Work::Idle,
        };
        Ok(Self { stage, work })
    }

    fn word(&self) -> &'static str {
        match (&self.stage.state, &self.work) {
            (StageState::Cached { .. }, _) => "cached",
            (StageState::DependsOn { .. }, _) => "waiting",
            (_, Work::Running(..)) => "running",
            (_, Work::Interrupted(_)) => "interrupted",
            (StageState::Elsewhere { .. }, Work::Idle) => "to pull",
            (StageState::Run { .. }, Work::Idle) => "to run",
        }
    }

    fn row(&self) -> [String; 4] {
        let at = |mark: &Mark| format!("step {} of {}", mark.step, mark.steps);
        let detail = match (&self.stage.state, &self.work) {
            (StageState::Cached { record, .. }, _) => {
                format!("{}, {}", bytes(record.size()), since(&record.provenance.started))
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
        if let Work::Running(_, Some(mark)) | Work::Interrupted(mark) = &self.work {
            line["step"] = json!(mark.step);
            line["steps"] = json!(mark.steps);
        }
        if let Work::Running(holder, _) = &self.work {
            line["holder"] = json!(holder.to_string());
        }
        line
    }
}
