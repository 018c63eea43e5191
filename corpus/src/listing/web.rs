//! Objects at web addresses: one object each, since the web has no folders to list.

use quire_core::{Stage, Trouble, TroubleCode};
use url::Url;

use super::{Candidate, Findings};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::stores::Stores;

/// Finds the object that an input names. The text says why nothing was found.
pub(super) async fn find(stores: &Stores, url: &Url, found: &mut Findings) -> Result<&'static str> {
    stores.web().allow(url)?;
    match stores.web().look(url).await {
        Ok(meta) => {
            found.candidates.push(Candidate {
                address: Address::Web(url.clone()),
                real: None,
                bytes: meta.bytes,
                etag: meta.etag,
                license: None,
                may_be_list: true,
            });
            Ok("")
        }
        Err(trouble) if trouble.code == TroubleCode::NotFound => {
            Ok("the server has nothing at this address")
        }
        Err(trouble) => Err(Error::Store {
            uri: Address::Web(url.clone()).uri(),
            lasting: trouble.code != TroubleCode::Timeout,
            message: trouble.message,
        }),
    }
}

/// Adds the object that a line of a list names.
pub(super) async fn add_listed(stores: &Stores, url: &Url, license: Option<String>) -> Findings {
    let mut found = Findings::default();
    let address = Address::Web(url.clone());
    let looked = match stores.web().allow(url) {
        Ok(()) => stores.web().look(url).await,
        Err(e) => Err(Trouble::new(
            Stage::Fetch,
            TroubleCode::Denied,
            e.to_string(),
        )),
    };
    match looked {
        Ok(meta) => found.candidates.push(Candidate {
            address,
            real: None,
            bytes: meta.bytes,
            etag: meta.etag,
            license,
            may_be_list: false,
        }),
        Err(trouble) => found.troubles.push((address.uri(), trouble)),
    }
    found
}
