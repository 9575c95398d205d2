//! `cache get`: the files of a stage's result in a folder, under their names.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use pgan_pipe::{plan::Plan, store::Copying};

use super::super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs, one_stage},
    output::print,
    show::record,
    signals::leave_nothing_unfinished,
    trained::intact,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe cache get pipeline.yaml boosted -o boosted/     copies, which share their blocks where the file system can
  pgan-pipe cache get pipeline.yaml events -o data/ --link  read-only hard links, which take no room";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    /// The folder, which is made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Hard links in the place of copies, where they are possible
    #[arg(long)]
    link: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Get {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store_of(&self.pipeline.file);
        let plan = Plan::make(&pipeline, &store, std::slice::from_ref(&self.stage), &[])
            .map_err(|error| Failure::of_plan(&pipeline, error))?;
        let wanted = one_stage(&pipeline, &self.stage)?;
        let Some(stage) = plan.stages.iter().find(|stage| Some(stage.index) == wanted) else {
            return Ok(ExitCode::SUCCESS);
        };
        let record = record(stage, &self.pipeline)?;
        intact(&store, record)?;
        let copying = if self.link { Copying::Link } else { Copying::Copy };
        let paths = store.take_out(record, &self.output, copying)?;
        print(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
