//! `sample`: events from a trained model, in physical units.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
};

use clap::Args;
use pgan_pipe::{
    data::{DataError, Table, TableWriter},
    device::DeviceName,
    model::{Model, ModelError},
    rng::Streams,
    user_file::{self, UserFile},
    value::EventCount,
};

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    condition::{Condition, kept},
    failure::{INVALID, IO, STAGE},
    output::{tell_written, unwritten, write_file},
    signals::leave_nothing_unfinished,
    trained::Trained,
};

const EXAMPLES: &str = "\
The file holds the feature columns and the derived observables, named as in the dataset.

Examples:
  pgan-pipe sample dijet.yaml boosted -n 1e6 -o events.parquet
  pgan-pipe sample dijet.yaml boosted -n 1e5 --where 'jj_M > 1500' -o tail.parquet --seed 7";

/// The most events whose draws are written: they are all in memory.
const MOST_RECORDED: usize = 1_000_000;
/// A condition that fewer than one event in so many fulfils is given up.
const RAREST: usize = 10_000_000;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sample {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// A stage that makes a model: `train_gan`, `freeze`, `pretrain_tail`, `boost`, `mix`, `reweight`, `post_stratify` or `splice`
    #[arg(value_name = "STAGE")]
    stage: String,
    /// How many events
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = events)]
    events: EventCount,
    /// Only events like this: COLUMN > NUMBER, or >=, <, <=; may be repeated, then all must hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// The file to write: .parquet, .csv or .npy
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The same seed gives the same events
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// Also write the random numbers that the events were made of, as safetensors: what to check an exported model with
    #[arg(long, value_name = "FILE", conflicts_with = "conditions")]
    draws: Option<PathBuf>,
    /// cpu, libtorch, libtorch-cuda, libtorch-cuda:N or auto
    #[arg(long, default_value_t)]
    device: DeviceName,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Sample {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        self.check_output()?;
        if self.draws.is_some() && self.events.get() > MOST_RECORDED {
            let message = format!("`--draws` holds everything in memory: ask for at most {MOST_RECORDED} events");
            return Err(Failure::message(INVALID, message));
        }
        let trained = Trained::find(&self.pipeline, &self.stage, &self.cache.store_of(&self.pipeline.file), "sampled")?;
        let model = Model::load(&trained.artifact, self.device).map_err(|error| Failure::new(STAGE, error))?;

        self.check_conditions(&model)?;

        let mut file = UserFile::create(&self.output).map_err(|error| self.cannot_write(error))?;
        match &self.draws {
            Some(draws) => self.draw_recorded(&model, &mut file, draws)?,
            None => self.draw(&model, &mut file)?,
        }
        file.finish().map_err(|error| self.cannot_write(error))?;
        tell_written(&self.output, &format!("wrote {} events to {}", self.events.get(), self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Draws the events into a file, and writes what they were made of.
    fn draw_recorded(&self, model: &Model, file: &mut UserFile, draws_file: &Path) -> Result<(), Failure> {
        let failed = |error: ModelError| Failure::new(STAGE, error);
        let mut rng = Streams::new(self.seed, "sample").stream("events");
        let (events, draws) = model.sample_with_draws(self.events.get(), &mut rng).map_err(failed)?;
        let events = model.description().observables.append_to(&events).map_err(|error| failed(error.into()))?;
        let write = || {
            let mut writer = TableWriter::over(file, &self.output, events.names(), events.len())?;
            writer.append(&events)?;
            writer.finish()
        };
        write().map_err(|error| self.not_written(error))?;
        write_file(draws_file, &draws.to_safetensors().map_err(|error| Failure::new(IO, error))?)
    }

    /// Draws the events into a file, part by part: one is written while the next is drawn.
    fn draw(&self, model: &Model, file: &mut UserFile) -> Result<(), Failure> {
        let (observables, conditions) = (model.description().observables, self.conditions.as_slice());
        let mut rng = Streams::new(self.seed, "sample").stream("events");
        let (parts, queue) = mpsc::sync_channel::<Table>(1);
        let write = move || -> Result<(), DataError> {
            let mut parts = queue.into_iter();
            let Some(first) = parts.next() else { return Ok(()) };
            let mut writer = TableWriter::over(file, &self.output, first.names(), self.events.get())?;
            writer.append(&first)?;
            parts.try_for_each(|part| writer.append(&part))?;
            writer.finish()
        };
        thread::scope(|scope| {
            let writer = scope.spawn(write);
            let (mut drawn, mut left) = (0, self.events.get());
            let mut take = |part: Table| {
                drawn += part.len();
                let kept = kept(observables.append_to(&part).map_err(ModelError::from)?, conditions, left);
                let kept = kept.map_err(ModelError::from)?;
                left -= kept.len();
                if drawn > RAREST * (self.events.get() - left + 1) {
                    return Err(Halt::Rare { drawn, kept: self.events.get() - left });
                }
                // The writer hangs up when it fails, and says itself why.
                parts.send(kept).map_err(|_| Halt::Writer)?;
                if left == 0 { Err(Halt::Done) } else { Ok(()) }
            };
            // One call draws them all, unless conditions leave too few.
            let ended = loop {
                if let Err(halt) = model.sample_parts(self.events.get(), &mut rng, &mut take) {
                    break halt;
                }
            };
            drop(parts);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match ended {
                Halt::Model(error) => return Err(Failure::new(STAGE, error)),
                Halt::Rare { drawn, kept } => {
                    let message = format!("`--where` holds for {kept} of {drawn} events that were drawn; ask for less");
                    return Err(Failure::message(STAGE, message));
                }
                Halt::Writer | Halt::Done => {}
            }
            written.map_err(|error| self.not_written(error))
        })
    }

    /// Refuses conditions on columns that the file would not have.
    fn check_conditions(&self, model: &Model) -> Result<(), Failure> {
        let names = model.description().observable_names();
        match self.conditions.iter().find(|condition| !names.contains(&condition.column)) {
            Some(Condition { column, .. }) => {
                let message = format!("`--where`: there is no column `{column}`; the columns are {}", names.join(", "));
                Err(Failure::message(INVALID, message))
            }
            None => Ok(()),
        }
    }

    fn cannot_write(&self, error: impl Into<anyhow::Error>) -> Failure {
        unwritten(&self.output, error)
    }

    /// A table that was not written; its path is told once.
    fn not_written(&self, error: DataError) -> Failure {
        match error {
            DataError::Io { source, .. } => self.cannot_write(source),
            error => self.cannot_write(error),
        }
    }

    /// Refuses what cannot be written, as far as one can tell before there are events.
    fn check_output(&self) -> Result<(), Failure> {
        let extension = self.output.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if !["parquet", "csv", "npy"].contains(&&*extension) {
            let message = format!("{} must end in .parquet, .csv or .npy", self.output.display());
            return Err(Failure::message(INVALID, message));
        }
        user_file::check(&self.output).map_err(|error| self.cannot_write(error))
    }
}

/// Why drawing ended.
enum Halt {
    /// There are as many events as were asked for.
    Done,
    Model(ModelError),
    /// Next to no event is as it should be.
    Rare {
        drawn: usize,
        kept: usize,
    },
    /// The writer has failed.
    Writer,
}

impl From<ModelError> for Halt {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
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
