//! The messages of event files that are needed here, with the field numbers of TensorFlow and TensorBoard.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(string, optional, tag = "3")]
    pub(super) file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(super) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<summary::Value>,
}

pub(super) mod summary {
    use super::{Message, Metadata, Tensor};

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Value {
        #[prost(string, tag = "1")]
        pub(in super::super) tag: String,
        #[prost(float, optional, tag = "2")]
        pub(in super::super) scalar: Option<f32>,
        #[prost(message, optional, tag = "8")]
        pub(in super::super) tensor: Option<Tensor>,
        #[prost(message, optional, tag = "9")]
        pub(in super::super) metadata: Option<Metadata>,
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub(super) plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) string_val: Vec<Vec<u8>>,
}

impl Tensor {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const STRING: i32 = 7;
}

/// Of a single value: without dimensions.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShape {}

/// What the plugin for hyperparameters reads from the metadata of a summary.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HParams {
    #[prost(int32, tag = "1")]
    pub(super) version: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) session: Option<Session>,
    #[prost(message, optional, tag = "4")]
    pub(super) end: Option<SessionEnd>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Session {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) hparams: BTreeMap<String, Value>,
    #[prost(string, tag = "4")]
    pub(super) group_name: String,
    #[prost(double, tag = "5")]
    pub(super) start_time_secs: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionEnd {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
    #[prost(double, tag = "2")]
    pub(super) end_time_secs: f64,
}

impl SessionEnd {
    pub(super) const SUCCESS: i32 = 1;
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(oneof = "value::Kind", tags = "2, 3, 4")]
    pub(super) kind: Option<value::Kind>,
}

pub(super) mod value {
    use prost::Oneof;

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        #[prost(double, tag = "2")]
        Number(f64),
        #[prost(string, tag = "3")]
        Text(String),
        #[prost(bool, tag = "4")]
        Bool(bool),
    }
}
