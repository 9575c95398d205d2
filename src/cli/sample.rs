//! `sample`: events from a trained model, in physical units.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use pgan_pipe::{
    data::write_table,
    device::DeviceName,
    model::Model,
    plan::Plan,
    rng::Streams,
    stage::{Artifact, ArtifactKind},
    store::{Record, Store},
    value::EventCount,
};

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    failure::{CORRUPT, INVALID, IO, STAGE},
    output::print,
    show,
};

#[derive(Args)]
#[command(after_help = "The file holds the feature columns and the derived observables, named as in the dataset.")]
pub(super) struct Sample {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// A stage that makes a model: `train_gan`, `freeze`, `pretrain_tail` or `boost`
    #[arg(value_name = "STAGE")]
    stage: String,
    /// How many events
    #[arg(short = 'n', long, value_name = "N", value_parser = events)]
    events: EventCount,
    /// The file to write: .parquet, .csv or .npy
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The same seed gives the same events
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, libtorch or libtorch-cuda:N
    #[arg(long, default_value_t)]
    device: DeviceName,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Sample {
    pub(super) fn run(&self) -> Outcome {
        let extension = self.output.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["parquet", "csv", "npy"].contains(&extension) {
            let message = format!("{} must end in .parquet, .csv or .npy", self.output.display());
            return Err(Failure::message(INVALID, message));
        }
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store();
        let plan = Plan::make(&pipeline, &store, std::slice::from_ref(&self.stage), &[])
            .map_err(|error| Failure::of_plan(&pipeline, error))?;
        let unknown = || Failure::message(INVALID, format!("there is no stage `{}`", self.stage));
        let stage = plan.stages.iter().find(|stage| stage.name == self.stage).ok_or_else(unknown)?;
        let produces = pipeline.stages[stage.index].stage.produces();
        if !matches!(produces, ArtifactKind::Model | ArtifactKind::FrozenModel | ArtifactKind::Candidate) {
            let message = format!("the stage `{}` makes {}, which cannot be sampled", self.stage, produces.in_words());
            return Err(Failure::message(INVALID, message));
        }
        let artifact = artifact(&store, show::record(stage, &self.pipeline)?)?;
        let table = self.draw(&artifact).map_err(|error| Failure::new(STAGE, error))?;

        // Written beside the target first: a file of this name is complete.
        let name = self.output.file_name().unwrap_or_default().to_string_lossy();
        let partial = self.output.with_file_name(format!(".{name}.{}.partial.{extension}", std::process::id()));
        let written = write_table(&partial, &table)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(fs::rename(&partial, &self.output)?))
            .with_context(|| format!("cannot write {}", self.output.display()));
        if let Err(error) = written {
            let _ = fs::remove_file(&partial);
            return Err(Failure::new(IO, error));
        }
        print(&format!("wrote {} events to {}", table.len(), self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn draw(&self, artifact: &Artifact) -> anyhow::Result<pgan_pipe::data::Table> {
        let model = Model::load(artifact, self.device)?;
        let mut rng = Streams::new(self.seed, "sample").stream("events");
        let events = model.sample(self.events.get(), &mut rng)?;
        Ok(model.description().observables.append_to(&events)?)
    }
}

/// The files of a record, read in full to see that they are intact.
fn artifact(store: &Store, record: &Record) -> Result<Artifact, Failure> {
    if let Some(damage) = store.inspect(record)?.first() {
        let what = if damage.missing { "missing" } else { "corrupted" };
        let message = format!("`{}` is {what} in the cache; run the stage again", damage.file);
        return Err(Failure::message(CORRUPT, message));
    }
    let file = |(name, output): (&String, &pgan_pipe::store::Output)| (name.clone(), store.object(output.digest));
    Ok(Artifact { kind: record.produces, files: record.outputs.iter().map(file).collect() })
}

fn events(text: &str) -> Result<EventCount, String> {
    let count: u64 = text.replace('_', "").parse().map_err(|_| "expected a whole number".to_owned())?;
    EventCount::try_from(count)
}
