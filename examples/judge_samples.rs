//! Compares two tables of events, observable by observable, without any pipeline: χ²/NDF, Kolmogorov–Smirnov and W₁.
//!
//! Arguments: two tables (parquet, CSV or npy) with the columns of `examples/dijet`, whose two tables are the default. Those
//! two are of one law, so their numbers are a floor: what a perfect model would score.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, path::PathBuf};

use anyhow::Context;
use pgan_pipe::{
    data::{Observables, Table, read_table},
    metrics::{Binning, chi2, ks, sorted, wasserstein},
};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.into());
    let (first, second) = (next("examples/dijet/train.parquet"), next("examples/dijet/test.parquet"));
    let (one, other) = (read_table(&first, None)?, read_table(&second, None)?);
    println!("{}: {} events", first.display(), one.len());
    println!("{}: {} events\n", second.display(), other.len());

    println!("{:<12}{:>8}{:>10}{:>8}{:>12}", "", "χ²/NDF", "KS", "p", "W1");
    // A file may hold the derived observables already, as those that `sample_model` writes do.
    let derived = Observables::Dijet.names().iter().copied().filter(|name| one.column(name).is_err());
    for observable in one.names().iter().map(String::as_str).chain(derived) {
        let (one, other) = (values(&one, observable)?, values(&other, observable)?);
        // Bins of the observable's own, if its name is known, else of equal shares of the second sample.
        let binning = Binning::for_observable(observable, &other).context("a sample without spread has no bins")?;
        let [n, m] =
            [&one, &other].map(|sample| binning.counts(sample).into_iter().map(|n| n as f64).collect::<Vec<_>>());
        let chi2 = chi2::two_sample_merged(&n, &m).context("too few events for a χ²")?;
        let ks = ks::two_sample(&one, &other).context("there are no events to compare")?;
        let w1 = wasserstein::distance(&one, &other).context("there are no events to compare")?;
        println!("{observable:<12}{:>8.2}{:>10.4}{:>8.3}{w1:>12.5}", chi2.per_ndf(), ks.statistic, ks.p);
    }
    Ok(())
}

/// The values of an observable in ascending order, as the metrics want them.
fn values(events: &Table, observable: &str) -> anyhow::Result<Vec<f64>> {
    Ok(sorted(&Observables::Dijet.values(events, observable)?))
}
