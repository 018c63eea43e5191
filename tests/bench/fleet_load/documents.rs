//! Documents with many pages that cost next to nothing to plan: PDF files whose pages are all the
//! same empty one.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

/// Pages of one document.
const PAGES: u64 = 1000;

/// Writes documents with so many pages altogether; how many documents there are.
pub(crate) fn write(folder: &Path, pages: u64) -> anyhow::Result<u64> {
    std::fs::create_dir_all(folder).context("a folder for documents")?;
    let mut left = pages;
    let mut written = 0;
    while left > 0 {
        let count = left.min(PAGES);
        let path = folder.join(format!("document-{written:05}.pdf"));
        std::fs::write(&path, document(written, count)).context("a document")?;
        left -= count;
        written += 1;
    }
    Ok(written)
}

/// A PDF file of `count` pages. Its number is in it, since equal documents are read only once.
fn document(number: u64, count: u64) -> String {
    let mut text = format!("%PDF-1.4\n%{number}\n");
    let mut offsets = Vec::new();
    let mut object = |text: &mut String, content: &str| {
        offsets.push(text.len());
        let id = offsets.len();
        write!(text, "{id} 0 obj\n{content}\nendobj\n").expect("a string takes everything");
    };
    object(&mut text, "<< /Type /Catalog /Pages 2 0 R >>");
    let mut kids = String::new();
    for page in 0..count {
        write!(kids, "{} 0 R ", page + 3).expect("a string takes everything");
    }
    let pages = format!("<< /Type /Pages /Count {count} /MediaBox [0 0 72 72] /Kids [{kids}] >>");
    object(&mut text, &pages);
    for _ in 0..count {
        object(&mut text, "<< /Type /Page /Parent 2 0 R >>");
    }
    let start = text.len();
    let size = offsets.len() + 1;
    write!(text, "xref\n0 {size}\n0000000000 65535 f \n").expect("a string takes everything");
    for offset in offsets {
        writeln!(text, "{offset:010} 00000 n ").expect("a string takes everything");
    }
    write!(
        text,
        "trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    )
    .expect("a string takes everything");
    text
}
