//! Options that several verbs have.

use std::path::PathBuf;

use clap::Args;
use pgan_pipe::{pipeline::Pipeline, store::Store};

use super::Failure;

/// A pipeline with its overrides.
#[derive(Args)]
pub(super) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Replace a parameter, or a field as STAGE.FIELD; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
}

impl PipelineArgs {
    pub(super) fn load(&self) -> Result<Pipeline, Failure> {
        Ok(Pipeline::load(&self.file, &self.set)?)
    }
}

/// Where results are kept.
#[derive(Args)]
pub(super) struct CacheArgs {
    /// The folder that results are kept in
    #[arg(long, value_name = "DIR", env = "PGAN_CACHE", hide_env_values = true, default_value = "cache")]
    pub(super) cache: PathBuf,
}

impl CacheArgs {
    pub(super) fn store(&self) -> Store {
        Store::at(&self.cache)
    }
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, as in `steps=500` or `boosted.steps=500`".to_owned()),
    }
}
