//! `cache runs`: the runs that have left a log.

use std::process::ExitCode;

use pgan_pipe::store::LoggedRun;
use serde_json::json;

use super::{
    super::{
        Outcome,
        output::{print, print_json},
        text::{columns, count, since},
    },
    Options,
};

/// Lists the runs, the newest first.
pub(super) fn list(options: &Options) -> Outcome {
    let runs = options.cache.store().logged_runs();
    if options.json {
        print_json(runs.iter().map(|run| {
            json!({
                "run": run.id, "pipeline": run.pipeline, "started": run.started, "argv": run.argv, "running": run.alive,
                "ran": run.ran.len(), "stages": run.stages, "failed": run.failed,
            })
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |run: &LoggedRun| {
        let state = match (run.alive, run.failed.len()) {
            (true, _) => "running".to_owned(),
            (false, 0) => format!("{} ran, {} cached", run.ran.len(), run.stages.len().saturating_sub(run.ran.len())),
            (false, failed) => format!("{} ran, {failed} failed", run.ran.len()),
        };
        // The program's own name tells nothing.
        let arguments = run.argv.get(1..).unwrap_or_default().join(" ");
        [format!("run:{}", run.id), since(&run.started), run.pipeline.clone(), state, arguments]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    let hint = if runs.len() > 1 { "; `pgan-pipe diff run:latest~1 run:latest` compares the last two" } else { "" };
    print(&format!("{}{}{hint}", columns(&rows), count(runs.len(), "run")))?;
    Ok(ExitCode::SUCCESS)
}
