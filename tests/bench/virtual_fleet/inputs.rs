//! Documents that only say how many pages they have, in archives, since a file each would be more
//! than a file system likes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::Survey;
use quire_core::{Stage, Trouble, TroubleCode};

/// Documents of one archive.
const DOCUMENTS: u64 = 10_000;
/// Size of a header of tar, and of everything in it.
const BLOCK: usize = 512;

/// Writes archives of so many documents.
pub(crate) fn write(folder: &Path, documents: u64, pages: u32) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).context("a folder for inputs")?;
    for first in (0..documents).step_by(DOCUMENTS as usize) {
        let path = folder.join(format!("documents-{first:09}.tar"));
        let mut file = BufWriter::new(File::create(path).context("an archive")?);
        for number in first..documents.min(first + DOCUMENTS) {
            let content = format!("%PDF-1.7\nnumber={number} pages={pages} \n");
            let mut block = [0_u8; BLOCK];
            block[..content.len()].copy_from_slice(content.as_bytes());
            file.write_all(&header(number, content.len()))?;
            file.write_all(&block)?;
        }
        file.write_all(&[0; 2 * BLOCK])?;
        file.flush().context("an archive")?;
    }
    Ok(())
}

/// A header of ustar.
fn header(number: u64, size: usize) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, &format!("{number:09}.pdf"));
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    // The sum counts its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
    block
}

/// Takes the page count that a document says it has.
#[derive(Debug)]
pub(crate) struct SaidPages;

#[async_trait]
impl Survey for SaidPages {
    async fn count_pages(&self, content: Bytes, _: &str) -> Result<u32, Trouble> {
        let text = String::from_utf8_lossy(&content);
        let said = text
            .split_once("pages=")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|said| said.parse().ok());
        said.ok_or_else(|| Trouble::new(Stage::Open, TroubleCode::Damaged, "says no pages"))
    }
}
