//! What can go wrong with a remote: where, what, and what to do.

use std::{error::Error, io, path::PathBuf, time::Duration};

use object_store::path::Path;

use super::{Address, address::Place};
use crate::{credentials::cut_text, digest::Digest, key::CacheKey, store::StoreError};

/// Why a remote could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No address of a remote.
    #[error("{message}; {help}")]
    Address {
        /// What is wrong with it; without what may be secret.
        message: String,
        /// What to do.
        help: &'static str,
    },
    /// A settings file that cannot be understood.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A setting that no client can use.
    #[error("{setting} {fault}; mend it or unset it")]
    Setting {
        /// Its source: a variable of the environment, a field of a file.
        setting: String,
        /// The fault, without the value.
        fault: String,
    },
    /// A file of settings or credentials cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Results cannot be given to it.
    #[error(
        "{address} is read-only: results are given to a folder or a bucket, whose files a web server may then show"
    )]
    ReadOnly {
        /// The remote.
        address: Address,
    },
    /// It can be read, and takes nothing.
    #[error(
        "cannot write to {what}: {reason}; ask its owner for the permission, or only take results from it: write `push = false` under \
         [remote] in pgan.toml"
    )]
    Closed {
        /// The place that was to be written.
        what: String,
        /// The words of the system or the service.
        reason: String,
    },
    /// It does not answer, or refuses.
    #[error("cannot {action} {what}: {reason}{advice}")]
    Trouble {
        /// What was being done.
        action: &'static str,
        /// To what.
        what: String,
        /// What the remote or the network said, shortened.
        reason: String,
        /// What to do, after a semicolon; may be empty.
        advice: &'static str,
        /// Whether it may go better another time.
        passing: bool,
    },
    /// One file of a folder cannot be read.
    #[error(
        "cannot read {what}: {reason}; ask its owner to let you read it, or to mend it by `pgan-pipe cache push FILE --overwrite`"
    )]
    Unreadable {
        /// The file.
        what: String,
        /// The system's reason.
        reason: String,
    },
    /// There is no such thing.
    #[error("{what} is not there")]
    Absent {
        /// What was looked for.
        what: String,
    },
    /// Something is there already that was to be made.
    #[error("{what} is there already")]
    Exists {
        /// What was to be made.
        what: String,
    },
    /// An object came that is not what its name says.
    #[error("the remote's object {} is {fault}; nothing of it is kept{advice}", path)]
    Spoiled {
        /// Where it lies.
        path: String,
        /// What its content should be.
        digest: Digest,
        /// Its fault.
        fault: String,
        /// What to do, after a semicolon.
        advice: &'static str,
    },
    /// What lies in the place of a record is none, or lists what cannot be.
    #[error("the remote's record {path} {fault}; it is not taken{advice}")]
    BadRecord {
        /// Where it lies.
        path: String,
        /// Its key.
        key: CacheKey,
        /// Its fault.
        fault: String,
        /// What to do, after a semicolon.
        advice: &'static str,
    },
    /// A file of the local store is not as it was stored; if it was corrupted it has been set aside.
    #[error("`{file}` of `{stage}` is {fault} in the cache and cannot be sent; run again to make it anew")]
    CorruptedHere {
        /// The file's name in the artifact.
        file: String,
        /// The stage.
        stage: String,
        /// `corrupted` or `missing`.
        fault: &'static str,
    },
    /// The local store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No threads for transfers.
    #[error("cannot start transfers: {source}")]
    Runtime {
        /// The system's reason.
        source: io::Error,
    },
    /// A signal stopped it.
    #[error("stopped by signal {0}; what has been moved is kept, the same command goes on from there")]
    Stopped(usize),
}

/// What to do where a machine has no role of its own.
pub(super) const NO_KEYS: &str = "; no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for one of \
    ~/.aws/credentials, or `anonymous = true` in pgan.toml for a public bucket";

/// The advice for a folder that keeps its files to itself.
pub(super) const UNREADABLE: &str =
    "; ask its owner to let you read it (`chmod -R a+rX` or, for a group, `chgrp -R` and `chmod -R g+rX`)";

/// What to do about spoiled things.
pub(super) const MEND: &str = "; whoever has the result mends it by `pgan-pipe cache push FILE --overwrite`";

impl RemoteError {
    pub(super) fn address(message: impl Into<String>, help: &'static str) -> Self {
        Self::Address { message: message.into(), help }
    }

    /// What a library says, in our words: it may repeat requests with what is in them.
    pub(super) fn of(address: &Address, action: &'static str, path: &Path, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let what = describe(address, path);
        let (reason, advice, passing) = match error {
            E::NotFound { .. } => return Self::Absent { what },
            E::AlreadyExists { .. } | E::Precondition { .. } => return Self::Exists { what },
            // In a folder each file has an owner and a disk of its own: another can be read all the same.
            error if action == "read" && is_file_in_folder(address, path) => {
                return Self::Unreadable { what, reason: root_cause(error) };
            }
            E::PermissionDenied { .. } if action == "write" => {
                return Self::Closed { what, reason: "the credentials do not allow it".to_owned() };
            }
            E::PermissionDenied { .. } => {
                ("permission denied".to_owned(), "; check the credentials, and what they may do there", false)
            }
            E::Unauthenticated { .. } => {
                ("the credentials are not accepted".to_owned(), "; check the credentials", false)
            }
            error => {
                let reason = root_cause(error);
                let passing = !is_final(&reason);
                (reason, advice(address, error), passing)
            }
        };
        Self::Trouble { action, what, reason, advice, passing }
    }

    /// An error of the client that should not be: it panicked at this place.
    pub(super) fn broken(address: &Address, place: &str) -> Self {
        Self::Trouble {
            action: "use",
            what: address.to_string(),
            reason: format!("its client broke down in {place}"),
            advice: "; check [remote] in pgan.toml and the service's variables in the environment: if they are right, this is a defect of \
                     pgan-pipe",
            passing: false,
        }
    }

    /// An error of the store in a folder, in writing there.
    pub(super) fn in_folder(error: StoreError) -> Self {
        let StoreError::Io { action, path, source } = error else { return error.into() };
        let (what, reason) = (path.display().to_string(), source.to_string());
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Closed { what, reason },
            _ => Self::Trouble { action, what, reason, advice: "", passing: true },
        }
    }

    pub(super) fn silent(address: &Address, action: &'static str, path: &Path, time: Duration) -> Self {
        Self::Trouble {
            action,
            what: describe(address, path),
            reason: format!("no answer for {} s", time.as_secs_f64()),
            advice: "",
            passing: true,
        }
    }

    pub(super) fn cut(address: &Address, path: &Path) -> Self {
        Self::Trouble {
            action: "read",
            what: describe(address, path),
            reason: "it was cut off".to_owned(),
            advice: "",
            passing: true,
        }
    }

    /// Whether a server answered a question for a part with the whole.
    pub(super) fn gives_no_parts(&self) -> bool {
        // The library has no type for it.
        matches!(self, Self::Trouble { reason, .. } if reason.contains("non-partial response"))
    }

    /// Whether it may go better another time.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Trouble { passing: true, .. })
    }

    /// Whether it is a bad record of this key.
    pub fn is_of(&self, wanted: CacheKey) -> bool {
        matches!(self, Self::BadRecord { key, .. } if *key == wanted)
    }

    /// Whether it is the remote as a whole that is of no use, and not one result.
    pub(crate) fn is_of_remote(&self) -> bool {
        !self.is_corruption() && !matches!(self, Self::Absent { .. } | Self::Unreadable { .. } | Self::Store(_))
    }

    /// Whether something is not as it was stored, there or here.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Spoiled { .. } | Self::BadRecord { .. } | Self::CorruptedHere { .. })
    }
}

/// Says whether something of this name can be seen in a remote that is a folder.
fn is_file_in_folder(address: &Address, path: &Path) -> bool {
    matches!(address.place(), Place::Folder(folder) if folder.join(path.as_ref()).symlink_metadata().is_ok())
}

fn describe(address: &Address, path: &Path) -> String {
    match address.place() {
        Place::Folder(folder) => folder.join(path.as_ref()).display().to_string(),
        Place::S3(url) | Place::Gcs(url) | Place::Azure(url) | Place::Http(url) => {
            let whole = url.as_str();
            let host = whole.strip_suffix(url.path()).unwrap_or(whole);
            format!("{host}/{path}")
        }
    }
}

fn advice(address: &Address, error: &object_store::Error) -> &'static str {
    let text = error.to_string();
    if ["169.254.", "/latest/api/token", "metadata.google"].iter().any(|part| text.contains(part)) {
        return match address.place() {
            Place::S3(_) => NO_KEYS,
            Place::Gcs(_) => "; no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS to a key file",
            _ => "; no credentials were found: set AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID or the like",
        };
    }
    if matches!(address.place(), Place::Folder(_)) {
        return if text.contains("Permission denied") { UNREADABLE } else { "" };
    }
    if text.contains("without LOCATION") { "; is `region` right?" } else { "" }
}

/// Whether a server refused a request for good: the same one will not be taken another time.
fn is_final(reason: &str) -> bool {
    let status = reason.split_once("status code: ").map(|(_, status)| status);
    status.is_some_and(|status| status.starts_with('4') && !status.starts_with("408") && !status.starts_with("429"))
}

/// The innermost cause on one line, without anything that a terminal would act on.
fn root_cause(error: &object_store::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    line(&cause.to_string())
}

/// A text of others on one line of bounded length, printable.
pub(super) fn line(text: &str) -> String {
    const MOST: usize = 200;
    let plain: String = cut_text(text).chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ")
}
