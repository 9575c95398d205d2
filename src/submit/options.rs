//! Options of the engine's own, for all stages or for one.

use std::str::FromStr;

use crate::pipeline::Declared;

/// An option of the engine's own, as in `--partition=gpu` or `STAGE=--partition=gpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOption {
    /// The stage that it is for, with its rounds and replicas; all if left out.
    pub stage: Option<String>,
    /// The option.
    pub option: String,
}

impl EngineOption {
    /// Whether it is for this stage and no other: by its name, or by the name that it was written with.
    pub(super) fn names(&self, declared: &Declared) -> bool {
        let written = declared.name.split('@').next();
        self.stage.as_deref().is_some_and(|stage| stage == declared.name || Some(stage) == written)
    }
}

impl FromStr for EngineOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stage, option) = match text.split_once("=--") {
            Some((stage, _)) if !stage.starts_with('-') => (Some(stage), &text[stage.len() + 1..]),
            _ => (None, text),
        };
        if option.starts_with("--") && option.len() > 2 && stage != Some("") {
            Ok(Self { stage: stage.map(str::to_owned), option: option.to_owned() })
        } else {
            Err("write `--NAME=VALUE`, or `STAGE=--NAME=VALUE` for one stage".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_for_all_stages_or_for_one() {
        let read = |text: &str| text.parse::<EngineOption>().map(|read| (read.stage, read.option));
        let option = |stage: Option<&str>, option: &str| Ok((stage.map(str::to_owned), option.to_owned()));
        assert_eq!(read("--partition=gpu"), option(None, "--partition=gpu"));
        assert_eq!(read("--comment=a=--b"), option(None, "--comment=a=--b"));
        assert_eq!(read("base=--mem=4G"), option(Some("base"), "--mem=4G"));
        assert_eq!(read("base@lr=-1,width=64=--mem=4G"), option(Some("base@lr=-1,width=64"), "--mem=4G"));
        for wrong in ["", "-p gpu", "--", "partition=gpu", "=--mem=4G", "base=-p"] {
            assert!(read(wrong).unwrap_err().contains("STAGE=--NAME=VALUE"), "{wrong}");
        }
    }
}
