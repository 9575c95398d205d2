//! What serde finds wrong with a node, with its place and its path, before it is put in words.

use std::fmt;

use super::{
    diagnostics::{Diagnostic, Place},
    draft::COMMON,
    node::shorten,
};
use crate::stage::nearest;

/// A mistake found while a stage's struct was read from its node. The innermost place wins.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// Where, and where the value was written if that is elsewhere.
    pub(super) place: Option<(Place, Option<Place>)>,
    /// Keys and indices from the root to the value at fault, innermost first.
    path: Vec<String>,
}

#[derive(Debug)]
pub(super) enum FaultKind {
    /// A key that the struct does not have.
    UnknownField { field: String, expected: &'static [&'static str] },
    /// A key that the struct needs.
    MissingField(&'static str),
    /// A name that is none of the known ones.
    UnknownVariant { variant: String, expected: &'static [&'static str] },
    /// Anything else.
    Other(String),
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        FaultKind::Other(message.into()).into()
    }

    /// Sets the place, if no inner one is known.
    #[must_use]
    pub(super) fn at(mut self, place: Place, origin: Option<Place>) -> Self {
        self.place.get_or_insert((place, origin));
        self
    }

    /// Adds the key or index that leads to the value at fault.
    #[must_use]
    pub(super) fn under(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }

    /// Keys and indices from the root to the value at fault; for an unknown or missing field, to the map.
    pub(super) fn path(&self) -> Vec<String> {
        self.path.iter().rev().cloned().collect()
    }

    /// What the field at fault belongs to: the innermost field on the path, or the stage's kind.
    pub(super) fn owner<'a>(&'a self, kind: &'a str) -> &'a str {
        self.path.iter().find(|step| step.parse::<usize>().is_err()).map_or(kind, String::as_str)
    }

    /// The mistake in words. `owner` is what the fields belong to when the path is empty: the stage's kind.
    pub(super) fn diagnostic(&self, owner: &str, fallback: Place) -> Diagnostic {
        let (place, origin) = self.place.unwrap_or((fallback, None));
        let owner = self.owner(owner);
        let diagnostic = match &self.kind {
            FaultKind::UnknownField { field, expected } => {
                let message = format!("`{owner}` has no field `{}`", shorten(field));
                let found = Diagnostic::new(message, place).label("unknown field");
                // What any stage may have is read elsewhere, and no kind expects it.
                let common = if self.path.is_empty() { &COMMON[1..] } else { &[] };
                suggest(found, field, &[expected, common].concat())
            }
            FaultKind::MissingField(field) => missing(owner, &[*field], place),
            FaultKind::UnknownVariant { variant, expected } => {
                let message = format!("`{}` is not a value that `{owner}` takes", shorten(variant));
                suggest(Diagnostic::new(message, place).label("unknown value"), variant, expected)
            }
            FaultKind::Other(message) => {
                let named = !self.path.is_empty();
                Diagnostic::new(if named { format!("`{owner}`: {message}") } else { message.clone() }, place)
            }
        };
        diagnostic.with_origin(origin)
    }
}

/// Fields that a map needs and does not have.
pub(super) fn missing(owner: &str, fields: &[&str], place: Place) -> Diagnostic {
    let names = format!("`{}`", fields.join("`, `"));
    let (plural, verb) = if fields.len() > 1 { ("s", "are") } else { ("", "is") };
    Diagnostic::new(format!("`{owner}` needs the field{plural} {names}"), place)
        .label(format!("{names} {verb} missing"))
}

/// Adds "did you mean", or the list of what is known.
pub(super) fn suggest(diagnostic: Diagnostic, wrong: &str, known: &[&str]) -> Diagnostic {
    match nearest(wrong, known) {
        Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
        None if known.is_empty() => diagnostic,
        None if known.len() == 1 => diagnostic.help(format!("the only known one is `{}`", known[0])),
        None => diagnostic.help(format!("known are `{}`", known.join("`, `"))),
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self { kind, place: None, path: Vec::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic("this", Place::Whole).message)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        FaultKind::UnknownField { field: field.to_owned(), expected }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        FaultKind::MissingField(field).into()
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        FaultKind::UnknownVariant { variant: variant.to_owned(), expected }.into()
    }
}
