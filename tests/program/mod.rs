//! The program in a folder of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A temporary folder to run the program in.
pub(crate) struct Folder(tempfile::TempDir);

#[allow(dead_code, reason = "each test binary uses a part of it")]
impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with what `init` writes.
    pub(crate) fn with_pipeline() -> Self {
        let folder = Self::new();
        assert!(folder.run(&["init"]).status.success());
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.path().read_dir().unwrap().next().is_none()
    }

    /// The program with these arguments, away from the settings of whoever runs the tests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_pgan-pipe")));
        let setting = |name: &std::ffi::OsString| {
            ["AWS_", "AZURE_", "GOOGLE_", "MLFLOW_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
        };
        for name in std::env::vars_os().map(|(name, _)| name).filter(setting) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("PGAN_CACHE")
            .env_remove("PGAN_WORKER")
            .env_remove("PGAN_REMOTE");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that must succeed.
    pub(crate) fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
