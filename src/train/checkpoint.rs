//! Checkpoints: all that a training loop changes, written now and then, so that one that was cut off ends with the same bytes.
//!
//! A checkpoint's file is `LOOP-STEP-DIGEST.safetensors`. It is written beside, synced, and renamed; one whose content is not
//! that of its digest is passed over, so a torn file costs the steps since the one before it and nothing else.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burn::tensor::Device;

use super::{
    TrainError,
    archive::{Archive, ArchiveError, Contents, State},
    history::{Curves, Recorder},
};
use crate::{digest::Digest, store::files};

const EXTENSION: &str = "safetensors";
/// The newest checkpoints of a loop that are kept: the one before the last stands by.
const KEPT: usize = 2;

/// Where the checkpoints of a stage are kept.
#[derive(Debug)]
pub struct Checkpoints {
    folder: Option<PathBuf>,
    every: Duration,
    written: Instant,
    trajectory: Option<PathBuf>,
}

/// Who hears how a loop gets on.
pub trait Watcher {
    /// A step is done, with named values.
    fn step(&mut self, step: u64, values: &[(&'static str, f64)]);
    /// The loop goes on from this step, which an earlier run had come to.
    fn resumed(&mut self, step: u64);
    /// Something that the user should know.
    fn warn(&mut self, message: String);
}

/// What goes with a loop beside its maths.
pub struct Session<'a> {
    watcher: Box<dyn Watcher + 'a>,
    checkpoints: &'a mut Checkpoints,
    recorder: &'a mut Recorder,
    device: Device,
    /// The loop that is at work, and its steps.
    at_work: (&'static str, u64),
}

/// The state of a loop with its curves.
struct Recorded<'a> {
    state: &'a mut dyn State,
    curves: &'a mut Curves,
}

impl State for Recorded<'_> {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        self.state.visit(name, archive)?;
        self.curves.visit(&format!("{name}.curves"), archive)
    }
}

impl Checkpoints {
    /// Checkpoints in a folder, which is made when it is needed, written this often at most. Where `steps` says when training ends
    /// and nothing else, the `trajectory` is the folder for its last state, which trainings of other lengths share.
    pub fn at(folder: PathBuf, every: Duration, trajectory: Option<PathBuf>) -> Self {
        Self { folder: Some(folder), every, written: Instant::now(), trajectory }
    }

    /// None at all.
    pub fn none() -> Self {
        Self { folder: None, every: Duration::MAX, written: Instant::now(), trajectory: None }
    }

    /// The newest good checkpoint of a loop that is not beyond these steps, with its own step.
    fn latest(&self, name: &str, steps: u64) -> Option<(u64, PathBuf, Contents)> {
        let folders = [&self.folder, &self.trajectory].into_iter().flatten();
        let mut found: Vec<Named> = folders.flat_map(|folder| named_in(folder, name)).collect();
        found.sort_by_key(|file| std::cmp::Reverse(file.step));
        found.into_iter().filter(|file| file.step <= steps).find_map(|file| {
            let mut bytes = Vec::new();
            files::open(&file.path).ok()?.read_to_end(&mut bytes).ok()?;
            (Digest::of(&bytes) == file.digest).then_some(())?;
            Some((file.step, file.path, Contents::from_bytes(&bytes).ok()?))
        })
    }

    fn is_due(&self) -> bool {
        self.folder.is_some() && self.written.elapsed() >= self.every
    }

    fn write(folder: &Path, name: &str, step: u64, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        if [Some(folder), folder.parent()].into_iter().flatten().any(|folder| !files::is_own_folder(folder)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a link is in the place of its folder"));
        }
        // Always the same name beside: what a killed run leaves is replaced.
        let part = folder.join(format!("{name}.part"));
        let mut file = files::create(&part)?;
        file.write_all(bytes)?;
        files::sync(&file)?;
        let path = folder.join(format!("{name}-{step:012}-{}.{EXTENSION}", Digest::of(bytes)));
        fs::rename(&part, &path)?;
        files::sync_folder(folder)?;
        for old in named_in(folder, name).into_iter().skip(KEPT) {
            // Another run of the same stage may have taken it away.
            let _ = fs::remove_file(old.path);
        }
        Ok(())
    }
}

/// A checkpoint by its name.
struct Named {
    step: u64,
    digest: Digest,
    path: PathBuf,
}

/// The checkpoints of a loop, the newest first.
fn named_in(folder: &Path, name: &str) -> Vec<Named> {
    let named = |path: PathBuf| {
        let stem = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let (step, digest) = stem.strip_prefix(name)?.strip_prefix('-')?.split_once('-')?;
        Some(Named { step: step.parse().ok()?, digest: digest.parse().ok()?, path })
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<Named> = entries.filter_map(|entry| named(entry.path())).collect();
    found.sort_by_key(|file| std::cmp::Reverse(file.step));
    found
}

impl<'a> Session<'a> {
    /// For the loops of a stage, one after the other.
    pub fn new(
        watcher: impl Watcher + 'a,
        checkpoints: &'a mut Checkpoints,
        recorder: &'a mut Recorder,
        device: &Device,
    ) -> Self {
        Self { watcher: Box::new(watcher), checkpoints, recorder, device: device.clone(), at_work: ("", 0) }
    }

    /// Begins a loop of these steps: puts its state back to its newest checkpoint, and returns the step that this is after, 0 if there is
    /// none.
    pub(super) fn resume(&mut self, name: &'static str, steps: u64, state: &mut dyn State) -> Result<u64, TrainError> {
        self.at_work = (name, steps);
        let curves = self.recorder.of(name);
        let Some((step, path, contents)) = self.checkpoints.latest(name, steps) else { return Ok(0) };
        contents.restore(&mut Recorded { state, curves: &mut *curves }, &self.device).map_err(|source| {
            TrainError::Unusable(format!(
                "the checkpoint {} is not of this training: {source}; take it away, or run with `--force`, to start anew",
                path.display()
            ))
        })?;
        curves.resume(steps);
        self.watcher.resumed(step);
        Ok(step)
    }

    /// Writes a checkpoint of a loop that has done these steps, if it is time.
    pub(super) fn keep(&mut self, name: &'static str, step: u64, state: &mut dyn State) {
        if step > 0 && self.checkpoints.is_due() {
            // Also if writing fails: a full disk is not asked at every step.
            self.checkpoints.written = Instant::now();
            self.write(self.checkpoints.folder.clone(), name, step, state);
        }
    }

    /// Writes the last checkpoint of a loop that others follow in the same stage: they go on from here.
    pub(super) fn hand_on(&mut self, name: &'static str, steps: u64, state: &mut dyn State) {
        self.write(self.checkpoints.folder.clone(), name, steps, state);
    }

    /// Leaves the last state of a loop for one of more steps, if that may go on from it.
    pub(super) fn finish(&mut self, name: &'static str, steps: u64, state: &mut dyn State) {
        self.write(self.checkpoints.trajectory.clone(), name, steps, state);
    }

    fn write(&mut self, folder: Option<PathBuf>, name: &'static str, step: u64, state: &mut dyn State) {
        let Some(folder) = folder else { return };
        let mut recorded = Recorded { state, curves: self.recorder.of(name) };
        let bytes =
            Contents::of(&mut recorded).and_then(|contents| contents.to_bytes()).map_err(|error| error.to_string());
        let written =
            bytes.and_then(|bytes| Checkpoints::write(&folder, name, step, &bytes).map_err(|error| error.to_string()));
        if let Err(error) = written {
            self.watcher.warn(format!("no checkpoint at step {step}, so an interruption would cost more: {error}"));
        }
    }

    /// Reports a step, and takes it down.
    pub(super) fn report(&mut self, step: u64, values: &[(&'static str, f64)]) {
        let (name, steps) = self.at_work;
        self.recorder.of(name).record(step, steps, values);
        self.watcher.step(step, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(std::rc::Rc<std::cell::RefCell<Vec<String>>>);

    impl Watcher for Heard {
        fn step(&mut self, _: u64, _: &[(&'static str, f64)]) {}

        fn resumed(&mut self, step: u64) {
            self.0.borrow_mut().push(format!("resumed at {step}"));
        }

        fn warn(&mut self, message: String) {
            self.0.borrow_mut().push(message);
        }
    }

    fn session<R>(folder: &Path, act: impl FnOnce(&mut Session<'_>) -> R) -> (R, Vec<String>) {
        let heard = Heard::default();
        let said = heard.0.clone();
        let mut checkpoints = Checkpoints::at(folder.to_owned(), Duration::ZERO, None);
        let result = act(&mut Session::new(heard, &mut checkpoints, &mut Recorder::default(), &Device::flex()));
        let said = said.borrow().clone();
        (result, said)
    }

    fn resumed(folder: &Path) -> (u64, f64) {
        let mut state = 0.0;
        let step = session(folder, |session| session.resume("a", 9, &mut state)).0.unwrap();
        (step, state)
    }

    #[test]
    fn the_newest_good_one_is_taken_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(resumed(&folder.path().join("none")), (0, 0.0));
        session(folder.path(), |session| {
            for step in 1..=5_u16 {
                session.keep("a", u64::from(step), &mut f64::from(step));
            }
            session.keep("ab", 9, &mut 9.0);
        });
        let found = named_in(folder.path(), "a");
        assert_eq!(found.iter().map(|file| file.step).collect::<Vec<_>>(), [5, 4]);
        assert_eq!(resumed(folder.path()), (5, 5.0));
        // Torn by a power cut, then gone.
        let bytes = fs::read(&found[0].path).unwrap();
        fs::write(&found[0].path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(resumed(folder.path()), (4, 4.0));
        fs::write(&found[1].path, []).unwrap();
        assert_eq!(resumed(folder.path()), (0, 0.0));
    }

    #[test]
    fn every_single_byte_that_is_wrong_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        session(folder.path(), |session| session.keep("a", 3, &mut 0.5));
        let path = named_in(folder.path(), "a").remove(0).path;
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            fs::write(&path, &wrong).unwrap();
            assert_eq!(resumed(folder.path()), (0, 0.0), "byte {at}");
        }
    }

    #[test]
    fn one_of_another_training_is_an_error_and_one_that_cannot_be_written_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        session(folder.path(), |session| session.keep("a", 3, &mut 0.5));
        let error = session(folder.path(), |session| session.resume("a", 9, &mut vec![0.0_f32])).0.unwrap_err();
        assert!(error.to_string().contains("is not of this training: its `` does not fit"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, []).unwrap();
        let said = session(&file.join("below"), |session| session.keep("a", 3, &mut 0.5)).1;
        assert!(said[0].starts_with("no checkpoint at step 3"), "{said:?}");
    }
}
