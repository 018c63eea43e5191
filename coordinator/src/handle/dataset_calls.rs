//! What is known of datasets that jobs write, read from their own objects.

use async_trait::async_trait;
use quire_dataset::{Output, VersionFile, paths};
use quire_proto::v1;
use quire_proto::{CallError, DatasetCalls};

use super::CoordinatorHandle;
use super::job_calls::{page_size, token};
use super::timed::timed;
use crate::caller::Role;
use crate::error::{Error, Result};

#[async_trait]
impl DatasetCalls for CoordinatorHandle {
    async fn get_dataset(
        &self,
        request: v1::GetDatasetRequest,
    ) -> Result<v1::GetDatasetResponse, CallError> {
        timed("get_dataset", async {
            self.caller.require(Role::Submitter)?;
            let (output, job_id) = self.dataset(&request.out).await?;
            let newest = output.newest_version().await;
            let newest = newest.map_err(|source| unread(&request.out, source))?;
            Ok(v1::GetDatasetResponse {
                newest: newest.as_ref().map(version_message),
                job_id: job_id.unwrap_or_default(),
            })
        })
        .await
    }

    async fn list_versions(
        &self,
        request: v1::ListVersionsRequest,
    ) -> Result<v1::ListVersionsResponse, CallError> {
        timed("list_versions", async {
            self.caller.require(Role::Submitter)?;
            let limit = page_size(request.page_size) as usize;
            let before: Option<u64> = token(&request.page_token)?;
            let (output, _) = self.dataset(&request.out).await?;
            let numbers = output.versions().await;
            let mut numbers = numbers.map_err(|source| unread(&request.out, source))?;
            numbers.retain(|number| before.is_none_or(|before| *number < before));
            let mut versions = Vec::new();
            for &number in numbers.iter().rev().take(limit) {
                let version = output.version(number).await;
                versions.push(version_message(
                    &version.map_err(|source| unread(&request.out, source))?,
                ));
            }
            let last = versions.last().map(|version| version.version.to_string());
            let next_page_token = last.filter(|_| numbers.len() > limit).unwrap_or_default();
            Ok(v1::ListVersionsResponse {
                versions,
                next_page_token,
            })
        })
        .await
    }
}

impl CoordinatorHandle {
    /// A dataset that the caller may see, and its unfinished job.
    async fn dataset(&self, out: &str) -> Result<(Output, Option<String>)> {
        if out.is_empty() {
            return Err(Error::Malformed { what: "the output" });
        }
        let (uri, output) = self.shared.known_output(out)?;
        let newest = self.shared.store.newest_job(&uri).await?;
        let what = format!("the dataset {uri}");
        match &newest {
            Some(job) => self.caller.require_tenant(&job.tenant, &what)?,
            // Nobody can tell whose it is.
            None if self.caller.tenant.is_some() => return Err(Error::TenantForeign { what }),
            None => {}
        }
        let unfinished = newest.filter(|job| !job.state.is_final());
        Ok((output, unfinished.map(|job| job.job_id.to_string())))
    }
}

fn unread(out: &str, source: quire_dataset::Error) -> Error {
    Error::Dataset {
        action: format!("read the versions of {out}"),
        source: Box::new(source),
    }
}

fn version_message(version: &VersionFile) -> v1::DatasetVersion {
    v1::DatasetVersion {
        version: version.version,
        files: version.files.len() as u64,
        bytes: version.files.iter().map(|file| file.bytes).sum(),
        pages: version.totals.pages,
        documents: version.totals.documents,
        errors: version.totals.errors,
        job_ids: version
            .jobs
            .iter()
            .map(|job| job.job_id.to_string())
            .collect(),
        key: paths::version(version.version),
    }
}
