//! Statements, alone or several as one change.

use quire_core::{Fault, Faulty, JobId};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::connections::Conn;
use super::{PostgresStore, during, errors, rows};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::store::records::Counters;

/// `job_counters` and `failures` have so many rows a job; `quire_slot` in the migrations agrees.
pub(super) const SLOTS: u64 = 16;

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl Conn {
    /// Runs a statement; how many rows it touched.
    async fn run(&mut self, action: &'static str, statement: Statement<'_>) -> Result<u64> {
        match statement.execute(&mut **self).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// All rows that a statement gives.
    async fn all(&mut self, action: &'static str, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        match statement.fetch_all(&mut **self).await {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// Begins or ends a change.
    async fn control(&mut self, word: &'static str) -> Result<()> {
        match sqlx::raw_sql(word).execute(&mut **self).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(word, error)),
        }
    }

    fn failed(&self, action: &'static str, error: sqlx::Error) -> Error {
        let error = during(action)(error);
        // A server that went away took the other connections with it.
        if error.fault() == Fault::Unavailable && !errors::was_undone(&error) {
            self.doubt_others();
        }
        error
    }
}

impl PostgresStore {
    pub(super) async fn begin(&self) -> Result<Tx> {
        let mut conn = self.connections.take().await?;
        conn.control("BEGIN").await?;
        Ok(Tx(conn))
    }

    /// Runs one statement: a change by itself. How many rows it touched.
    pub(super) async fn run(&self, action: &'static str, statement: Statement<'_>) -> Result<u64> {
        let mut conn = self.connections.take().await?;
        let n_rows = conn.run(action, statement).await?;
        conn.keep();
        Ok(n_rows)
    }

    /// All rows that one statement gives.
    pub(super) async fn all(
        &self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<Vec<PgRow>> {
        let mut conn = self.connections.take().await?;
        let rows = conn.all(action, statement).await?;
        conn.keep();
        Ok(rows)
    }

    /// The one row that one statement gives, if it does.
    pub(super) async fn one(
        &self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<Option<PgRow>> {
        Ok(self.all(action, statement).await?.pop())
    }
}

/// A change of several statements. Dropped before its end, the connection closes and the server
/// undoes it.
pub(super) struct Tx(pub(super) Conn);

impl Tx {
    pub(super) async fn commit(mut self) -> Result<()> {
        self.0.control("COMMIT").await?;
        self.0.keep();
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<()> {
        self.0.control("ROLLBACK").await?;
        self.0.keep();
        Ok(())
    }

    pub(super) async fn run(
        &mut self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<u64> {
        self.0.run(action, statement).await
    }

    pub(super) async fn all(
        &mut self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<Vec<PgRow>> {
        self.0.all(action, statement).await
    }

    pub(super) async fn one(
        &mut self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<Option<PgRow>> {
        Ok(self.all(action, statement).await?.pop())
    }

    /// Holds the state of a job until the end of this change: whoever moves it waits.
    pub(super) async fn hold_job(&mut self, job_id: &JobId) -> Result<Option<JobState>> {
        let lock = sqlx::query("SELECT pg_advisory_xact_lock_shared(quire_job_lock($1))");
        self.run("hold a job", lock.bind(job_id.as_str())).await?;
        let read = sqlx::query("SELECT state FROM jobs WHERE job_id = $1").bind(job_id.as_str());
        let row = self.one("read a job", read).await?;
        row.as_ref().map(rows::job_state).transpose()
    }

    /// Adds to the sums of a job, in one slot. Last in a change: others wait for that slot.
    pub(super) async fn count(&mut self, job_id: &JobId, slot: u64, by: &Counters) -> Result<()> {
        if *by == Counters::default() {
            return Ok(());
        }
        let statement = sqlx::query(
            "UPDATE job_counters SET pending = pending + $3, leased = leased + $4, \
             committed = committed + $5, published = published + $6, halved = halved + $7, \
             quarantined = quarantined + $8, rows_ok = rows_ok + $9, \
             rows_failed = rows_failed + $10, rows_skipped = rows_skipped + $11, \
             rows_published = rows_published + $12, rows_quarantined = rows_quarantined + $13 \
             WHERE job_id = $1 AND slot = $2",
        )
        .bind(job_id.as_str())
        .bind(i16::try_from(slot % SLOTS).unwrap_or(0))
        .bind(by.pending)
        .bind(by.leased)
        .bind(by.committed)
        .bind(by.published)
        .bind(by.halved)
        .bind(by.quarantined)
        .bind(by.rows_ok)
        .bind(by.rows_failed)
        .bind(by.rows_skipped)
        .bind(by.rows_published)
        .bind(by.rows_quarantined);
        self.run("count", statement).await?;
        Ok(())
    }

    /// Ends every lease of these shards.
    pub(super) async fn fence_shards(&mut self, job_id: &JobId, shard_idxs: &[i64]) -> Result<()> {
        let statement = sqlx::query("DELETE FROM leases WHERE job_id = $1 AND shard_idx = ANY($2)")
            .bind(job_id.as_str())
            .bind(shard_idxs);
        self.run("end leases", statement).await?;
        Ok(())
    }
}
