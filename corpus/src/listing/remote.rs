//! Objects of stores: one key, all keys below a prefix, or a pattern of keys.

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Candidate, Findings};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::listing::lists::has_list_name;
use crate::object::trouble_of_store;
use crate::stores::{Place, Stores};

/// Finds what the address means. The text says why nothing was found.
pub(super) async fn find(
    stores: &Stores,
    address: &Address,
    excluded: &[Address],
    found: &mut Findings,
) -> Result<&'static str> {
    let Address::Remote { key, .. } = address else {
        return Ok("it is no address of a store");
    };
    if key.contains(['*', '?', '[']) {
        let pattern = Pattern::new(key).map_err(|e| Error::Address {
            address: address.uri(),
            reason: e.to_string(),
        })?;
        let fixed = key.split(['*', '?', '[']).next().unwrap_or_default();
        let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = with_key(address, folder);
        let wanted = |key: &str| pattern.matches_with(key, PATTERN);
        list_below(stores, &below, excluded, &wanted, found).await?;
        return Ok("no key of the store has this pattern");
    }
    if !key.is_empty() && !key.ends_with('/') {
        let before = found.len();
        add_object(stores, address, found).await?;
        if found.len() > before {
            return Ok("");
        }
    }
    list_below(stores, address, excluded, &|_| true, found).await?;
    Ok("the store has no object of this key and none below it")
}

const PATTERN: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Adds the object of exactly this key, if there is one.
async fn add_object(stores: &Stores, address: &Address, found: &mut Findings) -> Result<()> {
    let Place::Remote { store, path } = stores.at(address)?.place else {
        return Ok(());
    };
    match store.head(&path).await {
        Ok(meta) => {
            found.candidates.push(Candidate {
                may_be_list: true,
                ..candidate(address, meta)
            });
            Ok(())
        }
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(Error::store(&address.uri(), &e)),
    }
}

/// Adds the object (or prefix, with a slash at its end) that a line of a list names.
pub(super) async fn add_listed(
    stores: &Stores,
    address: &Address,
    license: Option<String>,
    excluded: &[Address],
) -> Findings {
    let mut found = Findings::default();
    let place = match stores.at(address) {
        Ok(location) => location.place,
        Err(e) => {
            found.trouble(address, quire_core::TroubleCode::Other, e.to_string());
            return found;
        }
    };
    let Place::Remote { store, path } = place else {
        return found;
    };
    let is_prefix =
        matches!(address, Address::Remote { key, .. } if key.is_empty() || key.ends_with('/'));
    if is_prefix {
        if let Err(e) = list_below(stores, address, excluded, &|_| true, &mut found).await {
            found.trouble(address, quire_core::TroubleCode::Other, e.to_string());
        }
    } else {
        match store.head(&path).await {
            Ok(meta) => found.candidates.push(candidate(address, meta)),
            Err(e) => found.troubles.push((address.uri(), trouble_of_store(&e))),
        }
    }
    for candidate in &mut found.candidates {
        candidate.license.clone_from(&license);
        candidate.may_be_list = false;
    }
    found
}

async fn list_below(
    stores: &Stores,
    address: &Address,
    excluded: &[Address],
    wanted: &(dyn Fn(&str) -> bool + Sync),
    found: &mut Findings,
) -> Result<()> {
    let Place::Remote { store, path } = stores.at(address)?.place else {
        return Ok(());
    };
    let metas = all_below(store.as_ref(), &path)
        .await
        .map_err(|e| Error::store(&address.uri(), &e))?;
    for (index, meta) in metas.iter().enumerate() {
        let key = meta.location.as_ref();
        let below = key.get(path.as_ref().len()..).unwrap_or_default();
        let is_hidden = below.split('/').any(|part| part.starts_with('.'));
        // Some tools keep empty objects in place of folders.
        let is_folder_marker = meta.size == 0
            && metas[index + 1..]
                .iter()
                .take_while(|next| next.location.as_ref().starts_with(key))
                .any(|next| next.location.as_ref()[key.len()..].starts_with('/'));
        let at = with_key(address, key);
        if is_hidden || is_folder_marker || !wanted(key) || is_excluded(&at, excluded) {
            continue;
        }
        found.candidates.push(candidate(&at, meta.clone()));
    }
    Ok(())
}

async fn all_below(
    store: &dyn ObjectStore,
    prefix: &Path,
) -> object_store::Result<Vec<ObjectMeta>> {
    let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
    let mut metas: Vec<ObjectMeta> = store.list(prefix).try_collect().await?;
    metas.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(metas)
}

fn is_excluded(address: &Address, excluded: &[Address]) -> bool {
    let uri = address.uri();
    excluded.iter().any(|out| {
        let out = out.uri();
        let out = out.trim_end_matches('/');
        uri.strip_prefix(out)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn candidate(address: &Address, meta: ObjectMeta) -> Candidate {
    let address = with_key(address, meta.location.as_ref());
    let may_be_list = has_list_name(meta.location.as_ref().as_bytes());
    Candidate {
        address,
        real: None,
        bytes: meta.size,
        etag: meta.e_tag,
        license: None,
        may_be_list,
    }
}

fn with_key(address: &Address, key: &str) -> Address {
    match address {
        Address::Remote { scheme, bucket, .. } => Address::Remote {
            scheme: *scheme,
            bucket: bucket.clone(),
            key: key.to_owned(),
        },
        Address::Local(_) | Address::Web(_) => address.clone(),
    }
}
