//! `plan`: what a run would do with each stage, and why.

use std::process::ExitCode;

use clap::Args;
use pgan_pipe::{
    pipeline::Pipeline,
    plan::{Plan as Made, PlannedStage, Reason, StageState},
    store::Store,
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    failure::STALE,
    output::{print, print_json},
    text::{columns, several},
};

#[derive(Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages to plan, with all that they need; all by default
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// Plan as if this stage had to run; may be repeated
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// End with code 4 if anything would run
    #[arg(long)]
    exit_code: bool,
}

impl Plan {
    pub(super) fn run(&self) -> Outcome {
        let pipeline = self.pipeline.load()?;
        let plan = show(&pipeline, &self.cache.store(), &self.targets, &self.force, self.json)?;
        let stale = self.exit_code && !plan.up_to_date();
        Ok(if stale { ExitCode::from(STALE) } else { ExitCode::SUCCESS })
    }
}

/// Makes a plan and prints it.
pub(super) fn show(
    pipeline: &Pipeline,
    store: &Store,
    targets: &[String],
    force: &[String],
    json: bool,
) -> Result<Made, Failure> {
    let plan = Made::make(pipeline, store, targets, force).map_err(|error| Failure::of_plan(pipeline, error))?;
    if json {
        print_json(lines(&plan))?;
    } else {
        print(&text(&plan))?;
    }
    Ok(plan)
}

/// Names of the stages that are cached, that run, and that depend on those.
fn groups(plan: &Made) -> [Vec<&str>; 3] {
    let mut groups = [const { Vec::new() }; 3];
    for stage in &plan.stages {
        let group = match stage.state {
            StageState::Cached { .. } => 0,
            StageState::Run { .. } => 1,
            StageState::DependsOn { .. } => 2,
        };
        groups[group].push(stage.name.as_str());
    }
    groups
}

fn text(plan: &Made) -> String {
    let row = |stage: &PlannedStage| {
        let (word, why) = match &stage.state {
            StageState::Cached { key, .. } => ("cached", key.digest().short()),
            StageState::Run { why, .. } => ("run", reasons(why)),
            StageState::DependsOn { stages, why } => {
                let on = format!("on {}", several(stages));
                ("depends", if why.is_empty() { on } else { format!("{on}; {}", reasons(why)) })
            }
        };
        [word.to_owned(), stage.name.clone(), stage.kind.to_owned(), why]
    };
    let [cached, run, depends] = groups(plan).map(|group| group.len());
    let summary = match (run, depends) {
        (0, 0) => format!("up to date: all {cached} cached"),
        (_, 0) => format!("{run} to run, {cached} cached"),
        _ => format!("{run} to run, {depends} depending on them, {cached} cached"),
    };
    columns(&plan.stages.iter().map(row).collect::<Vec<_>>()) + &summary
}

/// Reasons in one line.
pub(super) fn reasons(why: &[Reason]) -> String {
    why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn lines(plan: &Made) -> Vec<serde_json::Value> {
    let line = |stage: &PlannedStage| match &stage.state {
        StageState::Cached { key, .. } => {
            json!({"event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "cached", "key": key})
        }
        StageState::Run { key, why } => json!({
            "event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "run", "key": key, "why": why
        }),
        StageState::DependsOn { stages, why } => json!({
            "event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "depends_on",
            "depends_on": stages, "why": why
        }),
    };
    let [cached, run, depends] = groups(plan);
    let last = json!({
        "event": "plan_finished", "up_to_date": plan.up_to_date(), "cached": cached, "run": run, "depends_on": depends
    });
    plan.stages.iter().map(line).chain([last]).collect()
}
