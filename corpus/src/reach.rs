//! Whether stores answer for addresses: asked before a job is taken that would only find out
//! later, when nobody looks any more. What is listed here is thrown away; `listing` does the work.

use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::address::Address;
use crate::error::{Error, Result, scrub};
use crate::stores::{Place, Stores};

/// A store that takes longer for one request is away.
const PATIENCE: Duration = Duration::from_secs(8);

/// Checks that the bucket of an output is there and may be listed. A folder of this machine is
/// not looked at: opening it makes it, or fails.
///
/// # Errors
/// When the bucket is missing or closed to us (for good), or its store does not answer.
pub async fn reach_output(stores: &Stores, output: &str) -> Result<()> {
    let address = Address::parse(output)?;
    let Some((store, path)) = remote(stores, &address)? else {
        return Ok(());
    };
    in_time(&address, first_below(&*store, &path)).await?;
    Ok(())
}

/// Checks that a store has something for an input. Files of this machine, which may be another
/// one's, and web addresses are only looked at when the inputs are listed.
///
/// # Errors
/// When the bucket is missing or closed to us, when no key is there or begins so (for good), or
/// when the store does not answer.
pub async fn reach_input(stores: &Stores, input: &str) -> Result<()> {
    let (text, is_list) = match input.strip_prefix('@') {
        Some(list) => (list, true),
        None => (input, false),
    };
    let address = Address::parse(text)?;
    let Address::Remote { key, .. } = &address else {
        return Ok(());
    };
    let nothing = |reason: &str| Error::NothingFound {
        input: scrub(input),
        reason: reason.to_owned(),
    };
    let Some((store, path)) = remote(stores, &address)? else {
        return Ok(());
    };
    if !is_list && let Some((fixed, _)) = key.split_once(['*', '?', '[']) {
        // What matches the rest of the pattern is seen when everything is listed.
        let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = Path::parse(folder).unwrap_or_default();
        in_time(&address, first_below(&*store, &folder)).await?;
        return Ok(());
    }
    if is_list || !(key.is_empty() || key.ends_with('/')) {
        let head = async {
            match store.head(&path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if in_time(&address, head).await? {
            return Ok(());
        }
    }
    // A missing bucket is told from a missing key only by a listing.
    let is_below = in_time(&address, first_below(&*store, &path)).await?;
    match (is_list, is_below) {
        (true, _) => Err(nothing("there is no such list")),
        (false, false) => Err(nothing(
            "the store has no object of this key and none below it",
        )),
        (false, true) => Ok(()),
    }
}

type Opened = (std::sync::Arc<dyn ObjectStore>, Path);

fn remote(stores: &Stores, address: &Address) -> Result<Option<Opened>> {
    let Address::Remote { key, .. } = address else {
        return Ok(None);
    };
    // A pattern is no path; only its store is wanted.
    let plain = match (address, key.split_once(['*', '?', '['])) {
        (Address::Remote { scheme, bucket, .. }, Some((fixed, _))) => Address::Remote {
            scheme: *scheme,
            bucket: bucket.clone(),
            key: fixed.to_owned(),
        },
        _ => address.clone(),
    };
    Ok(match stores.at(&plain)?.place {
        Place::Remote { store, path } => Some((store, path)),
        Place::Local(_) => None,
    })
}

/// Whether anything lies below a prefix.
async fn first_below(store: &dyn ObjectStore, prefix: &Path) -> object_store::Result<bool> {
    let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
    store
        .list(prefix)
        .next()
        .await
        .transpose()
        .map(|first| first.is_some())
}

async fn in_time<T>(
    address: &Address,
    asked: impl Future<Output = object_store::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| Error::store(&address.uri(), &error)),
        Err(_) => Err(Error::Store {
            uri: address.uri(),
            message: format!("it did not answer within {} s", PATIENCE.as_secs()),
            lasting: false,
        }),
    }
}
