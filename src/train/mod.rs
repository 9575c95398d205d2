//! Training: losses, optimisers, importance sampling, and the loops over them.
//!
//! Knows models and data, and nothing of stages: progress goes to a callback, errors are [`TrainError`]s. All randomness comes
//! from host streams, so that a run is the same whatever runs beside it.

use burn::tensor::{Device, Tensor};

use crate::model::{ModelError, derived::host};

pub mod adagan;
pub mod adversary;
mod archive;
mod bank;
pub mod boost;
pub mod checkpoint;
pub mod classes;
pub mod config;
pub mod gan;
pub mod gaussians;
mod guard;
pub mod history;
pub mod invert;
pub mod latents;
pub mod mixture;
pub mod moments;
pub mod optimizer;
pub mod ratio;
pub mod reals;
pub mod selection;
pub mod tail;
mod tempering;
pub mod vae;
mod weigher;

/// Steps between two looks at the losses: each costs a synchronisation with the device.
pub const LOG_EVERY: u64 = 50;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A model or device is at fault.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The events do not fit.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// Numbers became infinite or undefined.
    #[error(
        "training diverged: the {what} is not finite at step {step}; lower `optimizer.rate`, raise the gradient penalty, or \
         look for outliers in the data"
    )]
    Diverged {
        /// When it was noticed.
        step: u64,
        /// Which quantity.
        what: &'static str,
    },
    /// What is asked for cannot be done with this data.
    #[error("{0}")]
    Unusable(String),
}

/// What a loop that pretrains a second generator needs to know.
pub struct Pretraining<'a> {
    /// Events of the tail, encoded.
    pub reals: &'a reals::Reals,
    /// The optimiser.
    pub optimizer: &'a config::OptimizerConfig,
    /// Steps.
    pub steps: u64,
    /// Events in a batch.
    pub batch: usize,
    /// Where tensors live, without autodiff.
    pub device: &'a Device,
}

/// A loss as a number, if it is one.
fn finite(loss: Tensor<1>, step: u64, what: &'static str) -> Result<f64, TrainError> {
    match host(loss)?.first() {
        Some(&loss) if loss.is_finite() => Ok(f64::from(loss)),
        _ => Err(TrainError::Diverged { step, what }),
    }
}

/// ln(1 + eˣ).
fn softplus(x: Tensor<2>) -> Tensor<2> {
    burn::tensor::activation::log_sigmoid(x.neg()).neg()
}
