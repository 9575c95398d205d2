//! Numbers, sizes and durations as people read them.

/// A duration in at most two units: `0.41 s`, `12.3 s`, `3 min 12 s`, `1 h 04 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 1.0 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A size in bytes: `738 kB`.
pub fn bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// A number with about five significant digits.
pub fn number(value: f64) -> String {
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
