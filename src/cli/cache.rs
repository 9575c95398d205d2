//! `cache`: what the store holds, and whether it is intact.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand};
use pgan_pipe::store::{Entry, Fault};
use serde_json::json;

use super::{
    Outcome,
    arguments::CacheArgs,
    failure::CORRUPT,
    output::{print, print_json},
    text::{ago, bytes, columns, count},
};

#[derive(Subcommand)]
pub(super) enum Cache {
    /// List the results, the newest first
    Ls(Options),
    /// Read every object and compare it with its name; what is corrupted is set aside, so that its stage runs again
    Verify(Options),
}

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Cache {
    pub(super) fn run(&self) -> Outcome {
        let (Self::Ls(options) | Self::Verify(options)) = self;
        let folder = &options.cache.cache;
        if !options.json && !folder.exists() {
            print(&format!("there is no cache at {}; `pgan-pipe run` makes one", folder.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        match self {
            Self::Ls(options) => options.list(),
            Self::Verify(options) => options.verify(),
        }
    }
}

impl Options {
    fn list(&self) -> Outcome {
        let entries = self.cache.store().list()?;
        if self.json {
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
        let summary = format!("{} in {}, {}", count(entries.len(), "result"), self.cache.cache.display(), bytes(total));
        print(&(columns(&entries.iter().map(row).collect::<Vec<_>>()) + &summary))?;
        Ok(ExitCode::SUCCESS)
    }

    fn verify(&self) -> Outcome {
        let store = self.cache.store();
        let found = store.verify()?;
        for fault in found.faults.iter().filter(|fault| !fault.missing) {
            store.set_aside(fault.digest)?;
        }
        let intact = found.faults.is_empty() && found.unreadable.is_empty();
        if self.json {
            let fault = |Fault { digest, missing, used_by }: &Fault| {
                let used_by: Vec<_> = used_by
                    .iter()
                    .map(|(key, stage, file)| json!({"key": key, "stage": stage, "file": file}))
                    .collect();
                json!({"digest": digest, "missing": missing, "used_by": used_by})
            };
            print_json([json!({
                "event": "cache_verified", "intact": intact, "objects": found.objects, "bytes": found.bytes,
                "faults": found.faults.iter().map(fault).collect::<Vec<_>>(), "unreadable": found.unreadable,
            })])?;
        } else {
            let mut text = String::new();
            for Fault { digest, missing, used_by } in &found.faults {
                let what = if *missing { "missing" } else { "corrupted, set aside" };
                let users: Vec<String> = used_by.iter().map(|(_, stage, file)| format!("{stage}: {file}")).collect();
                let _ = writeln!(text, "{} {what} ({})", digest.short(), users.join("; "));
            }
            for path in &found.unreadable {
                let _ = writeln!(text, "{} is no readable record", path.display());
            }
            let state = if intact { "all intact" } else { "run the pipelines again to mend it" };
            print(&format!("{text}{}, {}: {state}", count(found.objects, "object"), bytes(found.bytes)))?;
        }
        Ok(if intact { ExitCode::SUCCESS } else { ExitCode::from(CORRUPT) })
    }
}
