//! `export --format tensorboard` and `mlflow`: stages that have run as runs of other programs.

use std::{env, fs, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context;
use pgan_pipe::{
    digest::Digest,
    names::file_names,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState},
    store::{Record, Store},
    track::{
        Tracked,
        mlflow::{Logged, Login, Server},
        tensorboard,
    },
    train::history::History,
};

use super::super::{
    Failure, Outcome,
    arguments::PipelineArgs,
    failure::{CORRUPT, INVALID, IO, REMOTE, STAGE},
    output::{print, say, write_file},
    show,
    text::{count, several},
};

/// A folder for each run, with an event file.
pub(super) fn tensorboard(args: &PipelineArgs, stages: &[String], store: &Store, folder: &Path) -> Outcome {
    let runs = runs(args, stages, store)?;
    let names = file_names(runs.iter().map(|run| run.name.as_str()));
    for (run, name) in runs.iter().zip(names) {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))
            .map_err(|error| Failure::new(IO, error))?;
        write_file(&folder.join(tensorboard::FILE), &tensorboard::events(run))?;
    }
    let shown = folder.display();
    print(&format!("wrote {} to {shown}; look at them with: tensorboard --logdir {shown}", count(runs.len(), "run")))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs of the experiment that has the pipeline's name.
pub(super) fn mlflow(args: &PipelineArgs, stages: &[String], store: &Store, address: &str) -> Outcome {
    let login = match (variable("MLFLOW_TRACKING_TOKEN"), variable("MLFLOW_TRACKING_USERNAME")) {
        (Some(token), _) => Login::Token(token),
        (None, Some(name)) => Login::Password(name, variable("MLFLOW_TRACKING_PASSWORD")),
        (None, None) => Login::None,
    };
    let server = Server::at(address, login).map_err(|error| {
        let advice =
            "start a server with `mlflow server`, and give its address, as in `--tracking-uri http://127.0.0.1:5000`";
        Failure::message(INVALID, format!("{error}; {advice}"))
    })?;
    let runs = runs(args, stages, store)?;
    let failed = |error| Failure::new(REMOTE, error);
    let mut new = 0;
    if let Some(first) = runs.first() {
        let experiment = server.experiment(&first.pipeline).map_err(failed)?;
        for run in &runs {
            new += usize::from(server.log(&experiment, run).map_err(failed)? == Logged::New);
        }
        let there = runs.len() - new;
        print(&format!("{} sent to the experiment `{}`, {there} there before", count(new, "run"), first.pipeline))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A variable of the environment, if it is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Those of the stages that have run and have something to show; of stages that are named, each must have run.
fn runs(args: &PipelineArgs, stages: &[String], store: &Store) -> Result<Vec<Tracked>, Failure> {
    let pipeline = args.load()?;
    let plan = Plan::make(&pipeline, store, stages, &[]).map_err(|error| Failure::of_plan(&pipeline, error))?;
    let wanted: Vec<usize> = stages.iter().flat_map(|name| pipeline.select(name)).collect();
    let mut runs = Vec::new();
    let mut missing = Vec::new();
    for stage in plan.stages.iter().filter(|stage| stages.is_empty() || wanted.contains(&stage.index)) {
        match &stage.state {
            StageState::Cached { record, .. } => runs.extend(run(&pipeline, stage, record, store, !stages.is_empty())?),
            _ if stages.is_empty() => missing.push(stage.name.clone()),
            _ => {
                show::record(stage, args)?;
            }
        }
    }
    if runs.is_empty() {
        let message = format!(
            "nothing of this pipeline has run as it stands now; run it first: pgan-pipe run {}",
            args.file.display()
        );
        return Err(Failure::message(STAGE, message));
    }
    if !missing.is_empty() {
        say(&format!("left out, since they have not run as they stand now: {}", several(&missing)));
    }
    Ok(runs)
}

/// A stage, if it has metrics or curves or is asked for.
fn run(
    pipeline: &Pipeline,
    stage: &PlannedStage,
    record: &Arc<Record>,
    store: &Store,
    named: bool,
) -> Result<Option<Tracked>, Failure> {
    if let Some(file) = record.outputs.get(History::FILE) {
        let bytes = fs::read(store.object(file.digest)).ok();
        if bytes.is_none_or(|bytes| Digest::of(&bytes) != file.digest) {
            let message =
                format!("the curves of `{}` are missing or corrupted in the cache; run the stage again", stage.name);
            return Err(Failure::message(CORRUPT, message));
        }
    }
    let tracked = Tracked::new(pipeline, stage.index, record, store).map_err(|error| Failure::new(CORRUPT, error))?;
    Ok((named || !tracked.metrics.is_empty() || !tracked.series.is_empty()).then_some(tracked))
}
