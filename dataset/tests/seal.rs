//! Sealing: parts in, versions out.

mod support;

use quire_core::JobId;
use quire_dataset::{Output, Table, seal};
use support::{commit, request, shards, some_documents};

#[tokio::test]
async fn every_row_is_in_the_version_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, n_rows) = commit(&output, "job", &rows).await;

    let sealed = seal(&output, &area, request(folder.path(), Some(n_rows)))
        .await
        .unwrap();

    assert!(sealed.is_new);
    let totals = &sealed.version.totals;
    assert_eq!((totals.documents, totals.pages, totals.errors), (12, 29, 5));
    assert_eq!(n_rows, 29 + 5 + 2);
    let files: Vec<&str> = sealed
        .version
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(
        files,
        [
            "data/v000001/pages/train/train-00000-of-00001.parquet",
            "data/v000001/pages/validation/validation-00000-of-00001.parquet",
            "data/v000001/documents/documents-00000-of-00001.parquet",
            "data/v000001/errors/errors-00000-of-00001.parquet",
        ]
    );
    assert_eq!(
        sealed
            .version
            .files_of(Table::Pages)
            .map(|file| file.rows)
            .sum::<u64>(),
        29
    );
}
