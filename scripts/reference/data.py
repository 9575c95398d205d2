#!/usr/bin/env python3
"""Makes the reference numbers of src/data: tests/reference/data_*.csv.

    python3 scripts/reference/data.py PATH/train_natural.parquet

data_observables.csv: every 1100th event of the dijet training sample with the pair's observables (columns jj_*) as the
sample's own program computed them from the jets' four-vectors.
data_quantiles.csv: upper quantiles from scipy.stats.
Needs numpy, scipy and pyarrow.
"""

import pathlib
import sys

import pyarrow.csv
import pyarrow.parquet
from scipy import stats

OUT = pathlib.Path(__file__).parents[2] / "tests" / "reference"
COLUMNS = "ljet1_pt ljet1_eta ljet1_M ljet2_pt ljet2_eta ljet2_phi ljet2_M jj_pt jj_eta jj_M".split()
UPPER = [0.9, 0.5, 0.1, 1e-2, 1e-4, 1e-8]
DENSITIES = {
    "normal": [(0.0, stats.norm())],
    "student_t": [(nu, stats.t(nu)) for nu in (0.7, 1.0, 3.0, 30.0)],
    "pareto": [(a, stats.pareto(a)) for a in (0.8, 2.5)],
    "log_normal": [(s, stats.lognorm(s)) for s in (0.5, 1.5)],
}


def observables(source):
    table = pyarrow.parquet.read_table(source, columns=COLUMNS)
    pyarrow.csv.write_csv(
        table.take(list(range(0, table.num_rows, 1100))),
        OUT / "data_observables.csv",
        pyarrow.csv.WriteOptions(quoting_style="none"),
    )


def quantiles():
    lines = ["density,parameter,upper_probability,value"]
    for name, cases in DENSITIES.items():
        for parameter, density in cases:
            lines += [f"{name},{parameter},{u!r},{float(density.isf(u))!r}" for u in UPPER]
    (OUT / "data_quantiles.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    observables(sys.argv[1])
    quantiles()
