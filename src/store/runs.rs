//! Run logs: what each run did, and which results it needed, so that the store knows what may go.
//!
//! A log is `runs/TIME-PROCESS-NTH.jsonl`, locked for as long as its run lives. It is a help and no part of a result: a run goes on where
//! none can be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    Holder, Store, files,
    holder::{self, Hold, Waiting},
};
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
    /// Begins the log of a run, after a collection that is going on, and removes what killed runs have left half written. The head is its first line; its `process` and `host` tell others whom
    /// they wait for. `None` if the run is not to wait on.
    pub fn begin_run(&self, head: &impl Serialize, waiting: &mut Waiting<'_>) -> Option<RunLog> {
        let mut planning = None;
        if let Some(mut lock) = self.open_collection_lock() {
            match holder::wait(&mut lock, Hold::Shared, &Holder::named_in, waiting) {
                Ok(true) => planning = Some(lock),
                Ok(false) => return None,
                // Without locks, a run that loses a result to a collection makes it again.
                Err(_) => {}
            }
        }
        self.remove_dead_outputs();
        let mut log = RunLog { file: self.create_log(), planning };
        log.write(head);
        Some(log)
    }

    fn create_log(&self) -> Option<File> {
        let folder = self.runs();
        self.ensure_folder(&folder).ok()?;
        // That of a run that is going on stays, however many have come and gone since it began.
        let is_over = |path: &&PathBuf| files::open(path).is_ok_and(|file| !is_alive(&file));
        for path in self.log_files().iter().rev().skip(KEPT).filter(is_over) {
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
    pub(super) fn open_collection_lock(&self) -> Option<File> {
        self.ensure_folder(&self.root).ok()?;
        files::open_lock(&self.root.join("collection.lock")).ok()
    }

    /// A run that is planning.
    pub(super) fn planning_run(&self) -> Holder {
        let mut alive = self.log_files().into_iter().rev().filter_map(|path| {
            let file = files::open(&path).ok()?;
            if is_alive(&file) { read_text(file) } else { None }
        });
        let head = |text: String| {
            let head: Value = serde_json::from_str(text.lines().next()?).ok()?;
            let planned = text.lines().any(|line| line.contains("\"run_planned\""));
            let pid = u32::try_from(head["process"].as_u64()?).ok().filter(|_| !planned)?;
            Some(Holder { pid, host: head["host"].as_str()?.to_owned() })
        };
        alive.find_map(head).unwrap_or_else(Holder::unknown)
    }

    /// The logs of all runs, the oldest first.
    fn log_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runs()).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
        paths.sort_unstable();
        paths
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The runs that have left a log and came to at least one stage, the newest first.
    pub fn logged_runs(&self) -> Vec<LoggedRun> {
        let read = |path: PathBuf| {
            let file = files::open(&path).ok()?;
            let alive = is_alive(&file);
            let run = LoggedRun::read(path.file_stem()?.to_str()?.to_owned(), alive, &read_text(file)?);
            (!run.stages.is_empty() || !run.failed.is_empty()).then_some(run)
        };
        self.log_files().into_iter().rev().filter_map(read).collect()
    }

    /// All runs that have left a log, the oldest first.
    pub(super) fn past_runs(&self) -> Vec<PastRun> {
        let read = |path: PathBuf| {
            let file = files::open(&path).ok()?;
            let alive = is_alive(&file);
            let modified = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
            let text = read_text(file)?;
            Some(PastRun { path, age: modified.elapsed().unwrap_or_default(), alive, keys: keys_in(&text) })
        };
        self.log_files().into_iter().filter_map(read).collect()
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

/// The text of a log, as much of it as any run writes.
fn read_text(log: File) -> Option<String> {
    let mut bytes = Vec::new();
    log.take(files::MAX_SMALL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
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
