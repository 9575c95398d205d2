//! Numbers that cannot be out of range: a pipeline that holds one is valid there.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a pipeline's JSON schema says of a number; it stands at the field, whose description says more.
macro_rules! schema {
    ($name:ident, $schema:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $range:literal, $accepts:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from(value: f64) -> Result<Self, String> {
                let accepts: fn(f64) -> bool = $accepts;
                if accepts(value) { Ok(Self(value)) } else { Err(format!(concat!("{} is not ", $range), value)) }
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }

        schema!($name, $schema);
    };
}

ranged!(
    /// A number in [0, 1].
    Probability, "a probability between 0 and 1", |v| (0.0..=1.0).contains(&v),
    { "type": "number", "minimum": 0, "maximum": 1 }
);
ranged!(
    /// A share of one GPU in [0, 1]: stages that need a quarter each share one by four.
    GpuShare, "a share of one GPU from 0 to 1: a stage runs on one GPU at most", |v| (0.0..=1.0).contains(&v),
    { "type": "number", "minimum": 0, "maximum": 1 }
);
ranged!(
    /// A number in (0, 1).
    OpenProbability, "strictly between 0 and 1", |v| v > 0.0 && v < 1.0,
    { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 }
);
ranged!(
    /// A number in [0, 1): a decay or a share that must leave something.
    Fraction, "a fraction from 0 up to, but not including, 1", |v| (0.0..1.0).contains(&v),
    { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }
);
ranged!(
    /// A finite number above 0.
    Positive, "a finite number above 0", |v| v > 0.0 && v.is_finite(),
    { "type": "number", "exclusiveMinimum": 0 }
);
ranged!(
    /// A finite number of at least 0.
    NonNegative, "a finite number of at least 0", |v| v >= 0.0 && v.is_finite(),
    { "type": "number", "minimum": 0 }
);
ranged!(
    /// Any finite number.
    Finite, "a finite number", f64::is_finite,
    { "type": "number" }
);

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $max:literal, $range:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            /// Once.
            pub const ONE: Self = Self(1);

            /// The number.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = String;

            fn try_from(value: u64) -> Result<Self, String> {
                if (1..=$max).contains(&value) { Ok(Self(value as $inner)) } else { Err(format!(concat!("{} is not ", $range), value)) }
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0 as u64
            }
        }

        schema!($name, { "type": "integer", "minimum": 1, "maximum": $max });
    };
}

counted!(
    /// How often something is done: 1 to 10⁹.
    Steps, u64, 1_000_000_000, "a number of steps from 1 to 1,000,000,000"
);
counted!(
    /// Events in a batch: 1 to 2²⁰.
    BatchSize, usize, 1_048_576, "a batch size from 1 to 1,048,576"
);
counted!(
    /// Neurons in a layer or numbers in a latent vector: 1 to 8192.
    Width, usize, 8192, "a width from 1 to 8192"
);
counted!(
    /// Events to make: 1 to 10⁹.
    EventCount, usize, 1_000_000_000, "a number of events from 1 to 1,000,000,000"
);
counted!(
    /// Seeds that a pipeline is run with: 1 to 100.
    ReplicaCount, usize, 100, "a number of replicas from 1 to 100"
);
counted!(
    /// Threads of a stage: 1 to 1024.
    ThreadCount, usize, 1024, "a number of threads from 1 to 1024"
);
counted!(
    /// Rounds of boosting: 1 to 100.
    RoundCount, usize, 100, "a number of rounds from 1 to 100"
);

/// Bootstrap samples: 0 to 100,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Resamples(usize);

impl Resamples {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<u64> for Resamples {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        if value <= 100_000 {
            Ok(Self(value as usize))
        } else {
            Err(format!("{value} is not a number of bootstrap samples from 0 to 100,000"))
        }
    }
}

schema!(Resamples, { "type": "integer", "minimum": 0, "maximum": 100_000 });

impl From<Resamples> for u64 {
    fn from(value: Resamples) -> u64 {
        value.0 as u64
    }
}
