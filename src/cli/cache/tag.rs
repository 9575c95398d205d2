//! `cache tag`: names for the results of pipelines, which `cache gc` leaves alone.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use pgan_pipe::{
    pipeline::Pipeline,
    plan::{Plan, StageState},
    store,
};
use serde_json::json;

use super::{
    super::{
        Failure, Outcome,
        arguments::key_value,
        failure::{INVALID, STAGE},
        output::{print, print_json},
        text::{columns, count, several, since},
    },
    Options,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe cache tag paper-v1 dijet.yaml    keep what this pipeline has made, under this name
  pgan-pipe cache tag                        list the names
  pgan-pipe cache tag --delete paper-v1      the results may go again";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Tag {
    /// The name; one that is there already is set anew
    #[arg(value_parser = name, requires = "file")]
    name: Option<String>,
    /// The pipeline whose results it stands for
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// As in `run`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, requires = "file")]
    set: Vec<(String, String)>,
    /// Delete the tag of this name
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    delete: Option<String>,
    #[command(flatten)]
    pub(super) options: Options,
}

impl Tag {
    pub(super) fn run(&self) -> Outcome {
        match (&self.name, &self.file, &self.delete) {
            (Some(name), Some(file), _) => self.set(name, file),
            (_, _, Some(name)) => self.delete(name),
            _ => self.list(),
        }
    }

    /// Says whether it gives a name.
    pub(super) fn is_new(&self) -> bool {
        self.name.is_some()
    }

    fn set(&self, name: &str, file: &Path) -> Outcome {
        let store = self.options.cache.store_of(file);
        let pipeline = Pipeline::load(file, &self.set)?;
        let plan = Plan::make(&pipeline, &store, &[], &[]).map_err(|error| Failure::of_plan(&pipeline, error))?;
        let (mut keys, mut missing) = (BTreeSet::new(), Vec::new());
        for stage in &plan.stages {
            match &stage.state {
                StageState::Cached { key, .. } => {
                    keys.insert(*key);
                }
                _ => missing.push(stage.name.clone()),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "these stages have no result as they stand now, and nothing is tagged: {}; run them first: pgan-pipe run {}",
                several(&missing),
                file.display()
            );
            return Err(Failure::message(STAGE, message));
        }
        let time = format!("{:.3}", jiff::Timestamp::now());
        let tag = store::Tag { name: name.to_owned(), pipeline: pipeline.name, time, keys };
        store.tag(&tag)?;
        if self.options.json {
            print_json([to_json(&tag)])?;
        } else {
            print(&format!("{name}: {} of {} will stay", count(tag.keys.len(), "result"), tag.pipeline))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn delete(&self, name: &str) -> Outcome {
        if self.options.cache.store().untag(name)? {
            Ok(ExitCode::SUCCESS)
        } else {
            Err(Failure::message(INVALID, format!("there is no tag `{name}`; `pgan-pipe cache tag` lists them")))
        }
    }

    fn list(&self) -> Outcome {
        let tags = self.options.cache.store().tags()?;
        if self.options.json {
            print_json(tags.iter().map(to_json))?;
        } else {
            let row = |tag: &store::Tag| {
                [tag.name.clone(), tag.pipeline.clone(), count(tag.keys.len(), "result"), since(&tag.time)]
            };
            print(&(columns(&tags.iter().map(row).collect::<Vec<_>>()) + &count(tags.len(), "tag")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn to_json(tag: &store::Tag) -> serde_json::Value {
    json!({"event": "tag", "name": tag.name, "pipeline": tag.pipeline, "time": tag.time, "keys": tag.keys})
}

fn name(text: &str) -> Result<String, String> {
    let most = store::Tag::LONGEST_NAME;
    if store::Tag::is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a name holds letters, digits, `-`, `_` and `.`, starts with a letter or digit, and has at most {most} characters; this one has {}",
        text.chars().count()
    ))
}
