//! Reads YAML text into nodes with places. The only file that knows the YAML library.
//!
//! It drives the library's event parser: that gives the bytes of every key and value, both places of a repeated key, and a
//! tight bound on what aliases may expand to. What comes out is bounded by [`MAX_NODES`] and [`MAX_DEPTH`], whatever goes in.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::{
    diagnostics::{Diagnostic, Place},
    node::{Entry, Node, Scalar, Value},
};

/// Values that a file may hold, those that aliases repeat included.
pub(super) const MAX_NODES: usize = 200_000;
/// How deep they may nest.
const MAX_DEPTH: usize = 64;
/// Aliases that a file may use.
const MAX_ALIASES: usize = 256;
/// Bytes of text, with those that aliases repeat.
pub(super) const MAX_TEXT: usize = 32 << 20;

/// What the texts of a pipeline have come to together.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    nodes: usize,
    text: usize,
    aliases: usize,
}

/// Reads the one document of a text, whose index the places in it carry. Mistakes that still leave a tree (a repeated key) come
/// beside it. `None` without mistakes is a text with no document in it.
pub(super) fn read(text: &str, index: u16, spent: &mut Spent) -> (Option<Node>, Vec<Diagnostic>) {
    let mut builder = Builder { index, spent: *spent, ..Builder::default() };
    let outcome = builder.drive(text);
    *spent = builder.spent;
    let mut mistakes = builder.mistakes;
    match outcome {
        Ok(()) => (builder.root, mistakes),
        Err(fatal) => {
            mistakes.push(*fatal);
            (None, mistakes)
        }
    }
}

/// Fewer keys of a map are compared one by one.
const FEW: usize = 16;

type Fatal = Box<Diagnostic>;

/// A list or map whose end has not come yet.
struct Open {
    start: usize,
    /// Whether it is written in brackets.
    flow: bool,
    anchor: usize,
    height: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    /// The keys seen so far are listed apart once there are many.
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, Place>,
        key: Option<(String, Place)>,
        merges: Vec<Node>,
    },
}

/// A node that aliases may repeat.
struct Anchored {
    node: Node,
    height: usize,
    cost: (usize, usize),
}

#[derive(Default)]
struct Builder {
    /// The index of the text.
    index: u16,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<Node>,
    mistakes: Vec<Diagnostic>,
    spent: Spent,
    documents: usize,
}

impl Builder {
    fn drive(&mut self, text: &str) -> Result<(), Fatal> {
        let options = serde_saphyr::granit_parser::options! { emit_comments: false };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
                Box::new(self.syntax_error(text, at, &error.info()))
            })?;
            self.take(event, &span)?;
        }
        Ok(())
    }

    fn place(&self, start: usize, end: usize) -> Place {
        Place::File { text: self.index, start, end: end.max(start) }
    }

    fn syntax_error(&self, text: &str, at: usize, info: &str) -> Diagnostic {
        let diagnostic = Diagnostic::new("the file is not valid YAML", self.place(at, at + 1))
            .label(info.replace("EOF", "end of the file"));
        let Some(bracket) = self.open.last().filter(|open| open.flow).map(|open| open.start) else {
            return diagnostic
                .help("indent by spaces, put a space after every `:`, and quote texts with special characters");
        };
        if text[..at].ends_with('$') {
            return diagnostic.help("inside `[ ]` and `{ }`, quote it: \"${params.NAME}\"");
        }
        diagnostic
            .also(self.place(bracket, bracket + 1), "still open")
            .help("close every bracket, and put a `,` between values")
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fatal> {
        let range = span.byte_range().unwrap_or(0..0);
        let place = self.place(range.start, range.end);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fatal("a second YAML document starts here", place, "a pipeline file holds one document");
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                let scalar = match style {
                    ScalarStyle::Plain if !self.tagged(tag.as_deref(), place) => Scalar::of_plain(&value),
                    _ => Scalar::Text,
                };
                self.spend(1, value.len(), place)?;
                let node = Node::new(Value::Scalar(value.into_owned(), scalar), place);
                self.attach(node, anchor, 1)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.tagged(tag.as_deref(), place);
                self.push(anchor, style, Content::Sequence(Vec::new()), place)?;
            }
            Event::MappingStart(style, anchor, tag) => {
                self.tagged(tag.as_deref(), place);
                let seen = HashMap::new();
                self.push(
                    anchor,
                    style,
                    Content::Map { entries: Vec::new(), seen, key: None, merges: Vec::new() },
                    place,
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place)?,
            Event::Alias(id) => self.repeat(id, place)?,
            _ => {}
        }
        Ok(())
    }

    /// Refuses tags that have no meaning here; whether the tag makes the scalar a text.
    fn tagged(&mut self, tag: Option<&Tag>, place: Place) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() {
            self.mistakes.push(
                Diagnostic::new(format!("the tag `{}` has no meaning in a pipeline", tag.original()), place)
                    .help("leave it out, or quote the text"),
            );
        }
        tag.is_yaml_core_schema_tag("str")
    }

    fn spend(&mut self, nodes: usize, text: usize, place: Place) -> Result<(), Fatal> {
        self.spent.nodes += nodes;
        self.spent.text += text;
        if self.spent.nodes <= MAX_NODES && self.spent.text <= MAX_TEXT {
            return Ok(());
        }
        let message = if self.spent.aliases > 0 {
            "the aliases of this file expand to too much"
        } else {
            "the file holds too much for a pipeline"
        };
        fatal(message, place, "a pipeline may hold 200,000 values and 32 MiB of text, repetitions by `*alias` included")
    }

    fn push(&mut self, anchor: usize, style: StructureStyle, content: Content, place: Place) -> Result<(), Fatal> {
        self.spend(1, 0, place)?;
        if self.open.len() >= MAX_DEPTH {
            return too_deep(place);
        }
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { start: place.start(), flow, anchor, height: 1, content });
        Ok(())
    }

    fn close(&mut self, end: Place) -> Result<(), Fatal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Map { mut entries, merges, .. } => {
                merge(&mut entries, merges)?;
                Value::Map(entries)
            }
        };
        let end = if open.flow { end.end() } else { end.start() };
        let place = self.place(open.start, end);
        self.attach(Node::new(value, place), open.anchor, open.height)
    }

    fn repeat(&mut self, id: usize, place: Place) -> Result<(), Fatal> {
        self.spent.aliases += 1;
        if self.spent.aliases > MAX_ALIASES {
            return fatal("too many aliases", place, "a pipeline may use 256 of them");
        }
        let Some(anchored) = self.anchors.get(&id) else {
            return fatal("this alias stands inside what it repeats", place, "a value cannot contain itself");
        };
        let (height, cost) = (anchored.height, anchored.cost);
        if self.open.len() + height > MAX_DEPTH {
            return too_deep(place);
        }
        // Charged before the copy is made.
        self.spent.nodes += cost.0;
        self.spent.text += cost.1;
        self.spend(0, 0, place)?;
        let Some(anchored) = self.anchors.get(&id) else { return Ok(()) };
        let mut node = anchored.node.clone();
        node.origin = Some(node.origin.unwrap_or(node.place));
        node.place = place;
        self.attach(node, 0, height)
    }

    /// Puts a finished node where it belongs.
    fn attach(&mut self, mut node: Node, anchor: usize, height: usize) -> Result<(), Fatal> {
        if anchor > 0 {
            let cost = node.cost();
            self.spend(cost.0, cost.1, node.place)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), height, cost });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height + 1);
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Map { entries, seen, key, merges } => match key.take() {
                None => {
                    let Value::Scalar(text, scalar) = node.value else {
                        return fatal("a key must be a name", node.place, "write `key: value`");
                    };
                    let name = if scalar == Scalar::Null && text.is_empty() { String::new() } else { text };
                    *key = Some((name, node.place));
                }
                Some((name, _)) if name == "<<" => merges.push(node),
                Some((name, at)) => {
                    if node.place.is_empty() {
                        node.place = at;
                    }
                    let first = if entries.len() < FEW {
                        entries.iter().find(|entry| entry.key == name).map(|entry| entry.place)
                    } else {
                        if seen.is_empty() {
                            seen.extend(entries.iter().map(|entry| (entry.key.clone(), entry.place)));
                        }
                        seen.insert(name.clone(), at)
                    };
                    match first {
                        None => entries.push(Entry { key: name, place: at, value: node }),
                        Some(first) => {
                            self.mistakes.push(
                                Diagnostic::new(format!("the key `{}` occurs twice", super::node::shorten(&name)), at)
                                    .label("again here")
                                    .also(first, "first here")
                                    .help("keep one of them"),
                            );
                        }
                    }
                }
            },
        }
        Ok(())
    }
}

/// Adds the entries of `<<: *defaults` that the map does not have itself.
fn merge(entries: &mut Vec<Entry>, merges: Vec<Node>) -> Result<(), Fatal> {
    if merges.is_empty() {
        return Ok(());
    }
    let mut have: std::collections::HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for node in merges {
        let place = node.place;
        let nodes = if let Value::Sequence(items) = node.value { items } else { vec![node] };
        for node in nodes {
            let Value::Map(merged) = node.value else {
                return fatal("`<<` takes a map, or a list of maps", place, "write `<<: *anchor`");
            };
            entries.extend(merged.into_iter().filter(|entry| have.insert(entry.key.clone())));
        }
    }
    Ok(())
}

fn fatal<T>(message: &str, place: Place, help: &str) -> Result<T, Fatal> {
    Err(Box::new(Diagnostic::new(message, place).help(help)))
}

fn too_deep<T>(place: Place) -> Result<T, Fatal> {
    fatal("the values nest too deep", place, "a pipeline may nest 64 deep")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        super::read(text, 0, &mut Spent::default())
    }

    fn entry<'a>(root: &'a Node, key: &str) -> &'a Entry {
        root.entry(key).unwrap()
    }

    #[test]
    fn keys_and_values_keep_the_bytes_they_were_written_in() {
        let text = "é: 1\nlist: [a, 'b c']\n";
        let (root, mistakes) = read(text);
        let root = root.unwrap();
        assert!(mistakes.is_empty());
        let Value::Sequence(items) = &entry(&root, "list").value.value else { panic!("a list") };
        assert_eq!(items[1].place.slice(text), "'b c'");
        assert_eq!(entry(&root, "list").place.slice(text), "list");
        assert_eq!(entry(&root, "é").value.place.slice(text), "1");
    }

    #[test]
    fn a_repeated_key_is_told_with_both_places() {
        let text = "a: 1\nb: 2\na: 3\n";
        let (root, mistakes) = read(text);
        assert!(root.is_some());
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].place.start(), 10);
        assert_eq!(mistakes[0].secondary[0].0.start(), 0);
    }

    #[test]
    fn aliases_and_merge_keys_repeat_what_is_anchored() {
        let (root, mistakes) = read("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nlast: *b\n");
        assert!(mistakes.is_empty());
        let root = root.unwrap();
        let other = &entry(&root, "other").value;
        assert!(matches!(entry(other, "y").value.value, Value::Scalar(_, Scalar::Integer(3))));
        assert!(matches!(entry(other, "x").value.value, Value::Scalar(_, Scalar::Integer(1))));
        assert!(entry(&root, "last").value.origin.is_some());
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_expands() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(","));
        }
        let started = std::time::Instant::now();
        let (root, mistakes) = read(&bomb);
        assert!(root.is_none());
        assert_eq!(mistakes[0].message, "the aliases of this file expand to too much");
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
    }

    #[test]
    fn nesting_by_aliases_is_bounded_like_nesting_by_brackets() {
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            let _ = writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1);
        }
        assert_eq!(read(&chain).1[0].message, "the values nest too deep");
        assert_eq!(read(&format!("{}{}", "[".repeat(80), "]".repeat(80))).1[0].message, "the values nest too deep");
    }

    #[test]
    fn a_second_document_is_refused() {
        assert_eq!(read("a: 1\n---\nb: 2\n").1[0].message, "a second YAML document starts here");
    }

    #[test]
    fn comments_alone_are_no_document() {
        let (root, mistakes) = read("# nothing\n");
        assert!(root.is_none() && mistakes.is_empty());
    }
}
