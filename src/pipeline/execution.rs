//! How a stage is run: what may stand in any stage and is no part of its key.

use std::time::Duration;

use serde::Deserialize;

/// How a stage is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// The longest that an attempt may take.
    pub timeout: Option<Timeout>,
    /// How often it is tried again after its worker was lost or a file could not be read or written.
    pub retries: u8,
}

/// A time as people write it, with its unit: `90 s`, `30 min`, `2 h`, `1.5 d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Timeout(Duration);

impl Timeout {
    /// The time.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time; write it with its unit, as in 90s, 30min, 2h or 1.5d");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim() {
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let time =
            Duration::try_from_secs_f64(number.parse::<f64>().map_err(|_| wrong())? * unit).map_err(|_| wrong())?;
        if time.is_zero() { Err(wrong()) } else { Ok(Self(time)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_above_zero() {
        for (text, seconds) in [("90s", 90), ("30 min", 1800), ("2h", 7200), ("1.5d", 129_600)] {
            assert_eq!(Timeout::try_from(text.to_owned()).unwrap().get(), Duration::from_secs(seconds));
        }
        for text in ["", "2", "h", "0s", "-1s", "2 weeks", "1.2.3h", "1e3s", "99999999999999999999999999d"] {
            let error = Timeout::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("write it with its unit"), "{error}");
        }
    }
}
