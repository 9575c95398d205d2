//! `check`: a pipeline and its sources, with every mistake.

use std::process::ExitCode;

use clap::Args;

use super::{
    Outcome,
    arguments::PipelineArgs,
    output::{print, say},
    text::count,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe check pipeline.yaml
  pgan-pipe check pipeline.yaml --set boosted.mixture.learn=em    would this be valid?";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Check {
    pub(super) fn run(&self) -> Outcome {
        let pipeline = self.pipeline.load()?;
        pipeline.preflight(&(0..pipeline.stages.len()).collect::<Vec<_>>())?;
        for (stage, remark) in pipeline.remarks() {
            say(&format!("note: {stage}: {remark}"));
        }
        let (named, all) = (pipeline.named, pipeline.stages.len());
        let expanded = if all > named { format!("; {all} with sweeps, rounds and replicas") } else { String::new() };
        print(&format!("{}: valid, {}{expanded}", self.pipeline.file.display(), count(named, "stage")))?;
        Ok(ExitCode::SUCCESS)
    }
}
