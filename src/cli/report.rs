//! `report`: a pipeline's results as one HTML page, and its plots as files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use pgan_pipe::{
    names::file_names,
    plan::{Plan, StageState},
    report::{Evaluation, Report as Page, page, plot},
    store::{Record, Store},
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    failure::{CORRUPT, IO},
    output::{print_json, say, write_file},
    results::stage_folders,
    signals::leave_nothing_unfinished,
};

/// Pixels of a PNG for each of an SVG.
const PNG_SCALE: f32 = 2.0;

const HELP: &str = "\
The page needs nothing else: no network, no other file. It shows what is in the cache as the pipeline stands; stages that have
not run are marked in the graph.

Examples:
  pgan-pipe report pipeline.yaml                       results/NAME/report.html
  pgan-pipe report pipeline.yaml -o paper.html --plots figures";

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Report {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The page to write; results/NAME/report.html by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write every plot as SVG and PNG, in a folder for each evaluation
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line: the files that were written
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store_of(&self.pipeline.file);
        let plan = Plan::make(&pipeline, &store, &[], &[]).map_err(|error| Failure::of_plan(&pipeline, error))?;
        let run = store.logged_runs().into_iter().find(|run| run.pipeline == pipeline.name);
        let page = Page { pipeline: &pipeline, plan: &plan, store: &store, run: run.as_ref() };
        intact(&page)?;
        let html = page.page().map_err(|error| Failure::new(IO, error))?;
        let default = || Path::new("results").join(&pipeline.name).join("report.html");
        let path = self.output.clone().unwrap_or_else(default);
        let mut written = vec![path.clone()];
        write(&path, html.as_bytes())?;
        if let Some(folder) = &self.plots {
            let folders = stage_folders(&pipeline);
            for stage in &plan.stages {
                let StageState::Cached { record, .. } = &stage.state else { continue };
                let models = &pipeline.stages[stage.index].models;
                written.extend(plots(
                    &store,
                    record,
                    models,
                    &folder.join(folders.get(stage.name.as_str()).unwrap_or(&stage.name)),
                )?);
            }
        }
        if self.json {
            print_json(written.iter().map(|path| json!({"written": path})))?;
            return Ok(ExitCode::SUCCESS);
        }
        let missing = plan.stages.iter().filter(|stage| !matches!(stage.state, StageState::Cached { .. })).count();
        if missing > 0 {
            let file = self.pipeline.file.display();
            say(&format!(
                "{missing} of {} stages have no result as they stand; run them: pgan-pipe run {file}",
                plan.stages.len()
            ));
        }
        say(&format!("report: {}", path.display()));
        if let Some(folder) = &self.plots {
            say(&format!("{} plots in {}", written.len() - 1, folder.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Compares what the page is made of with its digests: nothing is shown that is not as it was stored.
fn intact(page: &Page<'_>) -> Result<(), Failure> {
    let mut corrupted = BTreeSet::new();
    for (stage, digest) in page.sources() {
        if page.store.is_intact(digest) {
            continue;
        }
        page.store.set_aside(digest)?;
        corrupted.insert(stage);
    }
    if corrupted.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = corrupted.into_iter().collect();
    let message = format!(
        "the results of `{}` were corrupted or unreadable in the cache and have been set aside: run again to make them anew",
        names.join("`, `")
    );
    Err(Failure::message(CORRUPT, message))
}

/// Writes the plots of an evaluation or a study, if the record is one, and gives their paths.
fn plots(store: &Store, record: &Record, models: &[String], folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let Some(file) = record.outputs.get(Evaluation::FILE) else { return Ok(Vec::new()) };
    let evaluation = Evaluation::load(&store.object(file.digest)).map_err(|error| Failure::new(IO, error))?;
    let figures = page::figures(&evaluation, models, plot::Size::Full).map_err(|error| Failure::new(IO, error))?;
    let mut written = Vec::new();
    let names = file_names(figures.iter().map(|(name, _)| name.as_str()));
    for (name, (_, svg)) in names.iter().zip(figures) {
        let path = folder.join(format!("{name}.svg"));
        write(&path, svg.as_bytes())?;
        let png = plot::png(&svg, PNG_SCALE).map_err(|error| Failure::new(IO, error))?;
        let image = folder.join(format!("{name}.png"));
        write(&image, &png)?;
        written.extend([path, image]);
    }
    Ok(written)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))
            .map_err(|error| Failure::new(IO, error))?;
    }
    write_file(path, content)
}
