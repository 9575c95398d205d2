//! What a plan says, on stores filled by hand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::store::{Lookup, Outcome, Provenance};
