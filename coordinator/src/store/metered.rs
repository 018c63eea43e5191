//! A store whose calls are counted and timed.

use std::sync::Arc;

use async_trait::async_trait;
use quire_core::{JobId, LeaseId, SessionId, ShardIdx};
use tokio::time::Instant;

use super::records::*;
use super::{JobQuery, QuarantineQuery, ShardQuery, Store};
use crate::error::Result;
use crate::job::JobState;
use crate::metrics;

/// A store whose calls are counted and timed.
#[derive(Debug)]
pub(crate) struct MeteredStore(pub(crate) Arc<dyn Store>);

macro_rules! metered {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for MeteredStore {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    let start = Instant::now();
                    let answer = self.0.$name($($argument),*).await;
                    let error = answer.as_ref().err();
                    metrics::stored(stringify!($name), start.elapsed(), error);
                    answer
                }
            )*

            async fn work_announced(&self) {
                self.0.work_announced().await;
            }
        }
    };
}

for_every_call! { metered }
