//! `include:`: the files of a pipeline, read into one tree.
//!
//! What a file includes stands before what is its own. Its own `seed`, `replicas` and `params` win over included ones; two files
//! that it includes may not contradict each other in them, and no two files may define the same stage. The name of a pipeline
//! is that of the file that includes. A file that is reached in two ways is read once; one may lie in a pack ([`packed`]).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use super::{
    MAX_BYTES,
    diagnostics::{Diagnostic, Place, Text},
    draft::not_a_map,
    node::{Entry, Node, Scalar, Value, shorten},
    packed::{self, Packs},
    yaml,
};
use crate::files;

/// How deep files may include each other.
const MAX_DEPTH: usize = 16;
/// Files that a pipeline may be made of.
const MAX_FILES: u16 = 256;

/// Where included files are read from.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// The file system.
    Disk,
    /// These bytes by path, without `.` and `..`.
    Memory(&'a BTreeMap<PathBuf, Vec<u8>>),
}

impl Files<'_> {
    fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::Disk => {
                let mut bytes = Vec::new();
                files::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Self::Memory(files) => files.get(&plain(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }

    /// The same for all ways that lead to a file.
    fn identity(self, path: &Path) -> PathBuf {
        match self {
            Self::Disk => {
                packed::identity(path).or_else(|| fs::canonicalize(path).ok()).unwrap_or_else(|| path.to_owned())
            }
            Self::Memory(_) => plain(path),
        }
    }
}

/// The path without `.` and `..`.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            _ => plain.push(component),
        }
    }
    plain
}

/// Reads a pipeline file with all that it includes; `None`, with a mistake, if one of them gives no tree: what it would have
/// brought in is not told to be missing as well.
pub(super) fn read(
    bytes: &[u8],
    path: &Path,
    files: Files<'_>,
    mistakes: &mut Vec<Diagnostic>,
) -> (Option<Node>, Vec<Text>, Packs) {
    let root = Text { path: path.to_owned(), text: "".into() };
    let mut reader = Reader {
        files,
        texts: vec![root],
        packs: Packs::default(),
        bytes: 0,
        spent: yaml::Spent::default(),
        open: vec![(files.identity(path), path.to_owned())],
        known: HashSet::from([files.identity(path)]),
        incomplete: false,
        mistakes,
    };
    let tree = reader.tree(bytes, 0, "the file", Place::Whole);
    (tree.filter(|_| !reader.incomplete), reader.texts, reader.packs)
}

struct Reader<'a> {
    files: Files<'a>,
    texts: Vec<Text>,
    packs: Packs,
    /// Those of all texts.
    bytes: u64,
    spent: yaml::Spent,
    /// The files that include the one that is read, and this one: as they are known, and as they are called.
    open: Vec<(PathBuf, PathBuf)>,
    known: HashSet<PathBuf>,
    incomplete: bool,
    mistakes: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The tree of the text of this index, with what it includes. What is wrong with the text as a whole is told at `from`.
    fn tree(&mut self, bytes: &[u8], index: u16, subject: &str, from: Place) -> Option<Node> {
        self.bytes += bytes.len() as u64;
        if bytes.len() as u64 > MAX_BYTES {
            return self.refuse(format!("{subject} is larger than 16 MiB"), from, "a pipeline holds stages, not data");
        }
        if self.bytes > MAX_BYTES {
            let message = format!("with {subject} the pipeline is larger than 16 MiB");
            return self.refuse(message, from, "a pipeline holds stages, not data");
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
                let message = format!("{subject} is not UTF-8 text: line {line} holds other bytes");
                return self.refuse(message, from, "save it as UTF-8");
            }
        };
        self.texts[usize::from(index)].text = text.into();
        let (tree, found) = yaml::read(text, index, &mut self.spent);
        let nothing = tree.is_none() && found.is_empty();
        self.mistakes.extend(found);
        if nothing {
            let help = if index == 0 {
                "`pgan-pipe init` writes a pipeline to start from"
            } else {
                "write `params:` or `stages:` into it"
            };
            return self.refuse(format!("{subject} is empty"), from, help);
        }
        self.incomplete |= tree.is_none();
        let mut tree = tree?;
        if let Value::Map(entries) = &mut tree.value {
            let include = entries.iter().position(|entry| entry.key == "include").map(|at| entries.remove(at));
            let included: Vec<Node> = match include {
                Some(include) => self
                    .names(&include)
                    .into_iter()
                    .filter_map(|(name, place)| self.included(&name, index, place))
                    .collect(),
                None => Vec::new(),
            };
            if !included.is_empty() {
                *entries = merge(std::mem::take(entries), included, self.mistakes);
            }
        } else if index > 0 {
            let message = format!("an included file is a map with `params:` or `stages:`, not {}", tree.in_words());
            return self.refuse(message, tree.place, "give its entries names");
        }
        Some(tree)
    }

    fn refuse(&mut self, message: String, place: Place, help: &str) -> Option<Node> {
        self.incomplete = true;
        self.mistakes.push(Diagnostic::new(message, place).help(help));
        None
    }

    /// The files that `include:` names, and where.
    fn names(&mut self, include: &Entry) -> Vec<(String, Place)> {
        let one = std::slice::from_ref(&include.value);
        let nodes = if let Value::Sequence(items) = &include.value.value { items } else { one };
        let mut names = Vec::new();
        for node in nodes {
            let help = "write `include: other.yaml`, or a list of files";
            match &node.value {
                Value::Scalar(text, _) if text.contains("${") => {
                    let message =
                        "a parameter cannot stand in `include`: files are included before parameters are known";
                    self.refuse(message.into(), node.place, "write the file's name");
                }
                Value::Scalar(text, Scalar::Text) if !text.is_empty() => names.push((text.clone(), node.place)),
                _ => {
                    let message = format!("`include` takes the names of files, not {}", node.in_words());
                    self.refuse(message, node.place, help);
                }
            }
        }
        names
    }

    /// The tree of a file that the text of this index includes; `None` if it is part of the pipeline already.
    fn included(&mut self, name: &str, by: u16, place: Place) -> Option<Node> {
        let folder = self.texts[usize::from(by)].path.parent().unwrap_or(Path::new(""));
        let path: PathBuf = folder.join(name).components().filter(|part| *part != Component::CurDir).collect();
        let by = self.texts[usize::from(by)].path.clone();
        if let Some(pack) = self.packs.of(&by).filter(|pack| !path.starts_with(pack)) {
            let message = format!("a file of the pack {} includes one that is not in it", pack.display());
            return self.refuse(message, place, "`pgan-pipe unpack` the pack, and include what it was made of");
        }
        let identity = self.files.identity(&path);
        if let Some(first) = self.open.iter().position(|(open, _)| *open == identity) {
            let names = self.open[first..].iter().map(|(_, called)| called).chain([&path]);
            let cycle = names.map(|called| shorten(&called.to_string_lossy())).collect::<Vec<_>>().join(" → ");
            return self.refuse(
                format!("the files include each other: {cycle}"),
                place,
                "take one of these `include`s out",
            );
        }
        if !self.known.insert(identity.clone()) {
            return None;
        }
        let shown = shorten(name);
        let index = u16::try_from(self.texts.len()).unwrap_or(MAX_FILES);
        if self.open.len() >= MAX_DEPTH || index >= MAX_FILES {
            let message = format!("`{shown}` is one file too many");
            let help =
                format!("files may include each other {MAX_DEPTH} deep, and a pipeline may be made of {MAX_FILES}");
            return self.refuse(message, place, &help);
        }
        let packed = matches!(self.files, Files::Disk).then(|| self.packs.read(&path)).flatten();
        let bytes = match packed.unwrap_or_else(|| self.files.read(&path)) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read the included file {}: {error}", shorten(&path.to_string_lossy()));
                return self.refuse(message, place, "a path is relative to the file that it is written in");
            }
        };
        self.texts.push(Text { path: path.clone(), text: "".into() });
        self.open.push((identity, path));
        let tree = self.tree(&bytes, index, &format!("the included file `{shown}`"), place);
        self.open.pop();
        tree
    }
}

/// The top of a file with the tops of what it includes.
fn merge(own: Vec<Entry>, included: Vec<Node>, mistakes: &mut Vec<Diagnostic>) -> Vec<Entry> {
    let own = Top::of(own, mistakes);
    let names = |entries: &[Entry]| entries.iter().map(|entry| entry.key.clone()).collect::<HashSet<String>>();
    let (settings, params) = (names(&own.settings), names(&own.params));
    let mut all = Top::default();
    for node in included {
        let Value::Map(entries) = node.value else { continue };
        let mut top = Top::of(entries, mistakes);
        top.settings.retain(|entry| entry.key != "name" && !settings.contains(&entry.key));
        top.params.retain(|entry| !params.contains(&entry.key));
        top.below(&mut all, mistakes);
    }
    own.below(&mut all, mistakes);
    all.into_entries()
}

/// What stands at the top of files.
#[derive(Default)]
struct Top {
    /// The keys of the sections, for their places.
    sections: Vec<Entry>,
    params: Vec<Entry>,
    stages: Vec<Entry>,
    /// `seed`, `replicas`, and what does not belong here.
    settings: Vec<Entry>,
}

impl Top {
    fn of(entries: Vec<Entry>, mistakes: &mut Vec<Diagnostic>) -> Self {
        let mut top = Self::default();
        for mut entry in entries {
            let section = match &*entry.key {
                "params" => &mut top.params,
                "stages" => &mut top.stages,
                _ => {
                    top.settings.push(entry);
                    continue;
                }
            };
            mistakes.extend(not_a_map(&entry));
            if let Value::Map(entries) = std::mem::replace(&mut entry.value.value, Value::Map(Vec::new())) {
                *section = entries;
            }
            top.sections.push(entry);
        }
        top
    }

    /// Puts it below what is there, and notes what contradicts it.
    fn below(self, all: &mut Self, mistakes: &mut Vec<Diagnostic>) {
        let same = |one: &Entry, other: &Entry| match (&one.value.value, &other.value.value) {
            (Value::Scalar(one, _), Value::Scalar(other, _)) => one == other,
            _ => false,
        };
        let mut contradiction = |entry: &Entry, first: &Entry| {
            if !same(entry, first) {
                let message = format!("two included files give `{}`", shorten(&entry.key));
                mistakes.push(
                    Diagnostic::new(message, entry.place)
                        .label("again here")
                        .also(first.place, "first here")
                        .help("give it in the file that includes both: its own value holds"),
                );
            }
        };
        for (added, there) in [(self.settings, &mut all.settings), (self.params, &mut all.params)] {
            let known: HashMap<String, usize> =
                there.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at)).collect();
            for entry in added {
                match known.get(&entry.key) {
                    Some(&at) => contradiction(&entry, &there[at]),
                    None => there.push(entry),
                }
            }
        }
        let known: HashMap<String, Place> = all.stages.iter().map(|entry| (entry.key.clone(), entry.place)).collect();
        for entry in self.stages {
            match known.get(&entry.key) {
                Some(&first) => mistakes.push(
                    Diagnostic::new(format!("the stage `{}` is defined twice", shorten(&entry.key)), entry.place)
                        .label("again here")
                        .also(first, "first here")
                        .help("rename one of them; `--set STAGE.FIELD=VALUE` changes a field of an included stage"),
                ),
                None => all.stages.push(entry),
            }
        }
        for section in self.sections {
            if all.sections.iter().all(|other| other.key != section.key) {
                all.sections.push(section);
            }
        }
    }

    fn into_entries(self) -> Vec<Entry> {
        let Self { sections, mut params, mut stages, settings } = self;
        let whole = sections.into_iter().map(|mut section| {
            let entries = if section.key == "params" { &mut params } else { &mut stages };
            section.value.value = Value::Map(std::mem::take(entries));
            section
        });
        settings.into_iter().chain(whole).collect()
    }
}

#[cfg(test)]
mod tests;
