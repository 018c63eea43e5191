//! Where objects lie: configured stores, and how an address becomes something that can be read
//! or written.
//!
//! Credentials come from the environment or the machine's identity only (the variables each
//! cloud's own tools read); the settings cannot hold them. A bucket without settings works with
//! what the environment says. Local objects are read by path, not through `object_store`, whose
//! paths cannot hold every file name.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use serde::Deserialize;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::web::{HttpSettings, NameResolver, SystemNames, Web};

/// Protocol of a configured store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    S3,
    Gcs,
    Azure,
}

impl StoreKind {
    fn scheme(self) -> Scheme {
        match self {
            Self::S3 => Scheme::S3,
            Self::Gcs => Scheme::Gcs,
            Self::Azure => Scheme::Azure,
        }
    }
}

/// `[stores.NAME]` of the settings file: how to reach one bucket. Holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Bucket (container on Azure) these settings are for.
    pub bucket: String,
    /// Only keys below this prefix; of several matching stores the longest prefix wins.
    #[serde(default)]
    pub prefix: String,
    /// Address of an S3-compatible store, a private endpoint or an emulator.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region of the bucket (S3).
    #[serde(default)]
    pub region: Option<String>,
    /// Storage account (Azure).
    #[serde(default)]
    pub account: Option<String>,
    /// Allows an `http://` endpoint elsewhere than on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Bucket name as part of the host name (S3); most compatible stores want it in the path.
    #[serde(default)]
    pub virtual_hosted: bool,
    /// Sends unsigned requests: public buckets.
    #[serde(default)]
    pub anonymous: bool,
}

impl StoreSettings {
    /// Checks values; messages name the dotted key.
    fn validate(&self, name: &str) -> Result<()> {
        let wrong = |field: &str, reason: &str| Error::Settings {
            key: format!("stores.{name}.{field}"),
            reason: reason.to_owned(),
        };
        if self.bucket.is_empty() || self.bucket.contains('/') {
            return Err(wrong("bucket", "is not the name of a bucket"));
        }
        if self.account.is_some() && self.kind != StoreKind::Azure {
            return Err(wrong("account", "is for kind = \"azure\" only"));
        }
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let url = url::Url::parse(endpoint).map_err(|_| wrong("endpoint", "is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong("endpoint", "must not hold credentials or a query"));
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_http || is_loopback(&url) => Ok(()),
            "http" => Err(wrong(
                "allow_http",
                "must be true for an http endpoint off this machine",
            )),
            _ => Err(wrong("endpoint", "must start with https:// or http://")),
        }
    }

    fn is_plain_http(&self) -> bool {
        self.endpoint
            .as_deref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// An object (or prefix) and the way to it.
#[derive(Debug, Clone)]
pub struct Location {
    /// Canonical URI, as rows hold it.
    pub uri: String,
    pub place: Place,
}

/// The way to an object.
#[derive(Debug, Clone)]
pub enum Place {
    /// A path of the local file system.
    Local(PathBuf),
    /// A key of an object store.
    Remote {
        store: Arc<dyn ObjectStore>,
        path: Path,
    },
}

/// A folder or prefix that a dataset is written to or read from.
#[derive(Debug, Clone)]
pub struct OutputLocation {
    pub store: Arc<dyn ObjectStore>,
    /// Stands before every object path; empty for local folders.
    pub prefix: Path,
    /// Canonical URI without a trailing slash.
    pub uri: String,
    /// The folder itself, if it is local: for renames that object stores lack.
    pub folder: Option<PathBuf>,
}

/// All stores that inputs and outputs may lie in. A cheap clone.
#[derive(Debug, Clone)]
pub struct Stores {
    inner: Arc<Inner>,
}

/// Name of the settings, if the bucket has any, protocol and bucket.
type ClientId = (Option<String>, Scheme, String);

#[derive(Debug)]
struct Inner {
    settings: BTreeMap<String, StoreSettings>,
    /// Clients already made.
    clients: Mutex<HashMap<ClientId, Arc<dyn ObjectStore>>>,
    web: Web,
}

impl Stores {
    /// Checks the settings. Clients are made when an address first needs them. No web address may
    /// be read.
    pub fn open(settings: &BTreeMap<String, StoreSettings>) -> Result<Self> {
        Self::open_with_http(settings, &HttpSettings::default())
    }

    /// Like [`Stores::open`], and inputs may lie at the web addresses that `http` allows.
    pub fn open_with_http(
        settings: &BTreeMap<String, StoreSettings>,
        http: &HttpSettings,
    ) -> Result<Self> {
        Self::open_with_names(settings, http, Arc::new(SystemNames))
    }

    /// Like [`Stores::open_with_http`], with host names looked up by `names` instead of the
    /// system.
    pub fn open_with_names(
        settings: &BTreeMap<String, StoreSettings>,
        http: &HttpSettings,
        names: Arc<dyn NameResolver>,
    ) -> Result<Self> {
        for (name, store) in settings {
            store.validate(name)?;
        }
        // Without a TLS provider the first request would panic. A caller's own choice stands.
        drop(rustls::crypto::ring::default_provider().install_default());
        let inner = Inner {
            settings: settings.clone(),
            clients: Mutex::default(),
            web: Web::open(http, names)?,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn web(&self) -> &Web {
        &self.inner.web
    }

    /// Understands a URI or plain local path of a place that can be written to, too; asks nobody
    /// whether the object exists.
    pub fn resolve(&self, uri: &str) -> Result<Location> {
        self.at(&Address::parse(uri)?)
    }

    pub(crate) fn at(&self, address: &Address) -> Result<Location> {
        let uri = address.uri();
        let place = match address {
            Address::Local(path) => Place::Local(path.clone()),
            Address::Remote {
                scheme,
                bucket,
                key,
            } => {
                let path = Path::parse(key).map_err(|e| Error::Address {
                    address: uri.clone(),
                    reason: format!("the store's client cannot name this key: {e}"),
                })?;
                Place::Remote {
                    store: self.client(*scheme, bucket, key)?,
                    path,
                }
            }
            Address::Web(_) => return Err(only_an_input(address)),
        };
        Ok(Location { uri, place })
    }

    /// A folder or prefix to write a dataset to; a local folder is made if it is missing.
    pub fn create_output(&self, text: &str) -> Result<OutputLocation> {
        let address = Address::parse(text)?;
        if let Address::Local(folder) = &address {
            std::fs::create_dir_all(folder).map_err(|source| Error::Local {
                path: folder.clone(),
                source,
            })?;
        }
        self.output_at(&address)
    }

    /// A folder or prefix to read a dataset from; a local folder must be there.
    pub fn open_output(&self, text: &str) -> Result<OutputLocation> {
        self.output_at(&Address::parse(text)?)
    }

    fn output_at(&self, address: &Address) -> Result<OutputLocation> {
        let uri = address.uri().trim_end_matches('/').to_owned();
        match address {
            Address::Local(folder) => {
                let store = LocalFileSystem::new_with_prefix(folder)
                    .map_err(|e| Error::Local {
                        path: folder.clone(),
                        source: std::io::Error::other(e),
                    })?
                    .with_fsync(true);
                let folder = Some(folder.clone());
                Ok(OutputLocation {
                    store: Arc::new(store),
                    prefix: Path::default(),
                    uri,
                    folder,
                })
            }
            Address::Remote { .. } => match self.at(address)?.place {
                Place::Remote { store, path } => Ok(OutputLocation {
                    store,
                    prefix: path,
                    uri,
                    folder: None,
                }),
                Place::Local(path) => Err(Error::Local {
                    path,
                    source: std::io::Error::other("a remote address became local"),
                }),
            },
            Address::Web(_) => Err(only_an_input(address)),
        }
    }

    /// The settings for a key: those of its bucket with the longest matching prefix.
    fn settings_of(
        &self,
        scheme: Scheme,
        bucket: &str,
        key: &str,
    ) -> Option<(&str, &StoreSettings)> {
        self.inner
            .settings
            .iter()
            .filter(|(_, store)| store.kind.scheme() == scheme && store.bucket == bucket)
            .filter(|(_, store)| key.starts_with(store.prefix.trim_start_matches('/')))
            .max_by_key(|(_, store)| store.prefix.len())
            .map(|(name, store)| (name.as_str(), store))
    }

    fn client(&self, scheme: Scheme, bucket: &str, key: &str) -> Result<Arc<dyn ObjectStore>> {
        let found = self.settings_of(scheme, bucket, key);
        let name = found.map(|(name, _)| name.to_owned());
        let id = (name, scheme, bucket.to_owned());
        let mut clients = self
            .inner
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&id) {
            return Ok(client.clone());
        }
        let client = connect(scheme, bucket, found.map(|(_, store)| store))
            .map_err(|e| Error::store(&format!("{}://{bucket}", scheme.as_str()), &e))?;
        clients.insert(id, client.clone());
        Ok(client)
    }
}

/// The address of the sibling `{output}{suffix}`, such as `OUT.quire` beside `OUT`.
pub fn sibling(output: &str, suffix: &str) -> Result<String> {
    let refuse = |reason: &str| Error::Address {
        address: output.to_owned(),
        reason: reason.to_owned(),
    };
    match Address::parse(output)? {
        Address::Local(path) => {
            let mut name = path
                .file_name()
                .ok_or_else(|| refuse("the root of the file system has no sibling"))?
                .to_owned();
            name.push(suffix);
            Ok(Address::Local(path.parent().unwrap_or(FilePath::new("/")).join(name)).uri())
        }
        Address::Remote {
            scheme,
            bucket,
            key,
        } => {
            let key = key.trim_end_matches('/');
            if key.is_empty() {
                return Err(refuse("a whole bucket has no sibling; name a prefix in it"));
            }
            Ok(Address::Remote {
                scheme,
                bucket,
                key: format!("{key}{suffix}"),
            }
            .uri())
        }
        web @ Address::Web(_) => Err(only_an_input(&web)),
    }
}

fn only_an_input(address: &Address) -> Error {
    Error::Address {
        address: address.uri(),
        reason: "a web address can be an input only".into(),
    }
}

/// A request carries at most some megabytes (see `object.rs`), so two minutes mean a dead line.
const REQUEST_TIMEOUT: &str = "120 seconds";
const CONNECT_TIMEOUT: &str = "10 seconds";

/// Sets single client options, so that those of the environment (proxies, say) stay in force.
macro_rules! with_client_options {
    ($builder:expr, $key:ident, $settings:expr) => {{
        let mut builder = $builder
            .with_config($key::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
            .with_config(
                $key::Client(ClientConfigKey::ConnectTimeout),
                CONNECT_TIMEOUT,
            )
            .with_retry(RetryConfig {
                retry_timeout: Duration::from_secs(120),
                ..RetryConfig::default()
            });
        if $settings.is_some_and(StoreSettings::is_plain_http) {
            builder = builder.with_config($key::Client(ClientConfigKey::AllowHttp), "true");
        }
        if $settings.is_some_and(|store| store.anonymous) {
            builder = builder.with_skip_signature(true);
        }
        builder
    }};
}

fn connect(
    scheme: Scheme,
    bucket: &str,
    settings: Option<&StoreSettings>,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(match scheme {
        Scheme::S3 => Arc::new(connect_s3(bucket, settings)?),
        Scheme::Gcs => Arc::new(connect_gcs(bucket, settings)?),
        Scheme::Azure => Arc::new(connect_azure(bucket, settings)?),
    })
}

fn connect_s3(bucket: &str, settings: Option<&StoreSettings>) -> object_store::Result<AmazonS3> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let mut builder = with_client_options!(builder, AmazonS3ConfigKey, settings);
    if let Some(store) = settings {
        builder = builder.with_virtual_hosted_style_request(store.virtual_hosted);
        if let Some(region) = &store.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &store.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
    }
    builder.build()
}

fn connect_gcs(
    bucket: &str,
    settings: Option<&StoreSettings>,
) -> object_store::Result<GoogleCloudStorage> {
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    let mut builder = with_client_options!(builder, GoogleConfigKey, settings);
    if let Some(endpoint) = settings.and_then(|store| store.endpoint.as_ref()) {
        builder = builder.with_base_url(endpoint);
    }
    builder.build()
}

fn connect_azure(
    container: &str,
    settings: Option<&StoreSettings>,
) -> object_store::Result<MicrosoftAzure> {
    let builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    let mut builder = with_client_options!(builder, AzureConfigKey, settings);
    if let Some(store) = settings {
        if let Some(account) = &store.account {
            builder = builder.with_account(account);
        }
        if let Some(endpoint) = &store.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, serde_json::Value)]) -> BTreeMap<String, StoreSettings> {
        let parse = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), parse(value)))
            .collect()
    }

    #[test]
    fn longest_prefix_of_the_bucket_wins() {
        let stores = Stores::open(&settings(&[
            ("all", serde_json::json!({"kind": "s3", "bucket": "b"})),
            (
                "part",
                serde_json::json!({"kind": "s3", "bucket": "b", "prefix": "in/"}),
            ),
            ("other", serde_json::json!({"kind": "gcs", "bucket": "b"})),
        ]))
        .unwrap();
        let name = |scheme, bucket, key| {
            stores
                .settings_of(scheme, bucket, key)
                .map(|(name, _)| name.to_owned())
        };
        assert_eq!(name(Scheme::S3, "b", "x").as_deref(), Some("all"));
        assert_eq!(name(Scheme::S3, "b", "in/x").as_deref(), Some("part"));
        assert_eq!(name(Scheme::Gcs, "b", "in/x").as_deref(), Some("other"));
        assert_eq!(name(Scheme::S3, "c", "x"), None);
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let check = |value: serde_json::Value, key: &str| {
            let error = Stores::open(&settings(&[("x", value)]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(key), "{error}");
        };
        check(
            serde_json::json!({"kind": "s3", "bucket": ""}),
            "stores.x.bucket",
        );
        check(
            serde_json::json!({"kind": "s3", "bucket": "b", "endpoint": "http://far:9000"}),
            "stores.x.allow_http",
        );
        check(
            serde_json::json!({"kind": "s3", "bucket": "b", "endpoint": "https://me:pw@far"}),
            "stores.x.endpoint",
        );
        let secret = serde_json::json!({"kind": "s3", "bucket": "b", "secret_key": "x"});
        assert!(serde_json::from_value::<StoreSettings>(secret).is_err());
        let near =
            serde_json::json!({"kind": "s3", "bucket": "b", "endpoint": "http://127.0.0.1:9"});
        assert!(Stores::open(&settings(&[("x", near)])).is_ok());
    }

    #[test]
    fn siblings_stand_beside_not_below() {
        assert_eq!(
            sibling("s3://b/out/", ".quire").unwrap(),
            "s3://b/out.quire"
        );
        assert_eq!(
            sibling("/data/out/", ".quire").unwrap(),
            "file:///data/out.quire"
        );
        assert!(sibling("s3://b", ".quire").is_err());
        assert!(sibling("/", ".quire").is_err());
    }

    #[test]
    fn an_output_folder_with_an_odd_name_is_made_and_opened() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(&BTreeMap::new()).unwrap();
        let name = folder.path().join("out 100% 输出");
        let text = name.to_str().unwrap();
        assert!(stores.open_output(text).is_err());
        let output = stores.create_output(text).unwrap();
        assert_eq!(output.folder.as_deref(), Some(name.as_path()));
        assert_eq!(stores.open_output(&output.uri).unwrap().uri, output.uri);
    }
}
