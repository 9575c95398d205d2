//! Credentials from the files that the AWS tools share, `~/.aws/credentials` and `~/.aws/config`: the library reads the environment only.
//!
//! Plain keys are read, no single sign-on and no `credential_process`: those go into the environment by `aws configure export-credentials`.

use std::{collections::BTreeMap, env, io, path::PathBuf};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::{RemoteError, environment::Form};
use crate::files;

/// The fields of a profile that matter here, and what the library calls them. A builder that has one keeps it.
const FIELDS: [(&str, AmazonS3ConfigKey, Form); 5] = [
    ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId, Form::Word),
    ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey, Form::Text),
    ("aws_session_token", AmazonS3ConfigKey::Token, Form::Word),
    ("region", AmazonS3ConfigKey::Region, Form::Name),
    ("endpoint_url", AmazonS3ConfigKey::Endpoint, Form::Server),
];

/// The fields of a profile with the file that each stands in. An empty field counts as none.
type Fields = BTreeMap<String, (String, PathBuf)>;

/// Completes a builder from a profile: the one that is named, or that of AWS_PROFILE, or else `default`. A profile that was named and is
/// nowhere is an error. Credentials of the environment come first, unless a profile was named in the settings.
pub(super) fn complete(builder: AmazonS3Builder, named: Option<&str>) -> Result<AmazonS3Builder, RemoteError> {
    let from_environment = env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    let asked = named.map(str::to_owned).or(from_environment);
    let name = asked.as_deref().unwrap_or("default");
    let mut fields = section(file("AWS_CONFIG_FILE", "config"), &config_section(name))?;
    fields.extend(section(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name)?);
    if let (Some(name), true) = (&asked, fields.is_empty()) {
        let message = format!("there is no profile `{name}` in ~/.aws/credentials or ~/.aws/config");
        return Err(RemoteError::address(message, "check `profile` in pgan.toml or AWS_PROFILE"));
    }
    with(builder, named.is_some(), name, &fields)
}

fn with(
    mut builder: AmazonS3Builder,
    replace: bool,
    name: &str,
    fields: &Fields,
) -> Result<AmazonS3Builder, RemoteError> {
    // Keys of the environment and of a file must not be mixed.
    let keep_keys = !replace && builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
    for (field, key, form) in FIELDS {
        let is_key = field.starts_with("aws_");
        let there = builder.get_config_value(&key).is_some();
        let Some((value, path)) = fields.get(field) else { continue };
        if if is_key { !keep_keys } else { !there } {
            let setting = format!("`{field}` of the profile `{name}` in {}", path.display());
            builder = builder.with_config(key, form.check(&setting, value)?);
        }
    }
    Ok(builder)
}

fn config_section(name: &str) -> String {
    if name == "default" { name.to_owned() } else { format!("profile {name}") }
}

fn file(variable: &str, name: &str) -> Option<PathBuf> {
    let set = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    set.or_else(|| env::home_dir().map(|home| home.join(".aws").join(name)))
}

/// The fields of a section of an INI file; none if there is no such file.
fn section(path: Option<PathBuf>, name: &str) -> Result<Fields, RemoteError> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    // `/dev/null` stands for none.
    let text = match files::open_or_stream(&path).and_then(|file| files::whole(file, files::MAX_TEXT)) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(RemoteError::Io { path, source }),
    };
    Ok(fields(&text, name).into_iter().map(|(field, value)| (field, (value, path.clone()))).collect())
}

fn fields(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        // An indented line belongs to a nested field (`s3 =`), which has nothing that matters here.
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some(header) = line.trim().strip_prefix('[').and_then(|line| line.split_once(']')) {
            inside = header.0.trim() == name;
        } else if let (true, Some((field, value))) = (inside, line.split_once('='))
            && !value.trim().is_empty()
        {
            fields.insert(field.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# shared
[default]
aws_access_key_id = A
aws_secret_access_key=S=1
s3 =
    endpoint_url = nested

[profile lab]
region = here
";

    #[test]
    fn a_section_has_its_own_fields_alone() {
        let default = fields(TEXT, "default");
        assert_eq!((&*default["aws_access_key_id"], &*default["aws_secret_access_key"]), ("A", "S=1"));
        assert!(!default.contains_key("endpoint_url") && !default.contains_key("region"));
        assert_eq!(fields(TEXT, "profile lab")["region"], "here");
        assert!(fields(TEXT, "lab").is_empty());
    }

    #[test]
    fn a_pipe_in_the_place_of_a_profile_file_is_refused_and_the_null_device_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("config");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let error = section(Some(pipe), "default").unwrap_err().to_string();
        assert!(error.contains("it is a named pipe, not a regular file"), "{error}");
        assert!(section(Some("/dev/null".into()), "default").unwrap().is_empty());
        assert!(section(Some(folder.path().join("none")), "default").unwrap().is_empty());
    }

    #[test]
    fn keys_of_the_environment_are_not_mixed_with_those_of_a_file() {
        let path = PathBuf::from("credentials");
        let fields = fields(TEXT, "default").into_iter().map(|(field, value)| (field, (value, path.clone()))).collect();
        let with = |builder, replace| with(builder, replace, "default", &fields).unwrap();
        let key = |builder: &AmazonS3Builder, key| builder.get_config_value(&key);
        let environment = AmazonS3Builder::new().with_access_key_id("E").with_secret_access_key("F");
        let kept = with(environment.clone(), false);
        assert_eq!(key(&kept, AmazonS3ConfigKey::SecretAccessKey).as_deref(), Some("F"));
        let replaced = with(environment, true);
        assert_eq!(key(&replaced, AmazonS3ConfigKey::SecretAccessKey).as_deref(), Some("S=1"));
        let empty = with(AmazonS3Builder::new(), false);
        assert_eq!(key(&empty, AmazonS3ConfigKey::AccessKeyId).as_deref(), Some("A"));
    }
}
