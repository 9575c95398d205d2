//! The command line: verbs, the terminal, and exit codes. The only place that prints.
//!
//! One file a verb; each has its options as a clap struct and one function that does it. Errors become exit codes in
//! [`failure`] alone.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Styles};
use pgan_pipe::{credentials::cut_text, printable::acts};

mod arguments;
mod cache;
mod cancel;
mod check;
mod completions;
mod condition;
mod devices;
mod diff;
mod elsewhere;
mod export;
mod failure;
mod graph;
mod help;
mod init;
mod job;
mod output;
mod pack;
mod plan;
mod progress;
mod report;
mod results;
mod run;
mod sample;
mod schema;
mod show;
mod signals;
mod status;
mod submit;
mod text;
mod trained;
mod worker;

use failure::Failure;

/// How a verb ends: the exit code, or what went wrong.
type Outcome = Result<ExitCode, Failure>;

const EXAMPLES: &str = "\
Examples:
  pgan-pipe init study && cd study           a pipeline with events to start from
  pgan-pipe run pipeline.yaml                run what is needed
  pgan-pipe plan pipeline.yaml               what would run, and why
  pgan-pipe run pipeline.yaml --set steps=500 boosted
  pgan-pipe sample pipeline.yaml boosted -n 100000 -o events.parquet
  pgan-pipe schema boost                     the fields of a stage kind

Exit codes: 0 done; 1 a stage failed; 2 invalid usage or pipeline; 3 store or I/O trouble; 4 out of date
(with --exit-code); 5 corruption found; 6 remote trouble; 130, 143 stopped by a signal.";

/// Declarative pipelines that boost the tails of generative models.
#[derive(Parser)]
#[command(name = "pgan-pipe", version, after_help = EXAMPLES, styles = help::STYLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write a commented pipeline with events to start from
    Init(init::Init),
    /// Check a pipeline and its sources, and show every mistake
    Check(check::Check),
    /// Show what a run would do with each stage, and why
    Plan(plan::Plan),
    /// Run what is needed, and take the rest from the cache
    Run(run::Run),
    /// Hand what is needed to a cluster's engine, one job a stage
    Submit(submit::Submit),
    /// Cancel jobs that are queued or running on a cluster
    Cancel(cancel::Cancel),
    /// Show what is cached, queued, running or interrupted
    Status(status::Status),
    /// Show the stages and what they take from each other
    Graph(graph::Graph),
    /// Show the records of stages: key, inputs, metrics, files, provenance
    Show(show::Show),
    /// Write a page of the results, with figures, tables and provenance
    Report(report::Report),
    /// Compare two pipelines, locks or runs: parameters, results, and metrics with their uncertainty
    Diff(diff::Diff),
    /// Draw events from a trained model, in physical units
    Sample(sample::Sample),
    /// Write a model or the pipeline for other programs
    Export(export::Export),
    /// Put a pipeline with its lock, sources and results into one file
    Pack(pack::Pack),
    /// Take a pipeline and its results out of a pack
    Unpack(pack::Unpack),
    /// Print the JSON schema of pipeline files, or the fields of a stage kind
    Schema(schema::Schema),
    /// List the devices that stages can run on
    Devices(devices::Devices),
    /// Write completions for a shell
    Completions(completions::Completions),
    /// Write pages for `man`
    Man(completions::Man),
    /// Look into the cache
    #[command(subcommand)]
    Cache(cache::Cache),
    /// Run one stage of a submission, as a job of a cluster's engine
    #[command(hide = true)]
    Job(job::Job),
    /// Run one stage for an orchestrator, over pipes
    #[command(hide = true)]
    Worker,
}

/// Reads the command line, does it, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match parse(help::coloured(command())) {
        Ok(cli) => cli,
        Err(error) => return show(&error),
    };
    let outcome = match cli.verb {
        Verb::Init(init) => init.run(),
        Verb::Check(check) => check.run(),
        Verb::Plan(plan) => plan.run(),
        Verb::Run(run) => run.run(),
        Verb::Submit(submit) => submit.run(),
        Verb::Cancel(cancel) => cancel.run(),
        Verb::Job(job) => job.run(),
        Verb::Status(status) => status.run(),
        Verb::Graph(graph) => graph.run(),
        Verb::Show(show) => show.run(),
        Verb::Report(report) => report.run(),
        Verb::Diff(diff) => diff.run(),
        Verb::Sample(sample) => sample.run(),
        Verb::Export(export) => export.run(),
        Verb::Pack(pack) => pack.run(),
        Verb::Unpack(unpack) => unpack.run(),
        Verb::Schema(schema) => schema.run(),
        Verb::Devices(devices) => devices.run(),
        Verb::Completions(completions) => completions.run(),
        Verb::Man(man) => man.run(),
        Verb::Cache(cache) => cache.run(),
        Verb::Worker => Ok(worker::run()),
    };
    outcome.unwrap_or_else(Failure::report)
}

/// The definition of the command line, for the environment as it is.
fn command() -> Command {
    arguments::without_empty_variables(Cli::command())
}

/// Reads the command line.
fn parse(mut command: Command) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed =
        matches.and_then(|matches| Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command)));
    parsed.map_err(arguments::without_secrets)
}

/// Shows help, or what is wrong with the arguments, and gives the exit code.
fn show(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let shown = error.print().and_then(|()| io::stdout().flush());
        return shown.map_or_else(|error| Failure::unprinted(error).report(), |()| ExitCode::SUCCESS);
    }
    // What is wrong is shown with arguments as they are. If a terminal acted on some of them, it is said again without colours, so that
    // theirs cannot be taken for ours.
    let text = error.render().to_string();
    let hostile = std::env::args_os().any(|argument| argument.to_string_lossy().contains(acts));
    let secret = cut_text(&text) != text;
    match (hostile || secret).then(|| parse(command().styles(Styles::plain()))) {
        Some(Err(plain)) => output::say(cut_text(plain.render().ansi().to_string().trim_end()).as_str()),
        // Whoever closed standard error does not listen.
        _ => drop(error.print()),
    }
    ExitCode::from(failure::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
