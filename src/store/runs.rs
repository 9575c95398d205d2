//! Run logs: what each run did, and which results it needed, so that the store knows what may go.
//!
//! A log is `runs/TIME-PROCESS-NTH.jsonl`, locked for as long as its run lives. It is a help and no part of a result: a run goes on where
//! none can be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::Value;

use super::{Store, files};
use crate::{credentials::cut_arguments, key::CacheKey};

/// Older logs go, so that runs in a loop do not fill the disk.
const KEPT: usize = 500;

/// The log of a run that is going on.
#[derive(Debug)]
pub struct RunLog {
    /// `None` where it cannot be written.
    file: Option<File>,
    /// Held until the run has said what it needs: no collection begins meanwhile.
    planning: Option<File>,
}

#[derive(Serialize)]
struct Planned<'a> {
    event: &'static str,
    needs: &'a BTreeMap<&'a str, CacheKey>,
}

/// A run as its log tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoggedRun {
    /// The name of its log, without the ending: sorts by time.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Its command line, without what was secret in its addresses.
    pub argv: Vec<String>,
    /// Whether it is still going on.
    pub alive: bool,
    /// The keys of the stages that have a result, by their names in the pipeline.
    pub stages: BTreeMap<String, CacheKey>,
    /// Those of them that it made.
    pub ran: BTreeSet<String>,
    /// The stages that failed.
    pub failed: Vec<String>,
}

impl LoggedRun {
    fn read(id: String, alive: bool, text: &str) -> Self {
        let mut run = Self { id, alive, ..Self::default() };
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            match line["event"].as_str() {
                Some("run_started") => {
                    (run.pipeline, run.started) = (word(&line["pipeline"]), word(&line["time"]));
                    run.argv = cut_arguments(line["argv"].as_array().into_iter().flatten().map(word));
                }
                Some("run_planned") => {
                    let needs = line["needs"].as_object().into_iter().flatten();
                    run.stages.extend(needs.filter_map(|(stage, key)| Some((stage.clone(), key_of(key)?))));
                }
                Some(event @ ("stage_cached" | "stage_finished")) => {
                    if event == "stage_finished" {
                        run.ran.insert(word(&line["stage"]));
                    }
                    run.stages.extend(key_of(&line["key"]).map(|key| (word(&line["stage"]), key)));
                }
                Some("stage_failed") => run.failed.push(word(&line["stage"])),
                _ => {}
            }
        }
        run
    }
}

fn key_of(value: &Value) -> Option<CacheKey> {
    value.as_str()?.parse().ok()
}

/// A run that has left a log.
#[derive(Clone, Debug)]
pub(super) struct PastRun {
    /// Its log.
    pub(super) path: PathBuf,
    /// Time since it last wrote.
    pub(super) age: Duration,
    /// Whether it is still going on.
    pub(super) alive: bool,
    /// The results that it needed or made.
    pub(super) keys: BTreeSet<CacheKey>,
}

impl Store {
    /// Begins the log of a run. The head is its first line.
    pub fn begin_run(&self, head: &impl Serialize) -> RunLog {
        let planning = self.open_lock().filter(|lock| lock.lock_shared().is_ok());
        let mut log = RunLog { file: self.create_log(), planning };
        log.write(head);
        log
    }

    fn create_log(&self) -> Option<File> {
        let folder = self.runs();
        files::ensure_folder(&folder).ok()?;
        let mut old: Vec<PathBuf> = fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path()).collect();
        old.sort_unstable();
        // That of a run that is going on stays, however many have come and gone since it began.
        for path in old.iter().rev().skip(KEPT).filter(|path| !File::open(path).is_ok_and(|file| is_alive(&file))) {
            let _ = fs::remove_file(path);
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // Runs of one process may begin at once.
        let create = |nth: u32| {
            let path = folder.join(format!("{time:013}-{}-{nth}.jsonl", std::process::id()));
            OpenOptions::new().create_new(true).append(true).open(path).ok()
        };
        let file = (0..100).find_map(create)?;
        // Without locks a run looks as if it were over; its log is young all the same.
        let _ = file.try_lock();
        Some(file)
    }

    /// The file whose lock keeps collections and the planning of runs apart; `None` where there can be none.
    pub(super) fn open_lock(&self) -> Option<File> {
        files::ensure_folder(&self.root).ok()?;
        OpenOptions::new().create(true).truncate(false).write(true).open(self.root.join("collection.lock")).ok()
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The runs that have left a log and came to at least one stage, the newest first.
    pub fn logged_runs(&self) -> Vec<LoggedRun> {
        let entries = fs::read_dir(self.runs()).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
        paths.sort_unstable_by(|one, other| other.cmp(one));
        let read = |path: PathBuf| {
            let alive = is_alive(&File::open(&path).ok()?);
            let run = LoggedRun::read(path.file_stem()?.to_str()?.to_owned(), alive, &fs::read_to_string(&path).ok()?);
            (!run.stages.is_empty() || !run.failed.is_empty()).then_some(run)
        };
        paths.into_iter().filter_map(read).collect()
    }

    /// All runs that have left a log, the oldest first.
    pub(super) fn past_runs(&self) -> Vec<PastRun> {
        let entries = fs::read_dir(self.runs()).into_iter().flatten().flatten();
        let read = |path: PathBuf| {
            let file = File::open(&path).ok()?;
            let alive = is_alive(&file);
            let modified = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
            let text = fs::read_to_string(&path).ok()?;
            Some(PastRun { path, age: modified.elapsed().unwrap_or_default(), alive, keys: keys_in(&text) })
        };
        let mut runs: Vec<PastRun> = entries.filter_map(|entry| read(entry.path())).collect();
        runs.sort_by(|a, b| a.path.cmp(&b.path));
        runs
    }
}

impl RunLog {
    /// Writes a line. On a full disk it is lost, but the file stays open: its lock tells that the run goes on.
    pub fn write(&mut self, line: &impl Serialize) {
        if let (Some(file), Ok(mut text)) = (&mut self.file, serde_json::to_vec(line)) {
            text.push(b'\n');
            let _ = file.write_all(&text);
        }
    }

    /// Writes which stored results the run needs, by the names of their stages. From here on they are safe from a collection.
    pub fn needs(&mut self, needs: &BTreeMap<&str, CacheKey>) {
        self.write(&Planned { event: "run_planned", needs });
        self.planning = None;
    }
}

/// Whether the run of this log is going on.
fn is_alive(log: &File) -> bool {
    matches!(log.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The keys in the lines of a log; a torn line has none.
fn keys_in(text: &str) -> BTreeSet<CacheKey> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .flat_map(|line| {
            let needs = match &line["needs"] {
                Value::Object(needs) => needs.values().filter_map(key_of).collect::<Vec<_>>(),
                // As earlier versions wrote them.
                Value::Array(needs) => needs.iter().filter_map(key_of).collect(),
                _ => Vec::new(),
            };
            needs.into_iter().chain(key_of(&line["key"]))
        })
        .collect()
}
