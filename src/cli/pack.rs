//! `pack` and `unpack`: a pipeline with its results as one file.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use pgan_pipe::{
    pack::{self, Choice, Manifest},
    plan::Plan,
    shell::quote,
    store::Store,
};
use serde_json::json;

use super::{
    Failure, Outcome,
    arguments::{CacheArgs, Folder, PipelineArgs},
    failure::INVALID,
    output::{print, print_json, say, tell_written},
    signals::leave_nothing_unfinished,
    text::{bytes, count},
};

const EXAMPLES: &str = "\
Examples:
  pgan-pipe pack dijet.yaml                          dijet.pgan: pipeline, lock, sources and every result
  pgan-pipe pack dijet.yaml boosted -o boosted.pgan  one stage's result, with all that it needs
  pgan-pipe pack dijet.yaml --without events         without the events, which their source makes again

A pack is a tar archive: `tar tf dijet.pgan` lists it.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Pack {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages whose results go in, with those of all that they need; all by default
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// The pack; the pipeline's name with `.pgan` by default
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Leave the result of this stage out; may be repeated
    #[arg(long, value_name = "STAGE")]
    without: Vec<String>,
    /// Leave the source files out
    #[arg(long)]
    without_sources: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Pack {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        let pipeline = self.pipeline.load()?;
        let store = self.cache.store_of(&self.pipeline.file);
        let plan =
            Plan::make(&pipeline, &store, &self.targets, &[]).map_err(|error| Failure::of_plan(&pipeline, error))?;
        let mut without = Vec::new();
        for name in &self.without {
            // As everywhere, the plain name of a swept stage means all its points.
            let meant = pipeline.select(name).into_iter().map(|index| pipeline.stages[index].name.clone());
            let packed = meant.filter(|name| plan.stages.iter().any(|stage| stage.name == *name)).collect::<Vec<_>>();
            if packed.is_empty() {
                let message = format!("`--without {name}`: no stage of this name would be packed");
                return Err(Failure::message(INVALID, message));
            }
            without.extend(packed);
        }
        let output = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.pgan", pipeline.name)));
        let choice = Choice { without, without_sources: self.without_sources };
        let packed = pack::pack(&pipeline, &store, &plan, &choice, &output)?;
        for notice in &packed.notices {
            say(&format!("note: {notice}"));
        }
        let results = packed.manifest.records.len();
        if self.json {
            let missing = plan.stages.len() - results;
            print_json([json!({
                "event": "packed", "path": output, "bytes": packed.bytes, "results": results, "without_result": missing,
                "files": paths(&packed.manifest),
            })])?;
        } else {
            let of = if results == plan.stages.len() { String::new() } else { format!(" of {}", plan.stages.len()) };
            let done = format!(
                "{}: {}{of}, {}, {}",
                output.display(),
                count(results, "result"),
                count(packed.manifest.files.len(), "file"),
                bytes(packed.bytes)
            );
            tell_written(&output, &done)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

const UNPACK_EXAMPLES: &str = "\
Examples:
  pgan-pipe unpack dijet.pgan                 into the folder dijet, with its cache
  pgan-pipe unpack dijet.pgan -C .            into this folder
  pgan-pipe unpack dijet.pgan --cache ~/pgan  results into a cache that is there already";

#[derive(Args)]
#[command(after_help = UNPACK_EXAMPLES)]
pub(super) struct Unpack {
    /// The pack
    #[arg(value_name = "PACK")]
    pack: PathBuf,
    /// The folder to unpack into; one of the pack's name by default
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The folder that results go into; `cache` in the folder by default
    #[arg(long, value_name = "DIR", env = "PGAN_CACHE", hide_env_values = true, value_parser = Folder)]
    cache: Option<PathBuf>,
    /// Replace files that are there already with other content
    #[arg(long)]
    force: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Unpack {
    pub(super) fn run(&self) -> Outcome {
        leave_nothing_unfinished()?;
        let folder = self.directory.clone().map_or_else(|| folder_of(&self.pack), Ok)?;
        let cache = self.cache.clone().unwrap_or_else(|| folder.join("cache"));
        let unpacked = pack::unpack(&self.pack, &folder, &Store::at(&cache), self.force)?;
        let manifest = &unpacked.manifest;
        if self.json {
            print_json([json!({
                "event": "unpacked", "folder": folder, "cache": cache, "pipeline": folder.join(&manifest.pipeline),
                "set": manifest.set, "files": paths(manifest), "results": manifest.records.len(),
                "new_results": unpacked.new_results,
            })])?;
            return Ok(ExitCode::SUCCESS);
        }
        let set = manifest.set.iter().map(|set| format!(" --set {}", quote(set))).collect::<Vec<_>>().concat();
        let cache = self.cache.as_ref().map_or_else(String::new, |cache| {
            let cache = std::path::absolute(cache).unwrap_or_else(|_| cache.clone());
            format!(" --cache {}", quote(&cache.display().to_string()))
        });
        print(&format!(
            "{}: {}, {} ({} new)\ngo on with: cd {} && pgan-pipe run {}{set}{cache}",
            folder.display(),
            count(manifest.files.len(), "file"),
            count(manifest.records.len(), "result"),
            unpacked.new_results,
            quote(&folder.display().to_string()),
            quote(&manifest.pipeline),
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn paths(manifest: &Manifest) -> Vec<&str> {
    manifest.files.iter().map(|file| file.path.as_str()).collect()
}

/// A folder of the pack's name beside nothing of that name that is no folder.
fn folder_of(pack: &Path) -> Result<PathBuf, Failure> {
    let name = pack.file_stem().filter(|_| pack.extension().is_some()).map(PathBuf::from);
    name.ok_or_else(|| Failure::message(INVALID, "say with `-C` which folder to unpack into"))
}
