//! Prints what listing and opening find in the given inputs: one line a document.

use std::collections::BTreeMap;

use quire_corpus::{Limits, Listed, Stores, Wanted, documents, list};

#[tokio::main]
#[allow(clippy::print_stdout, reason = "printing is what this example is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let inputs: Vec<String> = std::env::args().skip(1).collect();
    let stores = Stores::open(&BTreeMap::new())?;
    let limits = Limits::default();
    for listed in list(&stores, &inputs).await? {
        match listed {
            Listed::Trouble { uri, trouble } => println!("{uri}\t-\t{trouble}"),
            Listed::Entry(entry) => {
                println!(
                    "{}\t{} bytes\t{}",
                    entry.uri,
                    entry.bytes,
                    entry.license.as_deref().unwrap_or("-")
                );
                let mut found = documents(&stores, &entry, Wanted::All, &limits);
                while let Some(document) = found.recv().await {
                    let member = document.member.as_deref().unwrap_or("-");
                    let outcome = match &document.content {
                        Ok(bytes) => format!("{} bytes at {:?}", bytes.len(), document.offset),
                        Err(trouble) => trouble.to_string(),
                    };
                    println!("    {member}\t{}\t{outcome}", document.media_type);
                }
            }
        }
    }
    Ok(())
}
