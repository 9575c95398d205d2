//! `diff`: what differs between two pipelines, locks or runs, and whether metrics differ by more than their uncertainty.

use std::{path::Path, process::ExitCode};

use clap::Args;
use pgan_pipe::{
    compare::{Change, Comparison, StageDifference, State, Value},
    pipeline::Pipeline,
    plan::Lock,
    store::{LoggedRun, Store},
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, key_value},
    failure::{INVALID, STALE},
    output::{print, print_json},
    plan::reasons,
    text::{columns, count, number, several},
};

const HELP: &str = "\
A and B are each a pipeline file (as it stands, with what is cached), a lock (NAME.lock), or a run: `run:latest`, `run:latest~1` for
the one before, or `run:ID`, as `pgan-pipe cache runs` lists them.

A metric is marked `*` if it differs by more than its uncertainty: the 95 % intervals of both sides, in quadrature. Intervals are those
over seeds of a study, else those of the test events, which say nothing of how training would go with another seed.

Examples:
  pgan-pipe diff run:latest~1 run:latest               what did the last run change?
  pgan-pipe diff study.lock study.yaml                 what has changed since the lock?
  pgan-pipe diff study.yaml study.yaml --set lr=1e-4   what would another value change?
  pgan-pipe diff run:latest~1 run:latest --metrics tail_w1,qq";

/// Metrics that are listed if not all are asked for.
const LISTED: usize = 20;

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Diff {
    /// The one: a pipeline file, a lock, or a run
    #[arg(value_name = "A")]
    one: String,
    /// The other
    #[arg(value_name = "B")]
    other: String,
    /// As in `run`, for B if it is a pipeline file; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Only metrics whose names hold one of these texts, all of them
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    metrics: Vec<String>,
    /// List every metric that differs, and keys and files of every stage that does
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// End with code 4 if anything differs
    #[arg(long)]
    exit_code: bool,
}

impl Diff {
    pub(super) fn run(&self) -> Outcome {
        let store = self.cache.store();
        if !self.set.is_empty() && !is_pipeline(&self.other) {
            let message = format!("`--set` changes a pipeline file, and B is {}", self.other);
            return Err(Failure::message(INVALID, message));
        }
        let (one, other) = (state(&self.one, &[], &store)?, state(&self.other, &self.set, &store)?);
        let comparison = Comparison::of(&one, &other);
        if self.json {
            print_json(self.lines(&comparison))?;
        } else {
            print(&self.text(&comparison))?;
        }
        let differs = self.exit_code && !comparison.is_same();
        Ok(if differs { ExitCode::from(STALE) } else { ExitCode::SUCCESS })
    }

    /// The metrics to list, and how many there are besides.
    fn listed<'a>(&self, comparison: &'a Comparison) -> (Vec<&'a Change>, usize) {
        let asked = |change: &&Change| {
            self.metrics.is_empty() || self.metrics.iter().any(|text| change.metric.contains(text.as_str()))
        };
        let mut listed: Vec<&Change> = comparison.metrics.iter().filter(asked).collect();
        let all = self.all || self.json || !self.metrics.is_empty();
        let more = if all { 0 } else { listed.len().saturating_sub(LISTED) };
        listed.truncate(listed.len() - more);
        (listed, more)
    }

    fn text(&self, comparison: &Comparison) -> String {
        let mut lines = vec![format!("A  {}", self.one), format!("B  {}", self.other)];
        for (what, sides) in [("only in", &comparison.only), ("without a result in", &comparison.without_result)] {
            let named = ["A", "B"].into_iter().zip(sides).filter(|(_, names)| !names.is_empty());
            lines.extend(named.map(|(side, names)| format!("{what} {side}: {}", several(names))));
        }
        let renamed: Vec<String> = comparison.renamed.iter().map(|[then, now]| format!("{then} → {now}")).collect();
        lines.extend((!renamed.is_empty()).then(|| format!("renamed: {}", several(&renamed))));
        if comparison.is_same() {
            lines.push(format!("nothing differs: {}", count(comparison.same, "stage")));
            return lines.join("\n");
        }
        // What differs only because its inputs do is named in one line.
        let follows =
            |difference: &&StageDifference| !self.all && difference.why.is_empty() && !difference.inputs.is_empty();
        let (following, own): (Vec<&StageDifference>, Vec<&StageDifference>) = comparison
            .stages
            .iter()
            .partition(|difference| follows(difference) && difference.kinds[0] == difference.kinds[1]);
        if !comparison.stages.is_empty() {
            lines.push(String::new());
        }
        if !own.is_empty() {
            lines.push(columns(&own.into_iter().map(row).collect::<Vec<_>>()).trim_end().to_owned());
        }
        if !following.is_empty() {
            let names: Vec<String> = following.iter().map(|difference| difference.stage.clone()).collect();
            lines.push(format!("  by their inputs: {}", several(&names)));
        }
        if comparison.same > 0 {
            lines.push(format!("{} the same", count(comparison.same, "stage")));
        }
        let (listed, more) = self.listed(comparison);
        if !listed.is_empty() {
            let titles = ["", "", "A", "B", "B − A", ""].map(str::to_owned);
            let rows: Vec<[String; 6]> =
                std::iter::once(titles).chain(listed.iter().map(|change| cells(change))).collect();
            lines.push(format!("\n{}", columns(&rows).trim_end()));
        }
        if more > 0 {
            lines.push(format!("and {more} more: `--all` lists them, `--metrics TEXT` some of them"));
        }
        let any = |test: fn(&Change) -> bool| listed.iter().any(|change| test(change));
        let said = match () {
            () if any(|change| change.is_beyond() == Some(true)) => {
                "* by more than the 95 % intervals of both, in quadrature; of many, some do by chance"
            }
            () if any(|change| change.is_beyond().is_some()) => {
                "no metric differs by more than its uncertainty, where one is recorded"
            }
            () if any(|change| change.judges) => {
                "no uncertainty is recorded beside these: whether they differ by chance is not known"
            }
            () if listed.is_empty() && !self.metrics.is_empty() => "no metric of these names differs",
            () => "",
        };
        lines.push(said.to_owned());
        lines.join("\n").trim_end().to_owned()
    }

    fn lines(&self, comparison: &Comparison) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        for (side, (only, open)) in ["a", "b"].iter().zip(comparison.only.iter().zip(&comparison.without_result)) {
            lines.extend(only.iter().map(|stage| json!({"event": "stage_only", "in": side, "stage": stage})));
            lines.extend(open.iter().map(|stage| json!({"event": "stage_without_result", "in": side, "stage": stage})));
        }
        let renamed = comparison.renamed.iter();
        lines.extend(renamed.map(|[then, now]| json!({"event": "stage_renamed", "a": then, "b": now})));
        lines.extend(comparison.stages.iter().map(|difference| {
            let StageDifference { stage, kinds, why, inputs, keys, artifacts } = difference;
            json!({
                "event": "stage_differs", "stage": stage, "kinds": kinds, "why": why, "inputs": inputs, "keys": keys,
                "artifacts": artifacts,
            })
        }));
        let side = |value: &Option<Value>| value.map(|value| json!({"value": value.value, "interval": value.interval}));
        lines.extend(self.listed(comparison).0.into_iter().map(|change| {
            json!({
                "event": "metric_differs", "stage": change.stage, "metric": change.metric, "a": side(&change.values[0]),
                "b": side(&change.values[1]), "difference": change.difference(), "uncertainty": change.uncertainty(),
                "beyond": change.is_beyond(),
            })
        }));
        lines.push(json!({"event": "diff_finished", "same": comparison.is_same(), "stages_same": comparison.same}));
        lines
    }
}

/// A stage that differs: its name, kind, key, files, and why.
fn row(difference: &StageDifference) -> [String; 5] {
    let StageDifference { stage, kinds, why, inputs, keys, artifacts } = difference;
    let [old, new] = kinds;
    let kind = if old == new { old.clone() } else { format!("{old} → {new}") };
    let key = pair(keys.map(|key| key.map(|key| key.digest().short())));
    let files = if artifacts[0].is_some() && artifacts[0] == artifacts[1] {
        "same files".to_owned()
    } else {
        format!("files {}", pair(artifacts.map(|digest| digest.map(|digest| digest.short()))))
    };
    let mut told = if why.is_empty() { Vec::new() } else { vec![reasons(why)] };
    if !inputs.is_empty() {
        told.push(format!("by its inputs: {}", several(inputs)));
    }
    if told.is_empty() && keys[0] == keys[1] {
        told.push("the same key gave other files".to_owned());
    }
    [stage.clone(), kind, format!("key {key}"), files, told.join("; ")]
}

fn pair([one, other]: [Option<String>; 2]) -> String {
    let word = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    if one == other { word(one) } else { format!("{} → {}", word(one), word(other)) }
}

fn cells(change: &Change) -> [String; 6] {
    let cell = |value: &Option<Value>| match value {
        None => "–".to_owned(),
        Some(Value { value, interval: None }) => number(*value),
        Some(Value { value, interval: Some((low, high)) }) => {
            format!("{} ({} to {})", number(*value), number(*low), number(*high))
        }
    };
    let difference = change.difference().map_or_else(String::new, |difference| {
        let sign = if difference > 0.0 { "+" } else { "" };
        let error = change.uncertainty().map_or_else(String::new, |error| format!(" ± {}", number(error)));
        format!("{sign}{}{error}", number(difference)).replace('-', "−")
    });
    let mark = if change.is_beyond() == Some(true) { "*" } else { "" };
    let [one, other] = &change.values;
    [change.stage.clone(), change.metric.clone(), cell(one), cell(other), difference, mark.to_owned()]
}

fn is_pipeline(argument: &str) -> bool {
    !argument.starts_with("run:") && Path::new(argument).extension().is_none_or(|extension| extension != "lock")
}

/// Reads what an argument names.
fn state(argument: &str, set: &[(String, String)], store: &Store) -> Result<State, Failure> {
    if let Some(name) = argument.strip_prefix("run:") {
        let run = find_run(store.logged_runs(), name)?;
        return Ok(State::of_run(&run, store)?);
    }
    let path = Path::new(argument);
    if !is_pipeline(argument) {
        if !path.exists() {
            let message = format!("there is no lock {argument}; `pgan-pipe run PIPELINE --lock` writes one");
            return Err(Failure::message(INVALID, message));
        }
        return Ok(State::of_lock(&Lock::read(path)?));
    }
    let pipeline = Pipeline::load(path, set)?;
    State::of_pipeline(&pipeline, store).map_err(|error| Failure::of_plan(&pipeline, error))
}

/// The run of this name among all, the newest first.
fn find_run(runs: Vec<LoggedRun>, name: &str) -> Result<LoggedRun, Failure> {
    let unknown =
        |message: String| Failure::message(INVALID, format!("{message}; `pgan-pipe cache runs` lists those that are"));
    let known = runs.len();
    if let Some(rest) = name.strip_prefix("latest") {
        let back = match rest.strip_prefix('~') {
            Some(back) => back.parse().ok(),
            None => rest.is_empty().then_some(0),
        };
        let back: usize = back.ok_or_else(|| unknown(format!("`run:{name}` is no run: write `run:latest~1`")))?;
        let absent = || unknown(format!("there is no run `run:{name}`: the cache knows of {}", count(known, "run")));
        return runs.into_iter().nth(back).ok_or_else(absent);
    }
    let mut found: Vec<LoggedRun> =
        runs.into_iter().filter(|run| !name.is_empty() && run.id.starts_with(name)).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(format!("there is no run `run:{name}`"))),
        several => Err(unknown(format!("`run:{name}` may be each of {several} runs"))),
    }
}
