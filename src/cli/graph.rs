//! `graph`: the stages and what they take from each other, as text, Mermaid, DOT or SVG.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pgan_pipe::report::Dag;

use super::{Outcome, arguments::PipelineArgs, output::print};

#[derive(Args)]
#[command(after_help = "Example:\n  pgan-pipe graph pipeline.yaml --format svg > pipeline.svg")]
pub(super) struct Graph {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// A tree for the terminal
    #[default]
    Text,
    /// For Markdown
    Mermaid,
    /// For Graphviz
    Dot,
    /// A figure
    Svg,
}

impl Graph {
    pub(super) fn run(&self) -> Outcome {
        let dag = Dag::of(&self.pipeline.load()?);
        print(&match self.format {
            Format::Text => dag.text(),
            Format::Mermaid => dag.mermaid(),
            Format::Dot => dag.dot(),
            Format::Svg => dag.svg(&[]),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
