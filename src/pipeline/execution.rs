//! How a stage is run: what may stand in any stage and is no part of its key.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{diagnostics::Diagnostic, draft::read_entry, node::Node};
use crate::{
    device::DeviceName,
    value::{GpuShare, ThreadCount},
};

/// How a stage is run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Execution {
    /// Where its tensors live; where those of the whole run do if left out.
    pub device: Option<DeviceName>,
    /// What it needs of the machine.
    pub resources: Resources,
    /// How often it is tried again after its worker was lost, a GPU failed, or a file could not be read or written.
    pub retries: u8,
    /// The longest that an attempt may take.
    pub timeout: Option<Timeout>,
}

impl Execution {
    /// Reads what stands in a stage, and notes the mistakes.
    pub(super) fn read(stage: &Node, mistakes: &mut Vec<Diagnostic>) -> Self {
        Self {
            device: field(stage, "device", mistakes),
            resources: field(stage, "resources", mistakes).unwrap_or_default(),
            retries: field(stage, "retries", mistakes).unwrap_or_default(),
            timeout: field(stage, "timeout", mistakes),
        }
    }
}

/// A field of a stage by itself; `None` if it is not there or is wrong.
fn field<'de, T: Deserialize<'de>>(stage: &Node, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<T> {
    read_entry(stage.entry(key)?, mistakes)
}

/// What a stage needs of the machine while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// The share of one GPU that it takes on a CUDA device: stages that need a quarter each share one by four. Absent: an
    /// eighth, and none where there are no nets.
    pub gpu: Option<GpuShare>,
    /// CPU threads that it may use. Absent: one for a training, what is free for the rest.
    pub threads: Option<ThreadCount>,
    /// Memory that is kept free for it, with its unit: `500MB`, `8GiB`. Data that do not fit are mapped from files.
    pub memory: Option<ByteSize>,
}

/// A number of bytes as people write it: `500MB`, `20 GB`, `1.5GiB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size; write it with its unit, as in 500MB or 4GiB");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1e0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024_f64,
            "mib" => 1024_f64.powi(2),
            "gib" => 1024_f64.powi(3),
            "tib" => 1024_f64.powi(4),
            _ => return Err(wrong()),
        };
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit;
        if (1.0..1e18).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": "^[0-9.]+ *([kKmMgGtT]?[bB]?|[kKmMgGtT][iI][bB])$",
            "minimum": 1,
            "exclusiveMaximum": 1e18
        })
    }
}

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ByteSize {
    /// With a binary unit, to a tenth: `4 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut size = self.0 as f64;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < units.len() {
            size /= 1024.0;
            unit += 1;
        }
        write!(f, "{} {}", (size * 10.0).round() / 10.0, units[unit])
    }
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

impl JsonSchema for Timeout {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9.]+ *(s|min|h|d)$" })
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

    #[test]
    fn a_size_has_a_decimal_or_binary_unit() {
        for (text, bytes) in [("4096", 4096), ("500MB", 500_000_000), ("1.5 GiB", 1_610_612_736), ("2k", 2000)] {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes);
        }
        for text in ["", "GB", "0", "-1", "1e400", "12 parsecs", "1.2.3", "99999999999999999999"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(1_610_612_736).to_string(), "1.5 GiB");
        assert_eq!(ByteSize(900).to_string(), "900 B");
    }
}
