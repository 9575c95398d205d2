//! Training: losses, optimisers, importance sampling, and the loops over them.

pub mod config;
