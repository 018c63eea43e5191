//! The user's condition over the errors table, judged by SQLite in memory: its words, its
//! functions and its messages.

use quire_dataset::ErrorRow;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::failure::{Failure, Outcome};

/// As dataset.md names them; `engines_tried` is a JSON list.
const CREATE: &str = "CREATE TABLE errors (doc_id TEXT, page_id TEXT, page_number INTEGER, \
    source_uri TEXT, source_member TEXT, media_type TEXT, stage TEXT, code TEXT, message TEXT, \
    retryable INTEGER, attempts INTEGER, engines_tried TEXT, elapsed_ms INTEGER, job_id TEXT, \
    shard_idx INTEGER)";

const AFTER: &str = "\n) ORDER BY rowid";

const INSERT: &str = "INSERT INTO errors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The rows for which the condition holds, in their order.
pub(crate) async fn matching(rows: Vec<ErrorRow>, condition: &str) -> Outcome<Vec<ErrorRow>> {
    let mut database = load(&rows).await.map_err(|error| {
        Failure::from(anyhow::Error::new(error)).context("cannot load the errors table")
    })?;
    let chosen = select(&mut database, condition).await.map_err(|error| {
        let message = match &error {
            // SQLite quotes to the end of the query, which the user did not write.
            sqlx::Error::Database(said) => said.message().replace(AFTER, ""),
            other => other.to_string(),
        };
        Failure::usage(format!("--where: {message}")).hint(
            "a condition in SQLite's SQL on doc_id, page_id, page_number, source_uri, \
             source_member, media_type, stage, code, message, retryable, attempts, \
             engines_tried, elapsed_ms, job_id and shard_idx, such as \"code = 'timeout'\"",
        )
    })?;
    let mut wanted = chosen.into_iter().peekable();
    let numbered = (1_i64..).zip(rows);
    Ok(numbered
        .filter(|(number, _)| wanted.next_if_eq(number).is_some())
        .map(|(_, row)| row)
        .collect())
}

async fn load(rows: &[ErrorRow]) -> sqlx::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .in_memory(true)
        .disable_statement_logging();
    let mut database = options.connect().await?;
    let mut transaction = database.begin().await?;
    sqlx::query(CREATE).execute(&mut *transaction).await?;
    for row in rows {
        let engines = serde_json::to_string(&row.engines_tried).unwrap_or_default();
        sqlx::query(INSERT)
            .bind(row.doc_id.as_str())
            .bind(&row.page_id)
            .bind(row.page_number)
            .bind(&row.source_uri)
            .bind(&row.source_member)
            .bind(&row.media_type)
            .bind(row.stage.as_str())
            .bind(row.code.as_str())
            .bind(&row.message)
            .bind(row.retryable)
            .bind(row.attempts)
            .bind(engines)
            .bind(row.elapsed_ms)
            .bind(row.job_id.as_str())
            .bind(row.shard_idx)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    sqlx::query("PRAGMA query_only = ON")
        .execute(&mut database)
        .await?;
    Ok(database)
}

async fn select(database: &mut SqliteConnection, condition: &str) -> sqlx::Result<Vec<i64>> {
    // On a line of its own, so that a comment at its end does not swallow the parenthesis.
    let query = format!("SELECT rowid FROM errors WHERE (\n{condition}{AFTER}");
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(database)
        .await
}

#[cfg(test)]
mod tests {
    use quire_core::{DocId, JobId, Stage, TroubleCode};

    use super::*;

    fn row(name: &str, code: TroubleCode, page: Option<i32>, attempts: i32) -> ErrorRow {
        let doc_id = DocId::of(name, None);
        ErrorRow {
            page_id: page.map(|page| quire_core::page_id(&doc_id, page.unsigned_abs())),
            doc_id,
            page_number: page,
            source_uri: name.into(),
            source_member: None,
            media_type: "application/pdf".into(),
            stage: Stage::Render,
            code,
            message: "it's over".into(),
            retryable: code.is_retryable(),
            attempts,
            engines_tried: vec!["pp-ocr".into()],
            elapsed_ms: None,
            job_id: JobId::new("j"),
            shard_idx: 0,
        }
    }

    async fn names(condition: &str) -> Outcome<Vec<String>> {
        let rows = vec![
            row("a", TroubleCode::Timeout, Some(1), 1),
            row("b", TroubleCode::Damaged, None, 1),
            row("c", TroubleCode::Timeout, Some(3), 4),
        ];
        let chosen = matching(rows, condition).await?;
        Ok(chosen.into_iter().map(|row| row.source_uri).collect())
    }

    #[tokio::test]
    async fn condition_chooses_rows_in_order() {
        for (condition, expected) in [
            ("code = 'timeout'", vec!["a", "c"]),
            ("code = 'timeout' AND attempts < 3", vec!["a"]),
            ("page_number IS NULL", vec!["b"]),
            ("retryable", vec!["a", "c"]),
            ("message LIKE '%it''s%' -- all of them", vec!["a", "b", "c"]),
            ("0", vec![]),
        ] {
            assert_eq!(names(condition).await.unwrap(), expected, "{condition}");
        }
    }

    #[tokio::test]
    async fn bad_condition_is_answered_with_what_sqlite_says() {
        for (condition, said) in [
            ("kode = 'timeout'", "no such column: kode"),
            ("code = ", "syntax error"),
            ("code = 'x", "unrecognized token: \"'x\""),
            ("1); DELETE FROM errors; SELECT (1", "readonly"),
        ] {
            let failure = names(condition).await.unwrap_err();
            assert_eq!(failure.exit_code, 2);
            assert!(failure.message().contains(said), "{}", failure.message());
        }
    }
}
