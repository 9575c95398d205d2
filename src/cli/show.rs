//! `show`: the records of stages.

use std::process::ExitCode;

use clap::Args;
use pgan_pipe::{
    digest::Digest,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState, named_metrics},
    store::Record,
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    failure::{INVALID, STAGE},
    output::{print, print_json},
    text::{bytes, columns, number, seconds},
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe show pipeline.yaml                       what has been made, and how
  pgan-pipe show pipeline.yaml evaluation            the metrics of one stage
  pgan-pipe show pipeline.yaml evaluation --json     the same for programs";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage to show, or a swept stage with all of its points; all by default
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(&self) -> Outcome {
        let pipeline = self.pipeline.load()?;
        let targets: Vec<String> = self.stage.iter().cloned().collect();
        let plan = Plan::make(&pipeline, &self.cache.store_of(&self.pipeline.file), &targets, &[])
            .map_err(|error| Failure::of_plan(&pipeline, error))?;
        let wanted = self.stage.as_ref().map(|name| pipeline.select(name));
        let asked = |stage: &&PlannedStage| wanted.as_ref().is_none_or(|wanted| wanted.contains(&stage.index));
        let stages: Vec<&PlannedStage> = plan.stages.iter().filter(asked).collect();
        if let (Some(_), [stage]) = (&self.stage, &*stages) {
            record(stage, &self.pipeline)?;
        }
        if self.json {
            print_json(stages.iter().map(|stage| to_json(stage, &pipeline)).collect::<Result<Vec<_>, _>>()?)?;
        } else {
            let texts: Vec<String> = stages.iter().map(|stage| text(stage, &pipeline)).collect();
            print(&texts.join("\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The record of a stage that has run, or else a failure that says how to run it.
pub(super) fn record<'a>(stage: &'a PlannedStage, args: &PipelineArgs) -> Result<&'a Record, Failure> {
    if let StageState::Cached { record, .. } = &stage.state {
        return Ok(record);
    }
    let set: Vec<String> = args.set.iter().map(|(key, value)| format!(" --set {key}={value}")).collect();
    let message = format!(
        "the stage `{name}` has not run as it stands now; run it first: pgan-pipe run {file} {name}{set}",
        name = stage.name,
        file = args.file.display(),
        set = set.concat(),
    );
    Err(Failure::message(STAGE, message))
}

fn to_json(stage: &PlannedStage, pipeline: &Pipeline) -> Result<serde_json::Value, Failure> {
    let mut line = json!({"stage": stage.name, "kind": stage.kind});
    let StageState::Cached { record, .. } = &stage.state else {
        line["state"] = json!("not_run");
        return Ok(line);
    };
    line["state"] = json!("cached");
    let fields = serde_json::to_value(&**record).map_err(|error| Failure::new(INVALID, error))?;
    if let (Some(line), serde_json::Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    line["metrics"] = json!(named_metrics(&pipeline.stages[stage.index].models, &record.metrics));
    Ok(line)
}

fn text(stage: &PlannedStage, pipeline: &Pipeline) -> String {
    let title = format!("{} ({})\n", stage.name, stage.kind);
    let StageState::Cached { key, record } = &stage.state else {
        return title + "  has not run as it stands now\n";
    };
    let how = &record.provenance;
    let mut rows = vec![
        ["key".to_owned(), key.to_string()],
        ["made".to_owned(), format!("{} in {} on {} ({})", how.started, seconds(how.seconds), how.device, how.host)],
        ["by".to_owned(), format!("pgan-pipe {}, seed {}", how.version, record.material.seed)],
    ];
    for (role, names) in &how.inputs {
        let digests = record.material.inputs.get(role).into_iter().flatten().map(Digest::short);
        let inputs: Vec<String> = names.iter().zip(digests).map(|(name, digest)| format!("{name} {digest}")).collect();
        rows.push([format!("input {role}"), inputs.join(", ")]);
    }
    for (field, path) in &how.sources {
        let digest = record.material.sources.get(field).map_or_else(String::new, Digest::short);
        rows.push([format!("source {field}"), format!("{} {digest}", path.display())]);
    }
    for (name, output) in &record.outputs {
        rows.push([format!("file {name}"), format!("{}, {}", bytes(output.size), output.digest.short())]);
    }
    rows.extend(record.notices.iter().map(|notice| ["notice".to_owned(), notice.clone()]));
    let metrics = named_metrics(&pipeline.stages[stage.index].models, &record.metrics);
    rows.extend(metrics.into_iter().map(|(name, value)| [name, number(value)]));
    title + &columns(&rows)
}
