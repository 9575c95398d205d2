//! The devices that a stage can run on, by the names of `--device`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A tensor device: pure-Rust CPU, libtorch on CPU, or libtorch on a CUDA GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// burn's pure-Rust CPU backend, always there.
    #[default]
    Cpu,
    /// libtorch on the CPU.
    Libtorch,
    /// libtorch on the CUDA device of this index, or on whichever is free.
    LibtorchCuda(Option<usize>),
    /// The best that works: CUDA where there is a GPU for it, else [`Cpu`](Self::Cpu).
    Auto,
}

impl DeviceName {
    /// The best of devices that work.
    pub fn best(works: impl IntoIterator<Item = Self>) -> Self {
        let gpu = works.into_iter().any(|device| matches!(device, Self::LibtorchCuda(_)));
        if gpu { Self::LibtorchCuda(None) } else { Self::Cpu }
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of the known ones.
    #[error(
        "unknown device `{0}`: expected `cpu`, `libtorch`, `libtorch-cuda`, `libtorch-cuda:N` or `auto` (see `pgan-pipe devices`)"
    )]
    Unknown(String),
    /// The device exists, but not in this build or on this machine.
    #[error("device `{device}` is not available: {reason}")]
    Unavailable {
        /// The device that was asked for.
        device: DeviceName,
        /// What is missing and what to do.
        reason: String,
    },
    /// The device gave up while computing.
    #[error("the device failed: {0}")]
    Failed(String),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Libtorch => f.write_str("libtorch"),
            Self::Auto => f.write_str("auto"),
            Self::LibtorchCuda(None) => f.write_str("libtorch-cuda"),
            Self::LibtorchCuda(Some(index)) => write!(f, "libtorch-cuda:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "libtorch" => Ok(Self::Libtorch),
            "libtorch-cuda" => Ok(Self::LibtorchCuda(None)),
            _ => text
                .strip_prefix("libtorch-cuda:")
                .and_then(|index| index.parse().ok())
                .map(|index| Self::LibtorchCuda(Some(index)))
                .ok_or_else(|| DeviceError::Unknown(text.to_owned())),
        }
    }
}

impl JsonSchema for DeviceName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["cpu", "libtorch", "libtorch-cuda", "auto"] },
                { "type": "string", "pattern": "^libtorch-cuda:[0-9]+$" }
            ]
        })
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> Self {
        device.to_string()
    }
}
