//! Where a remote is. An address never holds a credential: one that does is refused, and not repeated.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use object_store::path::Path as ObjectPath;
use url::Url;

use super::{RemoteError, environment::is_name};
use crate::credentials;

/// Where a remote is: a folder, a bucket or a web address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    S3(Url),
    Gcs(Url),
    Azure(Url),
    Http(Url),
}

impl Address {
    /// Reads an address: a URL, or a path that is taken from `folder` if it is relative. What looks like an address is no path.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, RemoteError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RemoteError::address("a remote needs an address", SCHEMES));
        }
        if !credentials::is_address(text) {
            return Ok(Self { place: Place::Folder(folder.join(text)) });
        }
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        let (scheme, is_url) = (scheme.to_ascii_lowercase(), rest.starts_with("//"));
        let kind = match scheme.as_str() {
            "file" if rest.starts_with('/') => return Self::of_file(text),
            "s3" | "s3a" => Place::S3,
            "gs" => Place::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Place::Azure,
            "http" | "https" => Place::Http,
            // What stands there may be a user name, if a password follows.
            _ if is_url && !rest.contains('@') => {
                let shown: String = scheme.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
                return Err(RemoteError::address(format!("`{shown}://` is no kind of remote"), SCHEMES));
            }
            _ => return Err(RemoteError::address("this looks like an address and is none", FOLDERS)),
        };
        if !is_url {
            return Err(RemoteError::address(format!("an address of this kind begins with `{scheme}://`"), FOLDERS));
        }
        let url = Url::parse(text).map_err(|error| {
            RemoteError::address(format!("this `{scheme}://` address cannot be read: {error}"), SCHEMES)
        })?;
        let place = kind(url.clone());
        // Azure writes `abfs://container@account.host/path`: no secret, unless a password follows.
        let named = !url.username().is_empty() && !matches!(place, Place::Azure(_));
        if named || url.password().is_some() {
            return Err(RemoteError::address(
                format!("this `{scheme}://` address holds a user name or password"),
                CREDENTIALS,
            ));
        }
        if has_signature(&url) {
            return Err(RemoteError::address(
                format!("this `{scheme}://` address has a part after `?` or `#`, where signatures and tokens stand"),
                CREDENTIALS,
            ));
        }
        let host = url.host_str().unwrap_or_default();
        let is_bucket = !matches!(place, Place::Http(_));
        if host.is_empty() {
            let what = if is_bucket { "bucket" } else { "host" };
            return Err(RemoteError::address(format!("`{scheme}:{rest}` names no {what}"), SCHEMES));
        }
        if is_bucket && ![url.username(), host].iter().all(|name| name.is_empty() || is_name(name)) {
            let message =
                format!("this `{scheme}://` address names no bucket: a name holds letters, digits, `-`, `_` and `.`");
            return Err(RemoteError::address(message, SCHEMES));
        }
        if is_bucket && url.port().is_some() {
            let help = "name the server of a bucket by `endpoint` under [remote] in pgan.toml";
            return Err(RemoteError::address(format!("this `{scheme}://` address holds a port"), help));
        }
        Ok(Self { place })
    }

    fn of_file(text: &str) -> Result<Self, RemoteError> {
        let url = Url::parse(text).ok().filter(|url| !has_signature(url));
        let folder = url.and_then(|url| url.to_file_path().ok());
        let folder = folder.ok_or_else(|| RemoteError::address("this `file://` URL names no folder here", SCHEMES))?;
        Ok(Self { place: Place::Folder(folder) })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The same, wherever it is read: a folder by its absolute path.
    #[must_use]
    pub fn absolute(&self) -> Self {
        match &self.place {
            Place::Folder(folder) => {
                Self { place: Place::Folder(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())) }
            }
            _ => self.clone(),
        }
    }

    /// Whether results can be given to it.
    pub fn is_writable(&self) -> bool {
        !matches!(self.place, Place::Http(_))
    }

    /// Where its `v1` lies.
    pub(super) fn root(&self) -> Result<ObjectPath, RemoteError> {
        let prefix = match &self.place {
            Place::Folder(_) => Ok(ObjectPath::default()),
            Place::S3(url) | Place::Gcs(url) | Place::Azure(url) | Place::Http(url) => {
                ObjectPath::from_url_path(url.path())
            }
        };
        let prefix = prefix.map_err(|error| RemoteError::address(format!("{self}: {error}"), SCHEMES))?;
        Ok(prefix.join("v1"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Folder(folder) => folder.display().fmt(f),
            Place::S3(url) | Place::Gcs(url) | Place::Azure(url) | Place::Http(url) => {
                f.write_str(url.as_str().trim_end_matches('/'))
            }
        }
    }
}

fn has_signature(url: &Url) -> bool {
    url.query().is_some() || url.fragment().is_some()
}

const SCHEMES: &str =
    "write a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or http(s)://HOST/PATH";

const FOLDERS: &str = "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or http(s)://HOST/PATH; a folder of such a name \
    is written with `./` before it";

pub(super) const CREDENTIALS: &str = "leave it out: credentials are taken from the environment (AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY, …) or from ~/.aws, and stand in no file, \
    record or log of ours";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, RemoteError> {
        Address::parse(text, Path::new("/study"))
    }

    #[test]
    fn folders_buckets_and_web_addresses_are_told_apart() {
        for (text, shown, root) in [
            ("shared/cache", "/study/shared/cache", "v1"),
            ("/mnt/cache", "/mnt/cache", "v1"),
            ("file:///mnt/cache", "/mnt/cache", "v1"),
            ("s3://bucket/a/b/", "s3://bucket/a/b", "a/b/v1"),
            ("s3://bucket", "s3://bucket", "v1"),
            ("gs://bucket/a", "gs://bucket/a", "a/v1"),
            (
                "abfs://container@account.dfs.core.windows.net/a",
                "abfs://container@account.dfs.core.windows.net/a",
                "a/v1",
            ),
            ("https://host:8080/cache", "https://host:8080/cache", "cache/v1"),
            ("HTTPS://host/cache", "https://host/cache", "cache/v1"),
            ("file:/mnt/cache", "/mnt/cache", "v1"),
            ("./https:/user:hush@host", "/study/./https:/user:hush@host", "v1"),
            ("C:/cache", "/study/C:/cache", "v1"),
        ] {
            let address = parse(text).unwrap();
            assert_eq!((address.to_string(), address.root().unwrap().to_string()), (shown.to_owned(), root.to_owned()));
        }
        assert!(!parse("https://host/cache").unwrap().is_writable());
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hush@bucket/a",
            "s3://hush@bucket",
            "https://user:hush@host/a",
            "abfs://container:hush@account/a",
            "https://host/a?sig=hush",
            "https://host/a#hush",
            "hush-secret://host",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("hush@") && !error.contains("=hush") && !error.contains(":hush"), "{error}");
        }
        assert!(parse("s3://bucket:9000/a").unwrap_err().to_string().contains("`endpoint` under [remote]"));
        assert!(parse("s3://AKIA:hush@bucket/a").unwrap_err().to_string().contains("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn what_looks_like_an_address_is_never_a_folder() {
        for text in [
            "https:/user:hush@host/x",
            "https:user:hush@host/x",
            r"https:\\user:hush@host\x",
            "user:hush@host/x",
            "us_er:hush@host/x",
            "//user:hush@host/x",
            "s3:bucket",
            "host:/cache",
            "file:cache",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("a folder of such a name is written with `./`"), "{text}: {error}");
            assert!(!error.contains("hush") && !error.contains("user"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_those_that_are() {
        for text in [
            "",
            "ftp://host/a",
            "s3:///a",
            "http://",
            "s3://bu cket",
            "s3://bu%0acket",
            "gs://bu`cket",
            "az://con\"tainer",
            "http://host:99999",
        ] {
            assert!(parse(text).unwrap_err().to_string().contains("s3://BUCKET/PREFIX"), "{text}");
        }
    }
}
