//! Writes a small made-up dataset of two versions, for trying readers on:
//! `cargo run -p quire-dataset --example make -- OUT [--images | --golden]`.

use std::path::PathBuf;

use quire_core::JobId;
use quire_dataset::{Output, seal};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Fate, Made};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: make OUT [--images | --golden]")?,
    );
    let kind = arguments.next();
    let is_golden = kind.as_deref() == Some("--golden");
    let with_images = is_golden || kind.as_deref() == Some("--images");
    let scratch = std::env::temp_dir();
    let output = Output::create_local(&out)?;

    let mut documents = support::some_documents();
    if !is_golden {
        documents.extend((20..60).map(|n| (n, Made::Pages(vec![Fate::Ok; 1 + n % 7]))));
    }
    let shards = support::shards(&JobId::new("first"), &documents, 10, with_images);
    let (area, rows) = support::commit(&output, "first", &shards).await;
    seal(&output, &area, support::request(&scratch, Some(rows))).await?;

    let again = [
        (1, Made::Pages(vec![Fate::Ok; 9])),
        (70, Made::Pages(vec![Fate::Ok; 3])),
    ];
    let shards = support::shards(&JobId::new("second"), &again, 10, with_images);
    let (area, rows) = support::commit(&output, "second", &shards).await;
    seal(&output, &area, support::request(&scratch, Some(rows))).await?;
    Ok(())
}
