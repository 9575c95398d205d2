//! Numbers, durations and columns as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// A duration in at most two units: `0.41 s`, `12.3 s`, `3 min 12 s`, `1 h 04 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 1.0 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// How long ago: `just now`, `5 min ago`, `3 d ago`.
pub(super) fn ago(age: Duration) -> String {
    match age.as_secs() {
        s if s < 60 => "just now".to_owned(),
        s if s < 3600 => format!("{} min ago", s / 60),
        s if s < 86_400 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

/// How long ago a recorded time was; as it stands if it is none.
pub(super) fn since(time: &str) -> String {
    let elapsed = |then: Timestamp| ago(Timestamp::now().duration_since(then).try_into().unwrap_or_default());
    time.parse().map_or_else(|_| time.to_owned(), elapsed)
}

/// A size in bytes: `738 kB`.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// A number with about five significant digits.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e9 {
        format!("{value:.0}")
    } else if (1e-3..1e6).contains(&size) {
        let decimals = 4_usize.saturating_sub(size.log10().floor().max(0.0) as usize);
        format!("{value:.decimals$}")
    } else {
        format!("{value:.4e}")
    }
}

/// `1 stage`, `2 stages`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Names in a line; of many, the first and the last ones.
pub(super) fn several(names: &[String]) -> String {
    match names {
        [first, second, .., last] if names.len() > 6 => {
            format!("{first}, {second}, … {last} ({} in all)", names.len())
        }
        _ => names.join(", "),
    }
}

/// Rows as columns of equal width, two blanks apart, indented by two.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_fits() {
        for (value, text) in
            [(0.412, "0.41 s"), (12.34, "12.3 s"), (59.99, "1 min 00 s"), (192.0, "3 min 12 s"), (3840.0, "1 h 04 min")]
        {
            assert_eq!(seconds(value), text);
        }
    }

    #[test]
    fn numbers_keep_about_five_digits() {
        for (value, text) in [(3.0, "3"), (0.5276, "0.5276"), (29.123_456, "29.123"), (1.5e-7, "1.5000e-7"), (0.0, "0")]
        {
            assert_eq!(number(value), text);
        }
    }
}
