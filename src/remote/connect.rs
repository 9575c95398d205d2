//! From settings to a client of the service.

use std::{env, fs, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    http::HttpBuilder,
    local::LocalFileSystem,
    multipart::MultipartStore,
};
use url::Position;

use super::{
    Patience, RemoteError, Settings,
    address::{Address, Place},
    error::{NO_KEYS, line},
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
    let endpoint = settings.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let plain = |url: Option<&str>| url.is_some_and(|url| url.starts_with("http://"));
    match settings.address.place() {
        Place::Folder(folder) => {
            if !fs::metadata(folder).is_ok_and(|metadata| metadata.is_dir()) {
                return Err(RemoteError::Trouble {
                    action: "use",
                    what: folder.display().to_string(),
                    reason: "there is no such folder".to_owned(),
                    advice: "; is it mounted? A new remote begins as an empty folder: make it with `mkdir`",
                    passing: false,
                });
            }
            let store = LocalFileSystem::new_with_prefix(folder).map_err(unusable)?.with_fsync(true);
            Ok((Arc::new(store), None))
        }
        Place::S3(url) => {
            let mut builder = AmazonS3Builder::from_env();
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
            if let Some(endpoint) = &endpoint {
                builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
            }
            let used = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
            let used = used.iter().find_map(|key| builder.get_config_value(key));
            let is_plain = plain(used.as_deref());
            // TLS guards the payload well enough; a second digest of it costs much.
            if !is_plain && builder.get_config_value(&AmazonS3ConfigKey::UnsignedPayload).is_none() {
                builder = builder.with_unsigned_payload(true);
            }
            let store = builder
                .with_url(url.as_str())
                .with_client_options(client(is_plain))
                .with_retry(retry(patience))
                .build();
            let store = Arc::new(store.map_err(unusable)?);
            Ok((store.clone(), Some(store)))
        }
        Place::Gcs(url) => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
            if let Some(endpoint) = &endpoint {
                builder = builder.with_base_url(endpoint);
            }
            if settings.anonymous {
                builder = builder.with_skip_signature(true);
            }
            let builder = builder.with_client_options(client(plain(endpoint.as_deref()))).with_retry(retry(patience));
            let store = Arc::new(builder.build().map_err(unusable)?);
            Ok((store.clone(), Some(store)))
        }
        Place::Azure(url) => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            let is_plain = plain(endpoint.as_deref());
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if settings.anonymous {
                builder = builder.with_skip_signature(true);
            }
            let builder = builder.with_client_options(client(is_plain)).with_retry(retry(patience));
            let store = Arc::new(builder.build().map_err(unusable)?);
            Ok((store.clone(), Some(store)))
        }
        Place::Http(url) => {
            let builder = HttpBuilder::new().with_url(&url[..Position::BeforePath]);
            let builder = builder.with_client_options(client(url.scheme() == "http")).with_retry(retry(patience));
            Ok((Arc::new(builder.build().map_err(unusable)?), None))
        }
    }
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
