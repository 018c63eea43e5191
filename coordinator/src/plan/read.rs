//! Plan lines back from their objects, for halving and quarantine. Workers read them themselves.

use std::sync::Arc;

use quire_core::{PlannedDocument, shard_lines};
use quire_dataset::JobArea;

use crate::error::{Error, Result};
use crate::store::Span;

/// The lines of a plan object, one parsed document each.
pub(crate) async fn group_lines(area: &JobArea, group: u32) -> Result<Arc<[PlannedDocument]>> {
    let content = area
        .plan_group(u64::from(group))
        .await
        .map_err(|source| Error::Dataset {
            action: format!("read the plan of job {}", area.job_id()),
            source: Box::new(source),
        })?;
    content
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|source| Error::Stored {
                what: format!("a line of plan object {group}"),
                job_id: area.job_id().clone(),
                source,
            })
        })
        .collect()
}

/// The lines of one shard: whole ones as they stand in the plan, and cut to the shard's rows.
pub(crate) struct ShardLines {
    /// Rows of each whole line.
    pub line_rows: Vec<u32>,
    /// Cut to the shard.
    pub lines: Vec<PlannedDocument>,
}

/// Reads the lines of a shard.
pub(crate) async fn lines_of(area: &JobArea, span: &Span) -> Result<ShardLines> {
    let group = group_lines(area, span.group).await?;
    let whole = group.get(span.line_start as usize..span.line_end as usize);
    let Some(whole) = whole else {
        return Err(Error::Contradiction {
            job_id: area.job_id().clone(),
            message: format!("plan object {} has no line {}", span.group, span.line_end),
        });
    };
    Ok(ShardLines {
        line_rows: whole.iter().map(PlannedDocument::n_rows).collect(),
        lines: shard_lines(whole, span.skip_rows, span.n_rows),
    })
}
