//! Compares two tables of events without any pipeline: every metric of the registry, and what each costs.
//!
//! Arguments: two tables (parquet, CSV or npy) with the columns of `examples/dijet`, whose two tables are the default, then a
//! cut of the tail in GeV of jj_M, 1500 by default. The second table judges the first. The default tables are of one law, so
//! their numbers are a floor: what a perfect model would score.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, path::PathBuf, time::Instant};

use anyhow::Context;
use pgan_pipe::{
    data::{Observables, dijet, read_table},
    metrics::{Bench, Comparison, Effort, METRICS, Numbers},
    rng::Streams,
};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.into());
    let (sample, test) =
        (PathBuf::from(next("examples/dijet/train.parquet")), PathBuf::from(next("examples/dijet/test.parquet")));
    let cut = next("1500").to_string_lossy().parse().context("the cut must be a number")?;

    let names: Vec<&str> = dijet::FEATURES.iter().chain(Observables::Dijet.names()).copied().collect();
    let read = |path: &PathBuf| -> anyhow::Result<Vec<Vec<f64>>> {
        let events = read_table(path, Some(&dijet::FEATURES.map(str::to_owned)))?;
        println!("{}: {} events", path.display(), events.len());
        let columns = names.iter().map(|name| Observables::Dijet.values(&events, name));
        Ok(columns.collect::<Result<_, _>>()?)
    };
    let (sample, test) = (read(&sample)?, read(&test)?);
    let mass = names.iter().position(|&name| name == "jj_M").context("there is no mass of the pair")?;

    // Bins are set by the test events here; an evaluation sets them by the training events.
    let bench = Bench::new(names.iter().map(ToString::to_string).collect(), &test, &test, Some((mass, cut)));
    let (sample, streams) = (bench.sample(&sample), Streams::new(48, "evaluate"));
    let comparison = Comparison { bench: &bench, sample: &sample, streams: &streams, effort: Effort::default() };

    let mut costs = Vec::new();
    let mut numbers = Numbers::default();
    for metric in METRICS {
        let start = Instant::now();
        (metric.measure)(&comparison, &mut numbers);
        costs.push(format!("{} {:.2} s", metric.name, start.elapsed().as_secs_f64()));
    }
    let numbers = numbers.into_map();

    let shown = ["chi2_ndf", "ks", "w1", "ad", "ad_upper", "in_tail_chi2_ndf", "in_tail_ks"];
    println!("\n{:<12}{}", "", shown.map(|metric| format!("{metric:>18}")).concat());
    for observable in names {
        let cell = |metric| match numbers.get(&format!("{metric}.{observable}")) {
            Some(value) => format!("{value:>18.5}"),
            None => format!("{:>18}", "–"),
        };
        println!("{observable:<12}{}", shown.map(cell).concat());
    }
    println!();
    for (name, value) in
        numbers.iter().filter(|(name, _)| name.split('.').all(|part| !bench.names.iter().any(|n| n == part)))
    {
        println!("{name:<24}{value:>12.6}");
    }
    println!("\n{}", costs.join(", "));
    Ok(())
}
