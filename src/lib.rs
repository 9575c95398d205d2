//! Declarative pipelines that boost the tails of generative models.
//!
//! A pipeline is a YAML file: a DAG of stages (dataset, base GAN, freeze, tail pretraining, boosting, evaluation).
//! The data walks through the modules in one direction:
//!
//! ```text
//! pipeline (YAML, spans) → plan (DAG, cache keys) → run (executor, workers) → stage (bodies)
//!                                                     ↓                          ↓
//!                                                   store                train, model, metrics, data
//! ```
//!
//! The library never prints and never exits: it returns values, errors and events.

pub mod compare;
pub mod credentials;
pub mod data;
pub mod device;
pub mod digest;
pub mod export;
pub mod files;
pub mod key;
pub mod metrics;
pub mod model;
pub mod names;
pub mod pack;
pub mod pipeline;
pub mod plan;
pub mod printable;
pub mod remote;
pub mod report;
pub mod rng;
pub mod run;
pub mod shell;
pub mod stage;
pub mod store;
pub mod submit;
pub mod track;
pub mod train;
pub mod user_file;
pub mod value;
