//! Mistakes with their places, and how they are shown: file, line and column, the line itself, and what to do.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

/// At most so many mistakes are shown in full.
const SHOWN: usize = 50;

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// The file as a whole.
    Whole,
    /// These bytes of the file.
    File { start: usize, end: usize },
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
        matches!(self, Self::File { start, end } if start == end)
    }

    fn range(self) -> Option<Range<usize>> {
        if let Self::File { start, end } = self { Some(start..end) } else { None }
    }

    #[cfg(test)]
    pub(super) fn slice(self, text: &str) -> &str {
        &text[self.range().unwrap()]
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

/// The text of a pipeline, for showing places in it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The path as the user gave it.
    pub(super) path: String,
    pub(super) text: Arc<str>,
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
            out.push(format!("{}: {} problems", self.written.path, self.count()));
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
        let title = Level::ERROR.primary_title(&*diagnostic.message);
        let in_file = || diagnostic.secondary.iter().filter_map(|(place, label)| Some((place.range()?, label)));
        let mut group = match diagnostic.place {
            Place::Whole => title.element(Origin::path(&*self.path)),
            Place::Override(index) => title.element(Origin::path(format!("--set {}", self.override_text(index)))),
            Place::File { start, end } => {
                let secondary: Vec<_> = in_file().collect();
                title.element(self.snippet(start..end, &diagnostic.label, &secondary))
            }
        };
        if matches!(diagnostic.place, Place::Override(_)) && !diagnostic.label.is_empty() {
            group = group.element(Level::NOTE.message(normalize_untrusted_str(&diagnostic.label)));
        }
        for (place, _) in &diagnostic.secondary {
            if let Place::Override(index) = place {
                let note = format!("the value comes from `--set {}`", self.override_text(*index));
                group = group.element(Level::NOTE.message(note));
            }
        }
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(normalize_untrusted_str(help))),
            None => group,
        }
    }

    fn override_text(&self, index: usize) -> String {
        normalize_untrusted_str(self.overrides.get(index).map_or("", String::as_str))
    }

    /// The lines from the first to the last marked one, so that a long file costs nothing.
    fn snippet<'a>(
        &'a self,
        primary: Range<usize>,
        label: &'a str,
        secondary: &[(Range<usize>, &'a String)],
    ) -> Snippet<'a, Annotation<'a>> {
        let text = &*self.text;
        let fit = |range: &Range<usize>| {
            let start = floor(text, range.start.min(text.len()));
            // Of a value over several lines, the first is marked.
            let line = text[start..].find('\n').map_or(text.len(), |at| start + at);
            start..floor(text, range.end.clamp(start, line))
        };
        let primary = fit(&primary);
        let secondary: Vec<_> = secondary.iter().map(|(range, label)| (fit(range), *label)).collect();
        let ranges = || std::iter::once(&primary).chain(secondary.iter().map(|(range, _)| range));
        let first = ranges().map(|range| range.start).min().unwrap_or(0);
        let last = ranges().map(|range| range.end).max().unwrap_or(0);
        let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
        let line = text[..start].bytes().filter(|&b| b == b'\n').count() + 1;
        let shift = |range: &Range<usize>| range.start - start..range.end - start;
        let mark = |kind: AnnotationKind, range: &Range<usize>, label: &'a str| {
            let annotation = kind.span(shift(range));
            if label.is_empty() { annotation } else { annotation.label(label) }
        };
        Snippet::source(&text[start..end])
            .line_start(line)
            .path(&*self.path)
            .annotation(mark(AnnotationKind::Primary, &primary, label))
            .annotations(secondary.iter().map(|(range, label)| mark(AnnotationKind::Context, range, label)))
    }
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
