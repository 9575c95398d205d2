//! `devices`: what stages can run on.

use std::process::ExitCode;

use clap::Args;
use pgan_pipe::model::device::{Found, devices};
use serde_json::json;

use super::{
    Outcome,
    output::{print, print_json},
    text::columns,
};

#[derive(Args)]
pub(super) struct Devices {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub(super) fn run(&self) -> Outcome {
        let found = devices();
        if self.json {
            print_json(found.iter().map(|Found { device, status }| match status {
                Ok(what) => json!({"device": device, "available": true, "description": what}),
                Err(why) => json!({"device": device, "available": false, "reason": why}),
            }))?;
        } else {
            let row = |Found { device, status }: &Found| {
                let (state, text) = match status {
                    Ok(what) => ("available", what),
                    Err(why) => ("not available", why),
                };
                [device.to_string(), state.to_owned(), text.clone()]
            };
            print(&columns(&found.iter().map(row).collect::<Vec<_>>()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
