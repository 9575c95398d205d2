//! `cache`: what the store holds, whether it is intact, and what may go.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};
use pgan_pipe::store::{Entry, Fault, FaultyObject, StoreError};
use serde_json::json;

mod gc;
mod get;
mod runs;
mod share;
mod tag;

use gc::Gc;
use get::Get;
use share::{Pull, Push};
use tag::Tag;

use super::{
    Outcome,
    arguments::CacheArgs,
    failure::CORRUPT,
    output::{print, print_json},
    text::{ago, bytes, columns, count},
};

#[derive(Subcommand)]
pub(super) enum Cache {
    /// List the results
    Ls(Listing),
    /// List the runs that have left a log, for `pgan-pipe diff`
    Runs(Options),
    /// Read every object and compare it with its name; what is corrupted is set aside, so that its stage runs again
    Verify(Options),
    /// Take away results that nothing has needed for a while, and what interrupted runs left behind
    Gc(Gc),
    /// Give the results of a pipeline a name, under which they stay; list the names
    Tag(Tag),
    /// Put the files of a stage's result into a folder
    Get(Get),
    /// Give the results of a pipeline to a remote
    Push(Push),
    /// Take the results of a pipeline from a remote
    Pull(Pull),
}

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// What comes first in a list of results.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Order {
    /// The newest
    #[default]
    Age,
    /// The largest
    Size,
    /// By the names of pipeline and stage
    Stage,
}

#[derive(Args)]
pub(super) struct Listing {
    #[command(flatten)]
    options: Options,
    /// What comes first
    #[arg(long, value_name = "ORDER", default_value = "age")]
    sort: Order,
}

impl Cache {
    pub(super) fn run(&self) -> Outcome {
        let options = match self {
            Self::Ls(Listing { options, .. })
            | Self::Verify(options)
            | Self::Runs(options)
            | Self::Gc(Gc { options, .. })
            | Self::Tag(Tag { options, .. }) => options,
            Self::Get(get) => return get.run(),
            Self::Push(push) => return push.run(),
            Self::Pull(pull) => return pull.run(),
        };
        let folder = options.cache.folder();
        // Whoever names results by a tag asks for more than what there is.
        let looks = !matches!(self, Self::Tag(tag) if tag.is_new());
        if looks && !options.json && !folder.exists() {
            print(&format!("there is no cache at {}; `pgan-pipe run` makes one", folder.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        match self {
            Self::Ls(listing) => listing.list(),
            Self::Gc(gc) => gc.run(),
            Self::Verify(options) => options.verify(),
            Self::Runs(options) => runs::list(options),
            Self::Tag(tag) => tag.run(),
            Self::Get(get) => get.run(),
            Self::Push(push) => push.run(),
            Self::Pull(pull) => pull.run(),
        }
    }
}

impl Listing {
    fn list(&self) -> Outcome {
        let Options { cache, json } = &self.options;
        let mut entries = cache.store().list()?;
        match self.sort {
            Order::Age => {}
            Order::Size => entries.sort_by_key(|entry| std::cmp::Reverse(entry.record.size())),
            Order::Stage => entries.sort_by_cached_key(|Entry { record, .. }| {
                (record.provenance.pipeline.clone(), record.provenance.stage.clone())
            }),
        }
        if *json {
            print_json(entries.iter().map(|Entry { record, age }| {
                json!({
                    "key": record.key, "stage": record.provenance.stage, "pipeline": record.provenance.pipeline,
                    "kind": record.material.kind, "bytes": record.size(), "age_seconds": age.as_secs(),
                })
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let row = |Entry { record, age }: &Entry| {
            let how = &record.provenance;
            [
                record.key.digest().short(),
                format!("{}/{}", how.pipeline, how.stage),
                record.material.kind.clone(),
                bytes(record.size()),
                ago(*age),
            ]
        };
        let total = entries.iter().map(|entry| entry.record.size()).sum();
        let summary = format!("{} in {}, {}", count(entries.len(), "result"), cache.folder().display(), bytes(total));
        print(&(columns(&entries.iter().map(row).collect::<Vec<_>>()) + &summary))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Options {
    fn verify(&self) -> Outcome {
        let store = self.cache.store();
        let found = store.verify();
        // What cannot be set aside is said, and the rest goes on.
        let aside = |object: &FaultyObject| match object.fault {
            Fault::Missing => None,
            Fault::Corrupted | Fault::Unreadable(_) => Some(store.set_aside(object.digest)),
        };
        let objects: Vec<_> = found.faults.iter().map(|object| (object, aside(object))).collect();
        let records: Vec<_> = found.unreadable.iter().map(|path| (path, store.set_record_aside(path))).collect();
        let intact = objects.is_empty() && records.is_empty() && found.closed.is_empty();
        if self.json {
            let fault = |FaultyObject { digest, fault, used_by }: &FaultyObject| {
                let used_by: Vec<_> = used_by
                    .iter()
                    .map(|(key, stage, file)| json!({"key": key, "stage": stage, "file": file}))
                    .collect();
                let missing = *fault == Fault::Missing;
                json!({"digest": digest, "missing": missing, "fault": fault.to_string(), "used_by": used_by})
            };
            print_json([json!({
                "event": "cache_verified", "intact": intact, "objects": found.objects, "bytes": found.bytes,
                "faults": found.faults.iter().map(fault).collect::<Vec<_>>(), "unreadable": found.unreadable,
                "strays": found.strays, "closed": found.closed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })])?;
        } else {
            let mut text = String::new();
            let outcome = |aside: &Result<(), StoreError>| match aside {
                Ok(()) => ", set aside".to_owned(),
                Err(error) => format!("; {error}"),
            };
            for (FaultyObject { digest, fault, used_by }, aside) in &objects {
                let users: Vec<String> = used_by.iter().map(|(_, stage, file)| format!("{stage}: {file}")).collect();
                let aside = aside.as_ref().map_or_else(String::new, outcome);
                let _ = writeln!(text, "{} {fault}{aside} ({})", digest.short(), users.join("; "));
            }
            for (path, aside) in &records {
                let _ = writeln!(text, "{} is no readable record{}", path.display(), outcome(aside));
            }
            for error in &found.closed {
                let _ = writeln!(text, "{error}");
            }
            for path in &found.strays {
                let _ = writeln!(text, "{} is passed over: no file of this version of the store", path.display());
            }
            let state = if intact {
                "all intact"
            } else if objects.is_empty() && records.is_empty() {
                "not all could be read"
            } else {
                "run the pipelines again to mend it"
            };
            print(&format!("{text}{}, {}: {state}", count(found.objects, "object"), bytes(found.bytes)))?;
        }
        Ok(if intact { ExitCode::SUCCESS } else { ExitCode::from(CORRUPT) })
    }
}
