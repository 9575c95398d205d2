//! Calls of an engine's programs, which end even if the engine does not answer.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::engine::{EngineError, EngineName};

/// How long a program may take: Slurm's own give up after a minute or so.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often a program is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What a program answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether it ended with code 0.
    pub(super) succeeded: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Answer {
    /// Its complaint in a line.
    pub(super) fn complaint(&self) -> String {
        let said = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ").chars().take(500).collect() }
    }
}

/// Calls a program of an engine, with a text on its stdin.
pub(super) fn call(
    engine: EngineName,
    program: &'static str,
    command: &mut Command,
    input: &str,
) -> Result<Answer, EngineError> {
    let unusable = |error: io::Error| EngineError::Unusable { engine, program, reason: error.to_string() };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound => EngineError::Absent { engine, program },
            _ => unusable(error),
        },
    )?;
    let (out, err) = (listen(child.stdout.take()), listen(child.stderr.take()));
    let stdin = child.stdin.take();
    let input = input.to_owned();
    // One that does not read its stdin is judged by how it ends.
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let succeeded = end(&mut child, PATIENCE).map_err(unusable)?;
    let Some(succeeded) = succeeded else { return Err(EngineError::Silent { engine, program, after: PATIENCE }) };
    let text = |thread: JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Answer { succeeded, out: text(out), err: text(err) })
}

/// Waits for a process; one that takes too long is killed.
fn end(child: &mut Child, patience: Duration) -> io::Result<Option<bool>> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if since.elapsed() >= patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn listen(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before the pipe broke counts.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_heard_and_its_complaint_is_one_line() {
        let answer =
            call(EngineName::Slurm, "sh", &mut shell("cat; echo one >&2; echo two >&2; exit 3"), "in").unwrap();
        assert_eq!((answer.succeeded, &*answer.out, &*answer.complaint()), (false, "in", "one; two"));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_cannot_run() {
        let absent = call(EngineName::Slurm, "sbatch", &mut Command::new("./no-such-program"), "").unwrap_err();
        assert!(matches!(absent, EngineError::Absent { .. }), "{absent}");
        let folder = call(EngineName::Slurm, "sbatch", &mut Command::new("/"), "").unwrap_err();
        assert!(matches!(folder, EngineError::Unusable { .. }), "{folder}");
    }

    #[test]
    fn a_program_that_does_not_answer_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(end(&mut child, Duration::from_millis(20)).unwrap(), None);
    }
}
