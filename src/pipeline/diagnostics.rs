//! Mistakes with their places, and how they are shown: file, line and column, the line itself, and what to do.

use std::{borrow::Cow, fmt, ops::Range, path::PathBuf, sync::Arc};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use crate::printable::printable;

/// At most so many mistakes are shown in full.
const SHOWN: usize = 50;

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// The pipeline as a whole.
    Whole,
    /// These bytes of the text of this index.
    File { text: u16, start: usize, end: usize },
    /// The `--set` of this index.
    Override(usize),
}

impl Place {
    /// The first byte.
    pub(super) fn start(self) -> usize {
        if let Self::File { start, .. } = self { start } else { 0 }
    }

    /// The byte after the last.
    pub(super) fn end(self) -> usize {
        if let Self::File { end, .. } = self { end } else { 0 }
    }

    /// Whether it covers no byte.
    pub(super) fn is_empty(self) -> bool {
        matches!(self, Self::File { start, end, .. } if start == end)
    }

    /// The index of the text that it stands in; what stands in none counts to the first.
    pub(super) fn text(self) -> usize {
        if let Self::File { text, .. } = self { text.into() } else { 0 }
    }

    fn range(self) -> Range<usize> {
        self.start()..self.end()
    }

    #[cfg(test)]
    pub(super) fn slice(self, text: &str) -> &str {
        &text[self.range()]
    }
}

/// A mistake.
#[derive(Clone, Debug)]
pub(super) struct Diagnostic {
    pub(super) message: String,
    pub(super) label: String,
    pub(super) place: Place,
    pub(super) help: Option<String>,
    pub(super) secondary: Vec<(Place, String)>,
}

impl Diagnostic {
    pub(super) fn new(message: impl Into<String>, place: Place) -> Self {
        Self { message: message.into(), label: String::new(), place, help: None, secondary: Vec::new() }
    }

    /// What stands beside the marked bytes.
    #[must_use]
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to do.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Another place that matters.
    #[must_use]
    pub(super) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.secondary.push((place, label.into()));
        self
    }

    /// Names the place where the value was written, if it is another one.
    #[must_use]
    pub(super) fn with_origin(self, origin: Option<Place>) -> Self {
        match origin {
            Some(origin) if origin != self.place => self.also(origin, "the value comes from here"),
            _ => self,
        }
    }
}

/// A file of a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The path as the user gave it; that of an included file joined to it.
    pub(super) path: PathBuf,
    pub(super) text: Arc<str>,
}

/// The texts of a pipeline, for showing places in them: its file, and the files that it includes.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Never empty.
    pub(super) texts: Vec<Text>,
    /// The `k=v` of each `--set`.
    pub(super) overrides: Arc<[String]>,
}

/// Mistakes in a pipeline file, in the order of their places; never empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    written: Written,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(super) fn new(written: Written, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        list.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        Self { written, list }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// What is wrong, one sentence a mistake, without places.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|diagnostic| diagnostic.message.as_str())
    }

    /// Renders all of them with snippets; with colours for a terminal.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out: Vec<String> = self
            .list
            .iter()
            .take(SHOWN)
            .map(|diagnostic| renderer.render(&[self.written.group(diagnostic)]).trim_end().to_owned())
            .collect();
        if self.count() > SHOWN {
            out.push(format!("… and {} more", self.count() - SHOWN));
        }
        if self.count() > 1 {
            out.push(format!("{}: {} problems", self.written.path(0), self.count()));
        }
        out.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Written {
    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let title = Level::ERROR.primary_title(printable(&diagnostic.message));
        let in_texts = || diagnostic.secondary.iter().filter(|(place, _)| matches!(place, Place::File { .. }));
        let mut group = match diagnostic.place {
            Place::Whole => title.element(Origin::path(self.path(0))),
            Place::Override(index) => title.element(Origin::path(format!("--set {}", self.override_text(index)))),
            Place::File { .. } => {
                let marks = in_texts().filter(|(place, _)| place.text() == diagnostic.place.text());
                title.element(self.snippet(Some((diagnostic.place, &diagnostic.label)), marks))
            }
        };
        if matches!(diagnostic.place, Place::File { .. }) {
            for mark in in_texts().filter(|(place, _)| place.text() != diagnostic.place.text()) {
                group = group.element(self.snippet(None, std::iter::once(mark)));
            }
        }
        if matches!(diagnostic.place, Place::Override(_)) && !diagnostic.label.is_empty() {
            group = group.element(Level::NOTE.message(shown(&diagnostic.label)));
        }
        for (place, _) in &diagnostic.secondary {
            if let Place::Override(index) = place {
                let note = format!("the value comes from `--set {}`", self.override_text(*index));
                group = group.element(Level::NOTE.message(note));
            }
        }
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(shown(help))),
            None => group,
        }
    }

    fn override_text(&self, index: usize) -> String {
        shown(self.overrides.get(index).map_or("", String::as_str))
    }

    fn path(&self, text: usize) -> String {
        shown(&self.texts.get(text).map_or(Cow::Borrowed(""), |text| text.path.to_string_lossy()))
    }

    /// The lines of one text from the first to the last marked one, so that a long file costs nothing.
    fn snippet<'a>(
        &'a self,
        primary: Option<(Place, &'a String)>,
        others: impl Iterator<Item = &'a (Place, String)>,
    ) -> Snippet<'a, Annotation<'a>> {
        let others = others.map(|(place, label)| (AnnotationKind::Context, *place, label));
        let marks = primary.map(|(place, label)| (AnnotationKind::Primary, place, label)).into_iter().chain(others);
        let marks: Vec<(AnnotationKind, Place, &String)> = marks.collect();
        let index = marks.first().map_or(0, |(_, place, _)| place.text());
        let text = self.texts.get(index).map_or("", |text| &*text.text);
        let fit = |range: Range<usize>| {
            let start = floor(text, range.start.min(text.len()));
            // Of a value over several lines, the first is marked.
            let line = text[start..].find('\n').map_or(text.len(), |at| start + at);
            start..floor(text, range.end.clamp(start, line))
        };
        let marks: Vec<_> = marks.into_iter().map(|(kind, place, label)| (kind, fit(place.range()), label)).collect();
        let first = marks.iter().map(|(_, range, _)| range.start).min().unwrap_or(0);
        let last = marks.iter().map(|(_, range, _)| range.end).max().unwrap_or(0);
        let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
        let line = text[..start].bytes().filter(|&b| b == b'\n').count() + 1;
        let annotations = marks.into_iter().map(|(kind, range, label)| {
            let annotation = kind.span(range.start - start..range.end - start);
            if label.is_empty() { annotation } else { annotation.label(printable(label)) }
        });
        Snippet::source(of_the_same_length(&text[start..end]))
            .line_start(line)
            .path(self.path(index))
            .annotations(annotations)
    }
}

/// Makes a text of others printable, with blanks for tabs as the renderer has them.
fn shown(text: &str) -> String {
    normalize_untrusted_str(&printable(text))
}

/// Replaces the control characters that the renderer lets through, those above ASCII, by a dot of as many bytes: marks stay where they are.
fn of_the_same_length(lines: &str) -> Cow<'_, str> {
    let through = |c: char| c.is_control() && !c.is_ascii();
    if lines.contains(through) { lines.replace(through, "·").into() } else { lines.into() }
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_do_not_act_on_the_terminal_where_the_program_colours() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7}\u{202e}\r";
        let text = format!("x: {hostile}\ny: 1\n");
        let place = Place::File { text: 0, start: 3, end: 3 + hostile.len() };
        let written = Written {
            texts: vec![Text { path: PathBuf::from(hostile), text: text.into() }],
            overrides: vec![hostile.to_owned()].into(),
        };
        let in_file = Diagnostic::new(hostile, place).label(hostile).help(hostile).also(Place::Override(0), hostile);
        let list = vec![in_file, Diagnostic::new(hostile, Place::Override(0)).label(hostile)];
        let diagnostics = Diagnostics::new(written, list);
        let acts = |c: char| crate::printable::acts(c) && c != '\n';
        assert!(!diagnostics.render(false).contains(acts), "{:?}", diagnostics.render(false));
        let coloured = diagnostics.render(true);
        assert!(coloured.contains("\x1b["));
        for piece in coloured.split("\x1b[").skip(1) {
            let (codes, rest) = piece.split_once('m').unwrap();
            assert!(codes.chars().all(|c| c.is_ascii_digit() || c == ';') && !rest.contains(acts), "{piece:?}");
        }
    }
}
