//! Plans a pipeline, says why each stage runs, runs it, and prints what its evaluations found.
//!
//! Arguments: the pipeline's file, and the `pgan-pipe` program that runs the stages (`target/release/pgan-pipe` by default).
//! Results are kept in `cache/`, where `pgan-pipe` finds them too.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::{Context, ensure};
use pgan_pipe::{
    device::DeviceName,
    pipeline::Pipeline,
    plan::{Plan, Reason, StageState},
    report,
    run::{Capacity, Event, RunOptions, run},
    stage::Stage,
    store::Store,
};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let file = arguments.next().context("name a pipeline: run_pipeline PIPELINE.yaml [PGAN-PIPE]")?;
    let program = arguments.next().unwrap_or_else(|| "target/release/pgan-pipe".into());
    let worker = program.canonicalize().with_context(|| format!("there is no program {}", program.display()))?;

    let pipeline = Pipeline::load(&file, &[])?;
    let store = Store::at(Path::new("cache"));
    for stage in Plan::make(&pipeline, &store, &[], &[])?.stages {
        let why = match &stage.state {
            StageState::Cached { key, .. } => format!("is cached as {}", key.digest().short()),
            StageState::Elsewhere { key, .. } => format!("is pulled as {}", key.digest().short()),
            StageState::Run { why, .. } => format!("runs: {}", in_words(why)),
            StageState::DependsOn { stages, .. } => format!("depends on {}", stages.join(", ")),
        };
        println!("{} {why}", stage.name);
    }

    let options = RunOptions {
        targets: Vec::new(),
        only_targets: false,
        force: Vec::new(),
        keep_going: false,
        capacity: Capacity::of_this_machine(),
        device: DeviceName::default(),
        worker,
        lock: None,
        known: BTreeMap::new(),
        sharing: None,
        checkpoint_every: std::time::Duration::from_secs(10),
        stop: Arc::new(AtomicUsize::new(0)),
        argv: env::args().collect(),
    };
    let summary = run(&pipeline, &store, &options, &mut |event| show(event))?;
    ensure!(summary.failed.is_empty(), "these stages failed: {}", summary.failed.join(", "));

    // All is cached now: the plan leads to the record of each stage.
    for stage in Plan::make(&pipeline, &store, &[], &[])?.stages {
        if let (StageState::Cached { record, .. }, Stage::Evaluate(evaluate)) =
            (&stage.state, &pipeline.stages[stage.index].stage)
        {
            println!("\n{}\n{}", stage.name, report::summary(&record.metrics, &evaluate.models));
        }
    }
    Ok(())
}

fn show(event: &Event) {
    match event {
        // Of the many steps of a training, about ten.
        Event::StageProgress { step, steps, .. } if step % (steps / 10).max(1) != 0 => {}
        Event::StageProgress { stage, step, steps, values } => println!("{stage}: step {step} of {steps} {values:.3?}"),
        event => println!("{event:?}"),
    }
}

fn in_words(why: &[Reason]) -> String {
    why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
