//! Settings of the services' own, from the environment and from files. Each is checked before the client has it, for the client takes it
//! for granted and panics. What is refused is named by where it comes from, and its value is not repeated.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use url::Url;

use super::RemoteError;

/// The purpose of a setting, and so the values that it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The http(s) address of a server, which paths are appended to.
    Server,
    /// An http(s) address that is used as it stands.
    Address,
    /// A host with or without a port.
    Host,
    /// A part of a host's name: a region, an account.
    Name,
    /// A word that goes into a header or an address.
    Word,
    /// The path of an address.
    UrlPath,
    /// A text that goes nowhere as it stands: a secret that signs, a path.
    Text,
    /// A JSON object.
    Json,
    /// Yes or no.
    Flag,
}

impl Form {
    /// Checks a value and gives it as the client takes it.
    pub(super) fn check(self, setting: &str, value: &str) -> Result<String, RemoteError> {
        let unusable = |fault: String| RemoteError::Setting { setting: setting.to_owned(), fault };
        let refuse = |fault: &str| Err(unusable(fault.to_owned()));
        // A key contains line breaks by right, within JSON.
        if self != Self::Json && value.contains(char::is_control) {
            return refuse("holds a line break or another control character");
        }
        match self {
            Self::Server => server(value).map(|url| bare(&url)).map_err(unusable),
            Self::Address => address(value).map(String::from).map_err(unusable),
            Self::Host if !server(&format!("http://{value}")).is_ok_and(|url| url.path() == "/") => {
                refuse("is no host")
            }
            Self::Name if !is_name(value) => refuse("is no name: it holds letters, digits, `-`, `_` and `.`"),
            Self::Word if !value.chars().all(|c| c.is_ascii_graphic()) => {
                refuse("holds a space or a letter that is not ASCII")
            }
            Self::UrlPath if !value.starts_with('/') || !value.chars().all(|c| c.is_ascii_graphic()) => {
                refuse("is no path of an address: it begins with `/` and holds no spaces")
            }
            Self::Json if !is_object(value) => refuse("is no JSON object"),
            Self::Flag if flag(value).is_none() => refuse("is neither `true` nor `false`"),
            _ => Ok(value.to_owned()),
        }
    }
}

/// Reads an http(s) address. It holds no password: errors and logs may show it.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address of a server: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("is no address of a server: it begins with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password: credentials go into settings of their own".to_owned());
    }
    Ok(url)
}

/// Reads the address of a server.
pub(super) fn server(text: &str) -> Result<Url, String> {
    let url = address(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a part after `?` or `#`, where signatures and tokens stand".to_owned());
    }
    Ok(url)
}

/// Writes an address without a slash at its end.
pub(super) fn bare(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Says whether a text can be a part of a host's name or the name of a bucket.
pub(super) fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
    (1..=255).contains(&text.len()) && text.chars().all(is_inner)
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Some(true),
        "0" | "false" | "off" | "no" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a variable; an empty one counts as none.
pub(super) fn variable(name: &str, form: Form) -> Result<Option<String>, RemoteError> {
    env::var_os(name).and_then(|value| read(name, value, form)).transpose()
}

/// Reads the variables whose names begin with `prefix` and are settings of a client. Those without a form are not used.
pub(super) fn settings<K: FromStr + Copy>(
    prefix: &str,
    form: impl Fn(K) -> Option<Form>,
) -> Result<Vec<(K, String)>, RemoteError> {
    let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
    let mut variables: Vec<_> = env::vars_os().filter_map(named).filter(|(name, _)| name.starts_with(prefix)).collect();
    variables.sort();
    let setting = |(name, value): (String, OsString)| {
        let key: K = name.to_ascii_lowercase().parse().ok()?;
        let read = read(&name, value, form(key)?)?;
        Some(read.map(|value| (key, value)))
    };
    variables.into_iter().filter_map(setting).collect()
}

/// Variables that name a file which a client reads when it needs it.
const FILES: [&str; 7] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_FEDERATED_TOKEN_FILE",
    "SSL_CERT_FILE",
];

/// The file that Google's own tools leave in the home of a user.
const GOOGLE_DEFAULT: &str = ".config/gcloud/application_default_credentials.json";

/// Refuses files of credentials and certificates that are none: a client would wait for a pipe without end.
pub(super) fn check_files() -> Result<(), RemoteError> {
    let named = FILES.into_iter().filter_map(|name| Some((name.to_owned(), PathBuf::from(env::var_os(name)?))));
    let default = env::var_os("HOME").map(|home| Path::new(&home).join(GOOGLE_DEFAULT));
    let default = default.map(|path| (path.display().to_string(), path));
    for (setting, path) in named.chain(default) {
        let is_file = |metadata: fs::Metadata| metadata.is_file() || path == Path::new("/dev/null");
        if !fs::metadata(&path).map_or(true, is_file) {
            return Err(RemoteError::Setting { setting, fault: "is no regular file".to_owned() });
        }
    }
    Ok(())
}

fn read(name: &str, value: OsString, form: Form) -> Option<Result<String, RemoteError>> {
    if value.is_empty() {
        return None;
    }
    let no_text = |_| RemoteError::Setting { setting: name.to_owned(), fault: "is not UTF-8".to_owned() };
    Some(value.into_string().map_err(no_text).and_then(|value| form.check(name, &value)))
}
