//! How many rows go into each file. Pure: the cut is fixed in the seal plan before a byte is
//! written, because a file's name says how many fellows it has.

use crate::paths::DataFile;
use crate::row::Split;
use crate::schema::Table;
use crate::seal::request::PlannedFile;
use crate::seal::survey::{GroupCounts, Survey};

/// A file of pages is ended when it has this much: large enough to be few, small enough to be
/// loaded by one reader.
const FILE_BYTES: u64 = 512 << 20;
/// A row of the small tables is far below 500 bytes when compressed.
const SMALL_ROWS: u64 = 1_000_000;

/// Cuts the rows of a version into files.
pub(crate) fn cut(version: u64, survey: &Survey) -> Vec<PlannedFile> {
    let mut files = Vec::new();
    for split in [Split::Train, Split::Validation] {
        let cuts = cut_pages(&survey.groups, split, FILE_BYTES);
        files.extend(named(version, Table::Pages, Some(split), cuts));
    }
    for (table, rows) in [
        (Table::Documents, survey.n_documents),
        (Table::Errors, survey.n_errors),
    ] {
        files.extend(named(version, table, None, cut_small(rows)));
    }
    files
}

type Cut = (u64, Option<(u64, u64)>);

fn named(
    version: u64,
    table: Table,
    split: Option<Split>,
    cuts: Vec<Cut>,
) -> impl Iterator<Item = PlannedFile> {
    let count = u32::try_from(cuts.len()).unwrap_or(u32::MAX);
    (0..).zip(cuts).map(move |(idx, (rows, shards))| {
        let path = DataFile {
            version,
            table,
            split,
            idx,
            count,
        }
        .key();
        PlannedFile {
            table,
            split,
            path,
            rows,
            shards,
        }
    })
}

fn cut_pages(groups: &[GroupCounts], split: Split, file_bytes: u64) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let (mut rows, mut bytes, mut shards) = (0, 0, None::<(u64, u64)>);
    for group in groups {
        let n = match split {
            Split::Train => group.train,
            Split::Validation => group.validation,
        };
        if n == 0 {
            continue;
        }
        if bytes >= file_bytes {
            cuts.push((rows, shards));
            (rows, bytes, shards) = (0, 0, None);
        }
        rows += n;
        bytes += n * group.row_bytes;
        if let Some(shard) = group.shard_idx {
            shards = Some((shards.map_or(shard, |(first, _)| first), shard));
        }
    }
    if rows > 0 {
        cuts.push((rows, shards));
    }
    cuts
}

fn cut_small(rows: u64) -> Vec<Cut> {
    let n_files = rows.div_ceil(SMALL_ROWS);
    (0..n_files)
        .map(|at| (SMALL_ROWS.min(rows - at * SMALL_ROWS), None))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(shard_idx: u64, train: u64, validation: u64) -> GroupCounts {
        GroupCounts {
            shard_idx: Some(shard_idx),
            train,
            validation,
            row_bytes: 10,
        }
    }

    #[test]
    fn files_end_at_the_aimed_size_and_none_is_empty() {
        let groups = [
            group(0, 5, 0),
            group(1, 5, 1),
            group(2, 0, 0),
            group(3, 1, 0),
        ];
        let train = cut_pages(&groups, Split::Train, 100);
        assert_eq!(train, [(10, Some((0, 1))), (1, Some((3, 3)))]);
        assert_eq!(
            cut_pages(&groups, Split::Validation, 100),
            [(1, Some((1, 1)))]
        );
        assert_eq!(cut_pages(&[], Split::Train, 100), []);
    }

    #[test]
    fn small_tables_are_cut_by_rows() {
        assert_eq!(cut_small(0), []);
        assert_eq!(cut_small(1), [(1, None)]);
        assert_eq!(cut_small(SMALL_ROWS + 2), [(SMALL_ROWS, None), (2, None)]);
    }
}
