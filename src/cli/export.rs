//! `export`: a model, what was recorded, or the pipeline, for other programs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use pgan_pipe::{
    device::DeviceName,
    export::{self, Origin},
    model::StoredModel,
    user_file,
};

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, PipelineArgs},
    failure::{INVALID, STAGE},
    output::{print, tell_written, unwritten, write_file},
    signals::leave_nothing_unfinished,
    text::bytes,
    trained::Trained,
};

mod snakemake;
mod track;

const HELP: &str = "\
A model: `onnx` is a graph from random numbers to events in physical units; `safetensors` holds the weights and a description, which
examples/load_model.py reads. docs/EXPORT.md says how to sample from either. `sample --draws` gives what to check them with.

Curves, metrics and parameters of all stages that have run, or of those that are named: `tensorboard` writes a folder for each;
`mlflow` sends each to a server, as a run of the experiment that has the pipeline's name, unless it is there.

The pipeline: each rule of a Snakefile runs one stage by `pgan-pipe run`, which takes from the cache what is there, and puts its files
into a folder. So the pipeline fits into a larger workflow: other rules take `stages/STAGE`. Paths are as seen from here.

Examples:
  pgan-pipe export pipeline.yaml boosted --format onnx -o boosted.onnx
  pgan-pipe export pipeline.yaml --format tensorboard -o tensorboard/
  pgan-pipe export pipeline.yaml --format mlflow --tracking-uri http://127.0.0.1:5000
  pgan-pipe export pipeline.yaml --format snakemake > Snakefile";

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Export {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage whose model to write, for `onnx` and `safetensors`; stages whose curves to write, all by default
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write, or the folder for `tensorboard`; a Snakefile goes to standard output by default
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace the file if it is there already
    #[arg(long, requires = "output")]
    force: bool,
    /// The folder that rules put the files of stages into, for `snakemake`; `stages` by default
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The device of the rules, for `snakemake`: cpu (the default), libtorch, libtorch-cuda, libtorch-cuda:N or auto
    #[arg(long)]
    device: Option<DeviceName>,
    /// The MLflow server, for `mlflow`
    #[arg(
        long,
        value_name = "URL",
        env = "MLFLOW_TRACKING_URI",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    tracking_uri: Option<String>,
    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A model as an ONNX graph
    Onnx,
    /// A model's weights and description
    Safetensors,
    /// Curves, metrics and parameters as event files
    Tensorboard,
    /// The same as runs on an MLflow server
    Mlflow,
    /// The pipeline as a Snakefile
    Snakemake,
}

impl Export {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        match self.format {
            Format::Snakemake => self.snakefile(),
            Format::Onnx | Format::Safetensors => self.model(),
            Format::Tensorboard => self.tensorboard(),
            Format::Mlflow => self.mlflow(),
        }
    }

    fn snakefile(&self) -> Outcome {
        if let Some(stage) = self.stages.first() {
            let message = format!("a Snakefile is of the whole pipeline: leave `{stage}` out");
            return Err(Failure::message(INVALID, message));
        }
        if let Some(output) = &self.output {
            self.check_output(output)?;
        }
        let pipeline = self.pipeline.load()?;
        let folder = self.folder.as_deref().unwrap_or(Path::new("stages"));
        let device = self.device.unwrap_or_default();
        let text = snakemake::snakefile(&pipeline, &self.pipeline, self.cache.folder(), folder, device);
        match &self.output {
            Some(output) => write_file(output, text.as_bytes())?,
            None => print(text.trim_end())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn model(&self) -> Outcome {
        let file = self.pipeline.file.display();
        let format = self.format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let invalid = |message: String| Err(Failure::message(INVALID, message));
        let ([stage], Some(output)) = (&*self.stages, &self.output) else {
            let stage = self.stages.first().map_or("STAGE", String::as_str);
            return invalid(format!(
                "say which stage's model to write, and where: pgan-pipe export {file} {stage} --format {format} -o model.{format}"
            ));
        };
        self.check_options()?;
        self.check_output(output)?;
        let trained = Trained::find(&self.pipeline, stage, &self.cache.store_of(&self.pipeline.file), "exported")?;
        let model = StoredModel::load(&trained.artifact).map_err(|error| Failure::new(STAGE, error))?;
        let origin = Origin { pipeline: trained.pipeline, stage: trained.stage, key: trained.key };
        let exported = match self.format {
            Format::Onnx => export::onnx(&model, &origin),
            _ => export::safetensors(&model, &origin),
        };
        let exported = exported.map_err(|error| Failure::new(STAGE, error))?;
        write_file(output, &exported)?;
        let size = bytes(exported.len() as u64);
        let done = format!("wrote the model of `{}` to {}, {size}", origin.stage, output.display());
        tell_written(output, &done)?;
        Ok(ExitCode::SUCCESS)
    }

    fn tensorboard(&self) -> Outcome {
        self.check_options()?;
        let Some(folder) = &self.output else {
            let file = self.pipeline.file.display();
            let message = format!("say where to write: pgan-pipe export {file} --format tensorboard -o tensorboard");
            return Err(Failure::message(INVALID, message));
        };
        track::tensorboard(&self.pipeline, &self.stages, &self.cache.store_of(&self.pipeline.file), folder)
    }

    fn mlflow(&self) -> Outcome {
        self.check_options()?;
        if self.output.is_some() {
            return Err(Failure::message(INVALID, "`--format mlflow` writes no file: leave `--output` out"));
        }
        let Some(address) = &self.tracking_uri else {
            let message = "say which MLflow server: `--tracking-uri http://127.0.0.1:5000`, or MLFLOW_TRACKING_URI";
            return Err(Failure::message(INVALID, message));
        };
        track::mlflow(&self.pipeline, &self.stages, &self.cache.store_of(&self.pipeline.file), address)
    }

    /// Refuses options that belong to a Snakefile.
    fn check_options(&self) -> Result<(), Failure> {
        match [("--folder", self.folder.is_some()), ("--device", self.device.is_some())]
            .into_iter()
            .find(|(_, given)| *given)
        {
            Some((option, _)) => Err(Failure::message(INVALID, format!("`{option}` is for `--format snakemake`"))),
            None => Ok(()),
        }
    }

    /// Refuses a file that is there, or cannot be, before there is anything to write.
    fn check_output(&self, output: &Path) -> Result<(), Failure> {
        user_file::check(output).map_err(|error| unwritten(output, error))?;
        if !self.force && output.is_file() {
            let message = format!("{} is there already; `--force` replaces it", output.display());
            return Err(Failure::message(INVALID, message));
        }
        Ok(())
    }
}
