//! Draws events from a model that a pipeline has trained, adds their derived observables, and writes them to a file.
//!
//! Arguments: the pipeline's file, the stage that made the model, the number of events, and the file to write (parquet, CSV or
//! npy). The model is looked up in `cache/`, where `run_pipeline` and `pgan-pipe run` leave it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    env,
    path::{Path, PathBuf},
    slice,
};

use anyhow::{Context, bail, ensure};
use pgan_pipe::{
    data::write_table,
    device::DeviceName,
    model::Model,
    pipeline::Pipeline,
    plan::{Plan, StageState},
    rng::Streams,
    stage::Artifact,
    store::Store,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, name, events, target] = &*arguments else {
        bail!("usage: sample_model PIPELINE.yaml STAGE EVENTS FILE");
    };
    let events = events.parse().context("the third argument is a number of events")?;

    // The plan of a single stage ends with that stage; what is cached has a record.
    let pipeline = Pipeline::load(Path::new(file), &[])?;
    let store = Store::at(Path::new("cache"));
    let plan = Plan::make(&pipeline, &store, slice::from_ref(name), &[])?;
    let Some(StageState::Cached { record, .. }) = plan.stages.last().map(|stage| &stage.state) else {
        bail!("`{name}` has not run yet; run the pipeline first");
    };
    ensure!(store.inspect(record).is_empty(), "files of `{name}` are damaged; run the pipeline again");

    let model = Model::load(&Artifact::of(record, &store), DeviceName::default())?;
    // The same seed and purpose give the same events.
    let drawn = model.sample(events, &mut Streams::new(0, "example").stream("events"))?;
    let description = model.description();
    let table = description.observables.append_to(&drawn)?;
    write_table(&PathBuf::from(target), &table)?;
    println!("{events} events with the columns {} in {target}", table.names().join(", "));

    if let (Some(tail), Some(inside)) = (&description.tail, description.in_tail(&drawn)?) {
        let share = inside.iter().filter(|&&inside| inside).count() as f64 / events as f64;
        println!("{:.2} % of them have {} above {}", 100.0 * share, tail.observable, tail.above);
    }
    Ok(())
}
