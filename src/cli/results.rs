//! What is shown after a run: a table for each study and each evaluation that is in none, and its plots in
//! `results/PIPELINE/STAGE`. The histograms of a study are those of its first evaluation; `paired.svg` shows its comparisons.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use pgan_pipe::{
    names::file_names,
    pipeline::{Declared, Pipeline},
    report::{self, Evaluation, page, plot},
    run::Summary,
    stage::Stage,
    store::{Fault, Record, Store},
    user_file,
};

use super::{Failure, failure::CORRUPT, output::say, text::count};

/// Shows the evaluations that are done. Plots that cannot be written are said, and are no failure of the run; nothing is drawn from a
/// file that is not as it was stored.
pub(super) fn show(pipeline: &Pipeline, store: &Store, summary: &Summary, quiet: bool) -> Result<(), Failure> {
    let done = || pipeline.stages.iter().filter_map(|stage| Some((stage, summary.results.get(&stage.name)?)));
    let in_study: HashSet<&str> = done()
        .filter(|(declared, _)| matches!(declared.stage, Stage::Aggregate(_)))
        .flat_map(|(declared, _)| declared.stage.ports().into_iter().map(|port| port.reference))
        .collect();
    let mut corrupted = Vec::new();
    let folders = stage_folders(pipeline);
    for (declared, record) in done().filter(|(declared, _)| !in_study.contains(declared.name.as_str())) {
        let Declared { name, stage: kind, models, .. } = declared;
        let text = match kind {
            Stage::Evaluate(_) => report::summary(&record.metrics, models),
            Stage::Aggregate(study) => report::study(&record.metrics, models, study.primary, study.margin.get()),
            _ => continue,
        };
        let damage = store.inspect(record);
        if !damage.is_empty() {
            for damage in damage.iter().filter(|damage| damage.fault != Fault::Missing) {
                store.set_aside(damage.digest)?;
            }
            corrupted.push(name.as_str());
            continue;
        }
        let folder = Path::new("results").join(&pipeline.name).join(folders.get(name.as_str()).unwrap_or(name));
        let written = histograms(store, record, models).and_then(|mut figures| {
            if let Stage::Aggregate(study) = kind {
                let svg = plot::paired_plot(&record.metrics, models, study.primary, study.margin.get())?;
                figures.extend(svg.map(|svg| ("paired".to_owned(), svg)));
            }
            let names = file_names(figures.iter().map(|(name, _)| name.as_str()));
            names
                .iter()
                .zip(&figures)
                .map(|(name, (_, svg))| write(&folder, name, svg))
                .collect::<anyhow::Result<Vec<_>>>()
        });
        if !quiet {
            say(&format!("\n{name}\n{text}"));
        }
        match written {
            Ok(paths) if !quiet => say(&format!("{} in {}", count(paths.len(), "plot"), folder.display())),
            Ok(_) => {}
            Err(error) => say(&format!("warning: the plots of `{name}` are not written: {error:#}")),
        }
    }
    if corrupted.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the results of `{}` were corrupted or unreadable in the cache and have been set aside: run again to make them anew",
        corrupted.join("`, `")
    );
    Err(Failure::message(CORRUPT, message))
}

/// The folders for files of stages, by the stages' names.
pub(super) fn stage_folders(pipeline: &Pipeline) -> HashMap<&str, String> {
    let names = || pipeline.stages.iter().map(|stage| stage.name.as_str());
    names().zip(file_names(names())).collect()
}

/// The figures of an evaluation with their names.
fn histograms(store: &Store, record: &Record, models: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let file = record.outputs.get(Evaluation::FILE).context("the evaluation has no histograms")?;
    let evaluation = Evaluation::load(&store.object(file.digest))?;
    Ok(page::figures(&evaluation, models, plot::Size::Full)?)
}

/// Writes a plot, unless it is there with the same bytes.
fn write(folder: &Path, name: &str, svg: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.svg"));
    let there = path.is_file() && fs::read(&path).is_ok_and(|there| there == svg.as_bytes());
    if !there {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        user_file::write_plain(&path, svg.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}
