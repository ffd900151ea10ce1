//! Another place for the history: a bucket of an S3-compatible store, or a directory that is mounted from elsewhere.
//!
//! What it holds looks as it does here (`TABLE/date=…/hour=…/…`), with each line of the manifest as an object of its own,
//! `MANIFEST/VERSION.json`, for objects cannot grow. Those are made once and never changed, which the store itself is
//! asked to see to: a second writer is told so. Not here: when something is sent (`uploader`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig};
use url::Url;

use super::HistoryError;

/// Larger files go in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Of one request; the uploader itself tries for as long as it takes.
const RETRY: RetryConfig = RetryConfig { backoff: BACKOFF, max_retries: 2, retry_timeout: Duration::from_secs(20) };
const BACKOFF: object_store::BackoffConfig = object_store::BackoffConfig {
    init_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(2),
    base: 2.0,
};

/// Where the history also goes.
#[derive(Clone)]
pub struct StoreSettings {
    /// `s3://BUCKET/PREFIX` or `file:///DIRECTORY`.
    pub url: Url,
    /// Settings of the S3 client by their names, such as `AWS_ACCESS_KEY_ID`; others are ignored.
    pub credentials: BTreeMap<String, String>,
    /// Bytes that may wait for the store; beyond that rows wait in the log.
    pub staging_bytes_max: u64,
    /// How long after their hour files stay here, too.
    pub keep_local: Duration,
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSettings").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// An opened store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    staging_bytes_max: u64,
    keep_local: Duration,
}

impl Store {
    /// Checks the settings; speaks to nobody yet.
    pub fn open(settings: &StoreSettings) -> Result<Self, HistoryError> {
        let bad = |reason: String| HistoryError::BadStore { url: settings.url.to_string(), reason };
        let (objects, prefix): (Arc<dyn ObjectStore>, Path) = match settings.url.scheme() {
            "s3" => {
                let mut builder = AmazonS3Builder::new().with_url(settings.url.as_str()).with_retry(RETRY);
                for (name, value) in &settings.credentials {
                    if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                let prefix = Path::parse(settings.url.path().trim_matches('/'));
                let objects = builder.build().map_err(|error| bad(error.to_string()))?;
                (Arc::new(objects), prefix.map_err(|error| bad(error.to_string()))?)
            }
            "file" => {
                let dir = settings.url.to_file_path().map_err(|()| bad("it names no directory".to_owned()))?;
                super::disk::create_dirs(&dir)?;
                let objects = LocalFileSystem::new_with_prefix(&dir).map_err(|error| bad(error.to_string()))?;
                (Arc::new(objects.with_automatic_cleanup(false)), Path::default())
            }
            _ => return Err(bad("give s3://BUCKET/PREFIX or file:///DIRECTORY".to_owned())),
        };
        Ok(Self::of(objects, prefix, settings))
    }

    /// The same over any kind of store.
    pub(super) fn of(objects: Arc<dyn ObjectStore>, prefix: Path, settings: &StoreSettings) -> Self {
        let (staging_bytes_max, keep_local) = (settings.staging_bytes_max, settings.keep_local);
        Self { objects, prefix, url: settings.url.to_string(), staging_bytes_max, keep_local }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) const fn staging_bytes_max(&self) -> u64 {
        self.staging_bytes_max
    }

    pub(super) const fn keep_local(&self) -> Duration {
        self.keep_local
    }

    fn place(&self, path: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(path).parts()))
    }

    /// Brings the file `from` to `path`; an equal one may be there already.
    pub(super) async fn put_file(&self, path: &str, from: &FilePath) -> Result<(), HistoryError> {
        let bytes = bytes::Bytes::from(fs::read(from).map_err(HistoryError::io("read", from))?);
        let put = async {
            if bytes.len() <= PART_BYTES {
                return self.objects.put(&self.place(path), PutPayload::from(bytes)).await.map(|_| ());
            }
            let mut upload = self.objects.put_multipart(&self.place(path)).await?;
            for start in (0..bytes.len()).step_by(PART_BYTES) {
                let part = bytes.slice(start..bytes.len().min(start + PART_BYTES));
                upload.put_part(part.into()).await?;
            }
            upload.complete().await.map(|_| ())
        };
        put.await.map_err(failed("write", path))
    }

    /// Makes `path`, which nobody may have made with other content.
    pub(super) async fn make(&self, path: &str, content: Vec<u8>) -> Result<(), HistoryError> {
        let content = bytes::Bytes::from(content);
        let place = self.place(path);
        match self.objects.put_opts(&place, content.clone().into(), PutMode::Create.into()).await {
            // Ours, from before an answer was lost or a process ended?
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let found = async { self.objects.get(&place).await?.bytes().await };
                let found = found.await.map_err(failed("read", path))?;
                if found == content { Ok(()) } else { Err(HistoryError::OtherWriter { path: path.to_owned() }) }
            }
            made => made.map(|_| ()).map_err(failed("make", path)),
        }
    }

    /// Moves `path` to `to`. One that is gone already is no error.
    pub(super) async fn move_to(&self, path: &str, to: &str) -> Result<(), HistoryError> {
        match self.objects.copy(&self.place(path), &self.place(to)).await {
            Err(Error::NotFound { .. }) => return Ok(()),
            copied => copied.map_err(failed("move aside", path))?,
        }
        self.remove(path).await
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), HistoryError> {
        match self.objects.delete(&self.place(path)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed.map_err(failed("remove", path)),
        }
    }

    /// What is below `path`, by names as [`Self::remove`] takes them.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<(String, ObjectMeta)>, HistoryError> {
        let below = self.place(path);
        let found: Vec<_> = self.objects.list(Some(&below)).try_collect().await.map_err(failed("list", path))?;
        let named = |meta: ObjectMeta| {
            let name: Vec<_> = meta.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some((name.join("/"), meta))
        };
        Ok(found.into_iter().filter_map(named).collect())
    }
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Store { action, path, source }
}
