//! From settings to a client of the service.

use std::{env, fs, io, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    local::LocalFileSystem,
    multipart::MultipartStore,
};
use url::{Position, Url};

use super::{
    Patience, RemoteError, Settings,
    address::{Address, Place},
    environment::{self, Form, bare, variable},
    error::{NO_KEYS, UNREADABLE, line},
    profile,
};

/// A client, and the same as one that can take uploads up again.
pub(super) type Client = (Arc<dyn ObjectStore>, Option<Arc<dyn MultipartStore>>);

/// Where S3 is without a word of where.
const REGION: &str = "us-east-1";

pub(super) fn connect(settings: &Settings, patience: Patience) -> Result<Client, RemoteError> {
    let unusable = |error: object_store::Error| unusable(&settings.address, &error);
    // Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if !matches!(settings.address.place(), Place::Folder(_)) {
        environment::check_files()?;
    }
    match settings.address.place() {
        Place::Folder(folder) => {
            let (reason, advice) = match fs::metadata(folder) {
                Ok(metadata) if metadata.is_dir() => ("", ""),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => ("permission denied", UNREADABLE),
                _ => (
                    "there is no such folder",
                    "; is it mounted? A new remote begins as an empty folder: make it with `mkdir`",
                ),
            };
            if !reason.is_empty() {
                let (what, reason) = (folder.display().to_string(), reason.to_owned());
                return Err(RemoteError::Trouble { action: "use", what, reason, advice, passing: false });
            }
            let store = LocalFileSystem::new_with_prefix(folder).map_err(unusable)?.with_fsync(true);
            Ok((Arc::new(store), None))
        }
        Place::S3(url) => s3(settings, url, patience),
        Place::Gcs(url) => gcs(settings, url, patience),
        Place::Azure(url) => azure(settings, url, patience),
        Place::Http(url) => {
            let builder = HttpBuilder::new().with_url(&url[..Position::BeforePath]);
            let builder = builder.with_client_options(client(url.scheme() == "http")).with_retry(retry(patience));
            Ok((Arc::new(builder.build().map_err(unusable)?), None))
        }
    }
}

fn s3(settings: &Settings, url: &Url, patience: Patience) -> Result<Client, RemoteError> {
    let found = environment::settings("AWS_", s3_form)?;
    let mut builder = found.into_iter().fold(AmazonS3Builder::new(), |all, (key, value)| all.with_config(key, value));
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    } else {
        builder = profile::complete(builder, settings.profile.as_deref())?;
        if !has_credentials(&builder) {
            return Err(RemoteError::Trouble {
                action: "use",
                what: settings.address.to_string(),
                reason: "AWS_EC2_METADATA_DISABLED is set".to_owned(),
                advice: NO_KEYS,
                passing: false,
            });
        }
    }
    builder = match (&settings.region, builder.get_config_value(&AmazonS3ConfigKey::Region)) {
        (Some(region), _) => builder.with_region(region),
        (None, None) => builder.with_region(REGION),
        (None, Some(_)) => builder,
    };
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, bare(endpoint));
    }
    let used = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let is_plain = is_plain(used.iter().find_map(|key| builder.get_config_value(key)));
    // TLS guards the payload well enough; a second digest of it costs much.
    if !is_plain && builder.get_config_value(&AmazonS3ConfigKey::UnsignedPayload).is_none() {
        builder = builder.with_unsigned_payload(true);
    }
    let builder = builder.with_url(url.as_str()).with_client_options(client(is_plain)).with_retry(retry(patience));
    let store = Arc::new(builder.build().map_err(|error| unusable(&settings.address, &error))?);
    Ok((store.clone(), Some(store)))
}

fn gcs(settings: &Settings, url: &Url, patience: Patience) -> Result<Client, RemoteError> {
    let found = environment::settings("GOOGLE_", gcs_form)?;
    let mut builder = GoogleCloudStorageBuilder::new();
    if let Some(path) = variable("SERVICE_ACCOUNT", Form::Text)? {
        builder = builder.with_service_account_path(path);
    }
    builder = found.into_iter().fold(builder, |all, (key, value)| all.with_config(key, value));
    // The client reads these by itself.
    for name in ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"] {
        variable(name, Form::Host)?;
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_base_url(&bare(endpoint));
    }
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let is_plain = is_plain(builder.get_config_value(&GoogleConfigKey::BaseUrl));
    let builder = builder.with_url(url.as_str()).with_client_options(client(is_plain)).with_retry(retry(patience));
    let store = Arc::new(builder.build().map_err(|error| unusable(&settings.address, &error))?);
    Ok((store.clone(), Some(store)))
}

fn azure(settings: &Settings, url: &Url, patience: Patience) -> Result<Client, RemoteError> {
    let found = environment::settings("AZURE_", azure_form)?;
    let mut builder =
        found.into_iter().fold(MicrosoftAzureBuilder::new(), |all, (key, value)| all.with_config(key, value));
    if let Some(endpoint) = variable("IDENTITY_ENDPOINT", Form::Address)? {
        builder = builder.with_msi_endpoint(endpoint);
    }
    // The client reads these by itself.
    variable("IDENTITY_HEADER", Form::Word)?;
    variable("AZURITE_BLOB_STORAGE_URL", Form::Server)?;
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(bare(endpoint));
    }
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let is_plain = is_plain(builder.get_config_value(&AzureConfigKey::Endpoint));
    let builder = builder.with_url(url.as_str()).with_client_options(client(is_plain)).with_retry(retry(patience));
    let store = Arc::new(builder.build().map_err(|error| unusable(&settings.address, &error))?);
    Ok((store.clone(), Some(store)))
}

/// Gives the form of a setting of S3. The bucket is in the address, and the client's options are ours.
fn s3_form(key: AmazonS3ConfigKey) -> Option<Form> {
    use AmazonS3ConfigKey as K;
    Some(match key {
        K::Bucket | K::Client(_) => return None,
        K::Endpoint | K::S3Endpoint | K::StsEndpoint | K::MetadataEndpoint => Form::Server,
        K::ContainerCredentialsFullUri => Form::Address,
        K::ContainerCredentialsRelativeUri => Form::UrlPath,
        K::Region | K::DefaultRegion => Form::Name,
        K::SecretAccessKey | K::WebIdentityTokenFile | K::ContainerAuthorizationTokenFile => Form::Text,
        K::VirtualHostedStyleRequest
        | K::S3Express
        | K::ImdsV1Fallback
        | K::UnsignedPayload
        | K::SkipSignature
        | K::DisableTagging
        | K::DisableBulkDelete => Form::Flag,
        _ => Form::Word,
    })
}

fn gcs_form(key: GoogleConfigKey) -> Option<Form> {
    use GoogleConfigKey as K;
    Some(match key {
        K::Bucket | K::Client(_) => return None,
        K::BaseUrl => Form::Server,
        K::ServiceAccount | K::ApplicationCredentials => Form::Text,
        K::ServiceAccountKey => Form::Json,
        K::SkipSignature => Form::Flag,
        _ => Form::Word,
    })
}

fn azure_form(key: AzureConfigKey) -> Option<Form> {
    use AzureConfigKey as K;
    Some(match key {
        K::ContainerName | K::Client(_) => return None,
        K::Endpoint | K::AuthorityHost => Form::Server,
        K::MsiEndpoint | K::FabricTokenServiceUrl => Form::Address,
        K::AccountName | K::AuthorityId => Form::Name,
        K::ClientSecret | K::SasKey | K::FederatedTokenFile => Form::Text,
        K::UseEmulator | K::UseFabricEndpoint | K::UseAzureCli | K::SkipSignature | K::DisableTagging => Form::Flag,
        _ => Form::Word,
    })
}

/// Says whether the address of a server is one without TLS.
fn is_plain(server: Option<String>) -> bool {
    server.is_some_and(|server| server.starts_with("http://"))
}

/// Whether there is a key, a token, or a service that may be asked for one; the library asks it whatever the environment says.
fn has_credentials(builder: &AmazonS3Builder) -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let disabled = env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled
        || builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some()
        || [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ]
        .iter()
        .any(|name| set(name))
}

fn unusable(address: &Address, error: &object_store::Error) -> RemoteError {
    RemoteError::address(
        format!("{address} cannot be used: {}", line(&error.to_string())),
        "check its address, pgan.toml and the environment",
    )
}

/// Requests take as long as they take: whoever makes one watches that something happens.
fn client(plain: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(plain).with_timeout_disabled().with_connect_timeout(Duration::from_secs(5))
}

fn retry(patience: Patience) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: patience.retries, retry_timeout: patience.part }
}
