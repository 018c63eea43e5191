//! The database as one host reaches it: whichever takes its place at present, away at times, and
//! in rough weather done with what nobody heard of.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quire_coordinator::store::*;
use quire_coordinator::{Error, JobState, Result};
use quire_core::{JobId, LeaseId, SessionId, ShardIdx};

use crate::world::World;

/// The database as one host reaches it.
#[derive(Debug)]
pub(crate) struct Database {
    world: Arc<World>,
    host: String,
}

impl Database {
    pub(crate) fn new(world: Arc<World>, host: &str) -> Self {
        let host = host.to_owned();
        Self { world, host }
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: impl AsyncFnOnce(&MemoryStore) -> Result<T>,
    ) -> Result<T> {
        let weather = &self.world.weather;
        let nth = weather.count(&format!("{} {name}", self.host));
        let named = format!("{} {name} {nth}", self.host);
        let pause = self.world.chance.within(&format!("pause {named}"), 1..8);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if weather.is_cut_off(&self.host, "database") {
            // As a pool does that waits for a connection in vain.
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(away(name));
        }
        let answer = call(&self.world.database()).await;
        if weather.is_rough() && self.world.chance.share(&named) < 0.005 {
            let note = format!("{name}: done, and the connection is lost");
            self.world.trace.note(&self.host, note);
            return Err(away(name));
        }
        answer
    }
}

fn away(action: &'static str) -> Error {
    Error::Database {
        action,
        source: sqlx::Error::PoolTimedOut,
    }
}

macro_rules! reached {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Database {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    self.call(stringify!($name), async |store: &MemoryStore| {
                        store.$name($($argument),*).await
                    })
                    .await
                }
            )*

            async fn work_announced(&self) {
                std::future::pending().await
            }
        }
    };
}

quire_coordinator::for_every_call! { reached }
