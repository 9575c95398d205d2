//! `plan`: what a run would do with each stage, and why.

use std::process::ExitCode;

use clap::Args;
use pgan_pipe::plan::{Plan as Made, PlannedStage, Reason, StageState};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, MaybeRemoteArgs, PipelineArgs},
    elsewhere,
    failure::STALE,
    output::{print, print_json},
    text::{bytes, columns, several},
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe plan pipeline.yaml                        what would run, and why
  pgan-pipe plan pipeline.yaml --set boosted.steps=3000
  pgan-pipe plan pipeline.yaml boosted                one stage, with all that it needs
  pgan-pipe plan pipeline.yaml --exit-code            4 if anything would run, for scripts";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
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
    #[command(flatten)]
    remote: MaybeRemoteArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// End with code 4 if anything would run or be pulled
    #[arg(long)]
    exit_code: bool,
}

impl Plan {
    pub(super) fn run(&self) -> Outcome {
        let plan = show(&self.pipeline, &self.cache, &self.targets, &self.force, &self.remote, self.json)?;
        let stale = self.exit_code && !plan.up_to_date();
        Ok(if stale { ExitCode::from(STALE) } else { ExitCode::SUCCESS })
    }
}

/// Makes a plan and prints it.
pub(super) fn show(
    pipeline: &PipelineArgs,
    cache: &CacheArgs,
    targets: &[String],
    force: &[String],
    remote: &MaybeRemoteArgs,
    json: bool,
) -> Result<Made, Failure> {
    let plan = elsewhere::plan(&pipeline.load()?, &pipeline.file, &cache.store(), (targets, force), remote)?;
    cache.announce(&pipeline.file, true);
    if json {
        print_json(lines(&plan))?;
    } else {
        print(&text(&plan))?;
    }
    Ok(plan)
}

/// Names of the stages that are cached, that are pulled, that run, and that depend on those.
fn groups(plan: &Made) -> [Vec<&str>; 4] {
    let mut groups = [const { Vec::new() }; 4];
    for stage in &plan.stages {
        let group = match stage.state {
            StageState::Cached { .. } => 0,
            StageState::Elsewhere { .. } => 1,
            StageState::Run { .. } => 2,
            StageState::DependsOn { .. } => 3,
        };
        groups[group].push(stage.name.as_str());
    }
    groups
}

fn text(plan: &Made) -> String {
    let row = |stage: &PlannedStage| {
        let (word, why) = match &stage.state {
            StageState::Cached { key, .. } => ("cached", key.digest().short()),
            StageState::Elsewhere { key, record } => {
                ("pull", format!("{}, {} from the remote", key.digest().short(), bytes(record.size())))
            }
            StageState::Run { why, .. } => ("run", reasons(why)),
            StageState::DependsOn { stages, why } => {
                let on = format!("on {}", several(stages));
                ("depends", if why.is_empty() { on } else { format!("{on}; {}", reasons(why)) })
            }
        };
        [word.to_owned(), stage.name.clone(), stage.kind.to_owned(), why]
    };
    let [cached, pull, run, depends] = groups(plan).map(|group| group.len());
    let pulled = if pull > 0 { format!("{pull} to pull, ") } else { String::new() };
    let summary = match (run, depends) {
        (0, 0) if pull == 0 => format!("up to date: all {cached} cached"),
        (0, 0) => format!("{pulled}{cached} cached"),
        (_, 0) => format!("{run} to run, {pulled}{cached} cached"),
        _ => format!("{run} to run, {depends} depending on them, {pulled}{cached} cached"),
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
        StageState::Elsewhere { key, record } => json!({
            "event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "pull", "key": key,
            "bytes": record.size()
        }),
        StageState::Run { key, why } => json!({
            "event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "run", "key": key, "why": why
        }),
        StageState::DependsOn { stages, why } => json!({
            "event": "stage_planned", "stage": stage.name, "kind": stage.kind, "state": "depends_on",
            "depends_on": stages, "why": why
        }),
    };
    let [cached, pull, run, depends] = groups(plan);
    let last = json!({
        "event": "plan_finished", "up_to_date": plan.up_to_date(), "cached": cached, "pull": pull, "run": run,
        "depends_on": depends
    });
    plan.stages.iter().map(line).chain([last]).collect()
}
