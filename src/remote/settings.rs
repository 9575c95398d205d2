//! Which remote to use, and how: from the command line, the environment or `pgan.toml` beside the pipeline or above it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use url::Url;

use super::{
    Address, RemoteError,
    address::CREDENTIALS,
    environment::{self, Form},
};
use crate::{files, stage::nearest};

/// The file of settings.
const FILE: &str = "pgan.toml";

/// What `[remote]` may hold.
const KEYS: [&str; 7] = ["url", "push", "endpoint", "region", "profile", "anonymous", "timeout"];

/// The time for which a run waits for a remote that does nothing.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Which remote to use, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// Whether a run gives its results to it.
    pub push: bool,
    /// The server of a bucket, if it is not the service's own.
    pub endpoint: Option<Url>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// The profile in `~/.aws` whose credentials are used.
    pub profile: Option<String>,
    /// Whether requests go without credentials, to a public bucket.
    pub anonymous: bool,
    /// How long a run waits for a remote that does nothing.
    pub timeout: Duration,
}

impl Settings {
    /// The settings for this address, with nothing said.
    pub fn of(address: Address) -> Self {
        Self { address, push: true, endpoint: None, region: None, profile: None, anonymous: false, timeout: TIMEOUT }
    }

    /// The settings for a pipeline: `given` is an address of the command line or the environment, which stands in the place of the `url`
    /// in `pgan.toml`. `None` if no remote is named anywhere.
    pub fn find(pipeline: &Path, given: Option<&str>) -> Result<Option<Self>, RemoteError> {
        let given = given.map(|text| Address::parse(text, Path::new(""))).transpose()?;
        let mut written = match find_file(pipeline)? {
            Some(path) => read(&path)?,
            None => Written::default(),
        };
        Ok(given.or(written.address.take()).map(|address| Self {
            push: written.push.unwrap_or(true) && address.is_writable(),
            endpoint: written.endpoint,
            region: written.region,
            profile: written.profile,
            anonymous: written.anonymous,
            timeout: written.timeout.unwrap_or(TIMEOUT),
            address,
        }))
    }
}

/// Settings as one machine hands them to another. There is no credential among them.
#[derive(Serialize, Deserialize)]
struct Handed {
    url: String,
    push: bool,
    endpoint: Option<String>,
    region: Option<String>,
    profile: Option<String>,
    anonymous: bool,
    timeout: f64,
}

impl Settings {
    /// The settings as a text for another process, which may run elsewhere.
    pub fn hand_over(&self) -> String {
        let Self { address, push, endpoint, region, profile, anonymous, timeout } = self.clone();
        let (url, endpoint) = (address.absolute().to_string(), endpoint.map(String::from));
        let handed = Handed { url, push, endpoint, region, profile, anonymous, timeout: timeout.as_secs_f64() };
        serde_json::to_string(&handed).unwrap_or_default()
    }

    /// Settings that were handed over.
    pub fn take_over(text: &str) -> Result<Self, RemoteError> {
        let unreadable = || RemoteError::address("the remote of this job cannot be read", "submit the pipeline again");
        let handed: Handed = serde_json::from_str(text).map_err(|_| unreadable())?;
        let Handed { url, push, endpoint, region, profile, anonymous, timeout } = handed;
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|_| unreadable())?;
        let endpoint = endpoint.map(|url| Url::parse(&url)).transpose().map_err(|_| unreadable())?;
        let address = Address::parse(&url, Path::new(""))?;
        Ok(Self { address, push, endpoint, region, profile, anonymous, timeout })
    }
}

/// `[remote]` as it is written.
#[derive(Default)]
struct Written {
    address: Option<Address>,
    push: Option<bool>,
    endpoint: Option<Url>,
    region: Option<String>,
    profile: Option<String>,
    anonymous: bool,
    timeout: Option<Duration>,
}

/// The nearest `pgan.toml`, in the folder of the pipeline or one above it.
fn find_file(pipeline: &Path) -> Result<Option<PathBuf>, RemoteError> {
    let folder = pipeline.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let trouble = |source| RemoteError::Io { path: folder.to_owned(), source };
    let absolute = match folder.canonicalize() {
        Ok(absolute) => absolute,
        // Whoever reads the pipeline says it better.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(trouble(error)),
    };
    Ok(absolute.ancestors().map(|folder| folder.join(FILE)).find(|path| path.is_file()))
}

fn read(path: &Path) -> Result<Written, RemoteError> {
    let unreadable = |source| RemoteError::Io { path: path.to_owned(), source };
    let text = files::read(path, files::MAX_TEXT).map_err(unreadable)?;
    let text =
        String::from_utf8(text).map_err(|_| unreadable(io::Error::other("it is not UTF-8 text; save it as UTF-8")))?;
    let reader = Reader { path, text: &text };
    let document = DeTable::parse(&text)
        .map_err(|error| reader.fault(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut written = Written::default();
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("remote", DeValue::Table(table)) => reader.remote(table, &mut written)?,
            ("remote", _) => return Err(reader.fault(key.span().start, "`remote` is a table: write [remote]")),
            (name, _) => return Err(reader.fault(key.span().start, &unknown(name, &["remote"]))),
        }
    }
    Ok(written)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    /// A mistake at this byte. The line is not repeated: it may hold a secret.
    fn fault(&self, at: usize, message: &str) -> RemoteError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RemoteError::Settings {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            message: message.to_owned(),
        }
    }

    fn remote(&self, table: &DeTable<'_>, written: &mut Written) -> Result<(), RemoteError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), value.span().start);
            let text = || match value.get_ref().as_str().filter(|text| !text.trim().is_empty()) {
                Some(text) => Ok(text.to_owned()),
                None => Err(self.fault(at, &format!("`{name}` takes a text"))),
            };
            let flag =
                || value.get_ref().as_bool().ok_or_else(|| self.fault(at, &format!("`{name}` is true or false")));
            let inner = |error: RemoteError| self.fault(at, &error.to_string());
            match name {
                "url" => written.address = Some(Address::parse(&text()?, folder).map_err(inner)?),
                "push" => written.push = Some(flag()?),
                "endpoint" => {
                    let fault = |fault| self.fault(at, &format!("`endpoint` {fault}"));
                    written.endpoint = Some(environment::server(&text()?).map_err(fault)?);
                }
                "region" => {
                    let region = Form::Name.check("`region`", &text()?);
                    written.region = Some(region.map_err(inner)?);
                }
                "profile" => written.profile = Some(text()?),
                "anonymous" => written.anonymous = flag()?,
                "timeout" => {
                    let time = seconds(value.get_ref());
                    written.timeout =
                        Some(time.ok_or_else(|| self.fault(at, "`timeout` is a number of seconds from 1 to 3600"))?);
                }
                name if is_secret(name) => {
                    let message =
                        format!("`{name}` looks like a credential, and this file may be shared; {CREDENTIALS}");
                    return Err(self.fault(key.span().start, &message));
                }
                name => return Err(self.fault(key.span().start, &unknown(name, &KEYS))),
            }
        }
        Ok(())
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let help = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is {}", known.join(", ")),
    };
    format!("`{name}` is no setting; {help}")
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "password", "passwd", "credential", "sas", "user"].iter().any(|word| name.contains(word))
}

fn seconds(value: &DeValue<'_>) -> Option<Duration> {
    let text = value.as_integer().map(|n| n.as_str().to_owned()).or(value.as_float().map(|n| n.as_str().to_owned()))?;
    let seconds: f64 = text.parse().ok()?;
    (1.0..=3600.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}
