//! `cache gc`: takes away what nothing has needed for a while.

use std::{collections::BTreeSet, fmt::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use pgan_pipe::{
    pipeline::{ByteSize, Pipeline},
    plan::{Plan, StageState},
    store::{Collected, Holder, Keep, Store},
};
use serde_json::json;

use super::{
    super::{
        Failure, Outcome,
        output::{print, print_json, say},
        text::{ago, bytes, columns, count},
    },
    Options,
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe cache gc --dry-run                       what would go
  pgan-pipe cache gc study.yaml --keep-days 0        all but what this pipeline needs
  pgan-pipe cache gc --keep-days 7 --max-size 20GB   only as much as brings the cache below 20 GB

A result stays while a run needs it, and for some days after it was last made or used. What it was made of can be made again.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Gc {
    /// Pipelines, as written, whose results stay in any case
    #[arg(value_name = "FILE")]
    pipelines: Vec<PathBuf>,
    /// Days for which a result stays after it was last made or used
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = days)]
    keep_days: Duration,
    /// Take away no more than what brings the cache below this size: 500MB, 20GB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,
    /// Say what would go, and touch nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) options: Options,
}

impl Gc {
    pub(super) fn run(&self) -> Outcome {
        let store = self.options.cache.store();
        let mut keys = BTreeSet::new();
        for path in &self.pipelines {
            let pipeline = Pipeline::load(path, &[])?;
            let plan = Plan::make(&pipeline, &store, &[], &[]).map_err(|error| Failure::of_plan(&pipeline, error))?;
            keys.extend(plan.stages.iter().filter_map(|stage| match &stage.state {
                StageState::Cached { record, .. } => Some(record.key),
                _ => None,
            }));
        }
        let keep = Keep { keys, used_within: self.keep_days, max_size: self.max_size.map_or(0, ByteSize::get) };
        let mut told = false;
        // A signal ends the wait, and the program with it.
        let mut waiting = |holder: &Holder| {
            if !std::mem::replace(&mut told, true) {
                say(&format!("waiting for a run that is being planned, by {holder}"));
            }
            true
        };
        let collected = store.collect(&keep, self.dry_run, &mut waiting)?.unwrap_or_default();
        if self.options.json {
            print_json([self.json(&collected)])?;
        } else {
            print(&self.text(&collected, &store))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn json(&self, collected: &Collected) -> serde_json::Value {
        let Collected { removed, kept, freed, left, leftovers, young } = collected;
        let removed: Vec<_> = removed
            .iter()
            .map(|entry| {
                let how = &entry.record.provenance;
                json!({
                    "key": entry.record.key, "pipeline": how.pipeline, "stage": how.stage, "bytes": entry.record.size(),
                    "age_seconds": entry.age.as_secs(),
                })
            })
            .collect();
        json!({
            "event": "cache_collected", "dry_run": self.dry_run, "removed": removed, "kept": kept, "leftovers": leftovers,
            "bytes_freed": freed, "bytes_left": left, "bytes_young": young,
        })
    }

    fn text(&self, collected: &Collected, store: &Store) -> String {
        let Collected { removed, kept, freed, left, leftovers, young } = collected;
        let rows: Vec<[String; 4]> = removed
            .iter()
            .map(|entry| {
                let how = &entry.record.provenance;
                let name = format!("{}/{}", how.pipeline, how.stage);
                [entry.record.key.short(), name, bytes(entry.record.size()), format!("made {}", ago(entry.age))]
            })
            .collect();
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let mut text = columns(&rows);
        let _ = write!(
            text,
            "{verb} {} and {}, {}; {} left in {}, {}",
            count(removed.len(), "result"),
            count(*leftovers, "leftover"),
            bytes(*freed),
            count(*kept, "result"),
            store.root().display(),
            bytes(*left)
        );
        if *young > 0 {
            let _ = write!(
                text,
                "\n{} more belong to no result but are younger than an hour: a later `cache gc` takes them",
                bytes(*young)
            );
        }
        if let Some(most) = self.max_size.filter(|most| *left > most.get()) {
            let _ = write!(
                text,
                "\nthat is more than {}: the rest was needed in the last days; lower `--keep-days` for less",
                bytes(most.get())
            );
        }
        text
    }
}

/// Whole days or parts of them.
fn days(text: &str) -> Result<Duration, String> {
    let days: f64 = text.parse().map_err(|_| "not a number of days".to_owned())?;
    Duration::try_from_secs_f64(days * 86_400.0).map_err(|_| "not a number of days, from 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_a_number_from_zero() {
        assert_eq!(days("0.5"), Ok(Duration::from_hours(12)));
        assert!(days("-1").is_err() && days("NaN").is_err() && days("1e300").is_err());
    }
}
