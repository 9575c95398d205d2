//! `sample`: events from a trained model, in physical units.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use pgan_pipe::{
    data::{DataError, write_table},
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
    /// A stage that makes a model: `train_gan`, `freeze`, `pretrain_tail`, `boost`, `mix`, `reweight`, `post_stratify` or `splice`
    #[arg(value_name = "STAGE")]
    stage: String,
    /// How many events
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = events)]
    events: EventCount,
    /// The file to write: .parquet, .csv or .npy
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The same seed gives the same events
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// cpu, libtorch, libtorch-cuda, libtorch-cuda:N or auto
    #[arg(long, default_value_t)]
    device: DeviceName,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Sample {
    pub(super) fn run(&self) -> Outcome {
        let extension = self.extension()?;
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
        let record = show::record(stage, &self.pipeline)?;
        intact(&store, record)?;
        let artifact = Artifact::of(record, &store);
        let table = self.draw(&artifact).map_err(|error| Failure::new(STAGE, error))?;

        // Written beside the target first: a file of this name is complete.
        let name = self.output.file_name().unwrap_or_default().to_string_lossy();
        let partial = self.output.with_file_name(format!(".{name}.{}.partial.{extension}", std::process::id()));
        let written = write_table(&partial, &table)
            .map_err(|error| match error {
                // Whoever named the target knows nothing of the file beside it.
                DataError::Io { source, .. } => source.into(),
                error => anyhow::Error::from(error),
            })
            .and_then(|()| Ok(fs::rename(&partial, &self.output)?))
            .with_context(|| format!("cannot write {}", self.output.display()));
        if let Err(error) = written {
            let _ = fs::remove_file(&partial);
            return Err(Failure::new(IO, error));
        }
        print(&format!("wrote {} events to {}", table.len(), self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The extension of the file to write, which is known to be writable as far as one can tell before there are events.
    fn extension(&self) -> Result<String, Failure> {
        let extension = self.output.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if !["parquet", "csv", "npy"].contains(&&*extension) {
            let message = format!("{} must end in .parquet, .csv or .npy", self.output.display());
            return Err(Failure::message(INVALID, message));
        }
        let cannot = |why: String| Err(Failure::message(IO, format!("cannot write {}: {why}", self.output.display())));
        match self.output.parent() {
            _ if self.output.is_dir() => cannot("it is a folder".to_owned()),
            Some(folder) if folder != Path::new("") && !folder.is_dir() => {
                cannot(format!("there is no folder {}", folder.display()))
            }
            _ => Ok(extension),
        }
    }

    fn draw(&self, artifact: &Artifact) -> anyhow::Result<pgan_pipe::data::Table> {
        let model = Model::load(artifact, self.device)?;
        let mut rng = Streams::new(self.seed, "sample").stream("events");
        let events = model.sample(self.events.get(), &mut rng)?;
        Ok(model.description().observables.append_to(&events)?)
    }
}

/// Reads the files of a record in full to see that they are intact.
pub(super) fn intact(store: &Store, record: &Record) -> Result<(), Failure> {
    let Some(damage) = store.inspect(record)?.into_iter().next() else { return Ok(()) };
    let what = if damage.missing { "missing" } else { "corrupted" };
    Err(Failure::message(CORRUPT, format!("`{}` is {what} in the cache; run the stage again", damage.file)))
}

fn events(text: &str) -> Result<EventCount, String> {
    let text = text.replace('_', "");
    // `1e6` is a whole number, too; a float above 2^53 is far beyond what is allowed.
    let whole = |number: &f64| (0.0..9e15).contains(number) && number.fract() == 0.0;
    let count = text.parse().ok().or_else(|| text.parse().ok().filter(whole).map(|number: f64| number as u64));
    EventCount::try_from(count.ok_or("expected a whole number above 0, as in 100000 or 1e5")?)
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_events_may_be_written_as_people_write_it() {
        for text in ["100000", "100_000", "1e5", "1.0E5"] {
            assert_eq!(events(text).unwrap().get(), 100_000);
        }
        for text in ["0", "-5", "1.5", "1e99", "nan", "inf", "", "many", "2e9"] {
            assert!(events(text).is_err(), "{text}");
        }
    }
}
