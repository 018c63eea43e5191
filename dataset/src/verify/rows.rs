//! What every row must satisfy by itself, and what is counted over rows to compare the tables.

use std::collections::{HashMap, HashSet};

use quire_core::{DocId, Quad, Rect, page_id};
use sha2::{Digest, Sha256};
use unicode_normalization::is_nfc;

use crate::row::{DocumentRow, DocumentStatus, ErrorRow, PageRow};
use crate::seal::{DocKey, doc_key};
use crate::split::SplitRule;
use crate::verify::VerifyReport;
use crate::version::FileEntry;

const MAX_IMAGE_BYTES: usize = 2_000_000;
const MAX_MESSAGE_BYTES: usize = 2048;

/// What the tables say of a document, other than its own row.
#[derive(Debug, Default)]
struct Tally {
    pages_ok: i32,
    pages_failed: i32,
    has_failure: bool,
    text_chars: i64,
    has_row: bool,
}

/// Sums over all rows.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// First half of the SHA-256 of each id in `pages` and `errors`.
    page_ids: HashSet<[u8; 16]>,
    documents: HashMap<DocKey, Tally>,
    rows: Vec<Told>,
    duplicate_of: Vec<(DocId, DocKey)>,
}

/// What a row of `documents` says, kept until all rows were seen.
#[derive(Debug)]
struct Told {
    file: String,
    doc_id: DocId,
    status: DocumentStatus,
    page_count: Option<i32>,
    pages_ok: i32,
    pages_failed: i32,
    text_chars: i64,
}

impl Tallies {
    fn is_new_page(&mut self, page_id: &str) -> bool {
        let digest = Sha256::digest(page_id);
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        self.page_ids.insert(half)
    }

    fn of(&mut self, doc_id: &DocId) -> &mut Tally {
        self.documents.entry(doc_key(doc_id)).or_default()
    }

    /// Compares each document's row with its pages and errors.
    pub(super) fn check_documents(&mut self, report: &mut VerifyReport) {
        for told in std::mem::take(&mut self.rows) {
            let tally = self.documents.entry(doc_key(&told.doc_id)).or_default();
            let id = || Some(told.doc_id.to_string());
            for (column, said, counted) in [
                (
                    "pages_ok",
                    i64::from(told.pages_ok),
                    i64::from(tally.pages_ok),
                ),
                (
                    "pages_failed",
                    i64::from(told.pages_failed),
                    i64::from(tally.pages_failed),
                ),
                ("text_chars", told.text_chars, tally.text_chars),
            ] {
                if said != counted {
                    let what = format!("{column} is {said}, its rows add up to {counted}");
                    report.add(&told.file, id(), what);
                }
            }
            if let Some(what) = wrong_status(&told, tally) {
                report.add(&told.file, id(), what);
            }
        }
        for (doc_id, original) in std::mem::take(&mut self.duplicate_of) {
            if self
                .documents
                .get(&original)
                .is_none_or(|tally| !tally.has_row)
            {
                let what = "is the duplicate of a document that has no row";
                report.add("documents", Some(doc_id.to_string()), what);
            }
        }
        let lost = self
            .documents
            .values()
            .filter(|tally| !tally.has_row)
            .count();
        if lost > 0 {
            let what = format!("{lost} documents have pages or errors and no row of their own");
            report.add("documents", None, what);
        }
    }
}

fn wrong_status(told: &Told, tally: &Tally) -> Option<String> {
    let (ok, failed) = (tally.pages_ok, tally.pages_failed);
    let fits = match told.status {
        DocumentStatus::Complete => ok > 0 && failed == 0 && !tally.has_failure,
        DocumentStatus::Partial => ok > 0 && (failed > 0 || tally.has_failure),
        DocumentStatus::Failed => ok == 0 && (failed > 0 || tally.has_failure),
        DocumentStatus::Duplicate | DocumentStatus::Filtered => {
            ok == 0 && failed == 0 && !tally.has_failure
        }
    };
    let status = told.status;
    if !fits {
        return Some(format!(
            "status {status} with {ok} pages read and {failed} failed"
        ));
    }
    let is_left_out = matches!(status, DocumentStatus::Duplicate | DocumentStatus::Filtered);
    match told.page_count {
        Some(count) if !is_left_out && !tally.has_failure && count != ok + failed => {
            Some(format!("has {count} pages, {ok} read and {failed} failed"))
        }
        _ => None,
    }
}

/// A row that can be checked.
pub(super) trait CheckedRow {
    fn check(
        &self,
        file: &FileEntry,
        split: &SplitRule,
        tallies: &mut Tallies,
        report: &mut VerifyReport,
    );
}

impl CheckedRow for PageRow {
    fn check(
        &self,
        file: &FileEntry,
        split: &SplitRule,
        tallies: &mut Tallies,
        report: &mut VerifyReport,
    ) {
        report.pages += 1;
        let mut wrong = |what: String| report.add(&file.path, Some(self.page_id.clone()), what);
        if !tallies.is_new_page(&self.page_id) {
            wrong("is there twice".to_owned());
        }
        let tally = tallies.of(&self.doc_id);
        tally.pages_ok += 1;
        tally.text_chars += i64::from(self.text_chars);
        check_identity(self, &mut wrong);
        if self.split != split.side(&self.content_sha256) || file.split != Some(self.split) {
            wrong(format!("is in the wrong split, {}", self.split));
        }
        check_text(self, &mut wrong);
        check_layout(self, &mut wrong);
        check_numbers(self, &mut wrong);
        check_image(self, &mut wrong);
    }
}

fn check_identity(page: &PageRow, wrong: &mut impl FnMut(String)) {
    let number = u32::try_from(page.page_number).unwrap_or(0);
    if number == 0
        || page
            .page_count
            .is_some_and(|count| page.page_number > count)
    {
        wrong(format!(
            "page_number {} of {:?}",
            page.page_number, page.page_count
        ));
    }
    if page.page_id != page_id(&page.doc_id, number) {
        wrong(format!(
            "page_id does not go with {} page {number}",
            page.doc_id
        ));
    }
    if page.doc_id != DocId::of(&page.source_uri, page.source_member.as_deref()) {
        wrong("doc_id is not that of source_uri and source_member".to_owned());
    }
    if !is_sha256(&page.content_sha256) {
        wrong(format!("content_sha256 {:?} is none", page.content_sha256));
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_text(page: &PageRow, wrong: &mut impl FnMut(String)) {
    let n_chars = page.text.chars().count();
    if i32::try_from(n_chars) != Ok(page.text_chars) {
        wrong(format!(
            "text_chars is {}, text has {n_chars}",
            page.text_chars
        ));
    }
    if !is_nfc(&page.text) {
        wrong("text is not NFC".to_owned());
    }
    if page.text.contains('\r') {
        wrong("text has a carriage return".to_owned());
    }
    for (at, block) in page.layout.iter().enumerate() {
        let Some(range) = &block.text_range else {
            continue;
        };
        if range.start > range.end || range.end as usize > n_chars {
            wrong(format!("layout {at} has text {range:?} of {n_chars}"));
        }
        if block.label.is_furniture() {
            wrong(format!(
                "layout {at} is a {} and has a place in the text",
                block.label
            ));
        }
    }
}

fn check_layout(page: &PageRow, wrong: &mut impl FnMut(String)) {
    let n_blocks = page.layout.len();
    for (at, block) in page.layout.iter().enumerate() {
        check_box(
            &block.rect,
            block.quad.as_ref(),
            &format!("layout {at}"),
            wrong,
        );
        check_share(block.confidence, &format!("layout {at} confidence"), wrong);
        if block
            .parent
            .is_some_and(|parent| parent as usize >= n_blocks || parent as usize == at)
        {
            wrong(format!(
                "layout {at} has parent {:?} of {n_blocks} blocks",
                block.parent
            ));
        }
        if block.level == Some(0) {
            wrong(format!("layout {at} has level 0"));
        }
    }
    for (at, line) in page.lines.iter().flatten().enumerate() {
        check_box(
            &line.rect,
            line.quad.as_ref(),
            &format!("lines {at}"),
            wrong,
        );
        check_share(
            Some(line.confidence),
            &format!("lines {at} confidence"),
            wrong,
        );
        if line.block.is_some_and(|block| block as usize >= n_blocks) {
            wrong(format!(
                "lines {at} is in block {:?} of {n_blocks}",
                line.block
            ));
        }
    }
}

fn check_box(rect: &Rect, quad: Option<&Quad>, name: &str, wrong: &mut impl FnMut(String)) {
    let Rect { x0, y0, x1, y1 } = *rect;
    let is_inside = [x0, y0, x1, y1]
        .iter()
        .all(|edge| (0.0..=1.0).contains(edge));
    if !is_inside || x0 > x1 || y0 > y1 {
        wrong(format!("{name} has the box {x0} {y0} {x1} {y1}"));
    }
    let corners = quad.into_iter().flat_map(|quad| quad.0.as_flattened());
    if corners.into_iter().any(|edge| !(0.0..=1.0).contains(edge)) {
        wrong(format!("{name} has a quad outside the page"));
    }
}

fn check_share(share: Option<f32>, name: &str, wrong: &mut impl FnMut(String)) {
    if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        wrong(format!("{name} is {}", share.unwrap_or_default()));
    }
}

fn check_numbers(page: &PageRow, wrong: &mut impl FnMut(String)) {
    for (name, share) in [
        ("language_score", page.language_score),
        ("confidence", page.confidence),
        ("confidence_p10", page.confidence_p10),
        ("repetition", page.repetition),
        ("text_layer_agreement", page.text_layer_agreement),
        ("quality", page.quality),
    ] {
        check_share(share, name, wrong);
    }
    if !matches!(page.rotation, 0 | 90 | 180 | 270) {
        wrong(format!("rotation is {}", page.rotation));
    }
    for (name, size) in [
        ("image_width", page.image_width),
        ("image_height", page.image_height),
    ] {
        if size.is_some_and(|size| size <= 0) {
            wrong(format!("{name} is {size:?}"));
        }
    }
    let reason = page.finish_reason.as_deref();
    if !matches!(reason, None | Some("stop" | "length" | "repetition")) {
        wrong(format!("finish_reason is {reason:?}"));
    }
}

fn check_image(page: &PageRow, wrong: &mut impl FnMut(String)) {
    let Some(image) = &page.image else { return };
    if image.path != format!("{}.jpg", page.page_id) {
        wrong(format!("image.path is {:?}", image.path));
    }
    let is_jpeg = image.bytes.starts_with(&[0xff, 0xd8, 0xff]);
    let is_webp = image.bytes.starts_with(b"RIFF") && image.bytes.get(8..12) == Some(b"WEBP");
    if !is_jpeg && !is_webp {
        wrong("image is neither JPEG nor WebP".to_owned());
    }
    if image.bytes.len() >= MAX_IMAGE_BYTES {
        wrong(format!("image has {} bytes", image.bytes.len()));
    }
    let sha256 = hex::encode(Sha256::digest(&image.bytes));
    if page
        .image_sha256
        .as_ref()
        .is_some_and(|said| *said != sha256)
    {
        wrong("image_sha256 is not that of image".to_owned());
    }
}

impl CheckedRow for DocumentRow {
    fn check(
        &self,
        file: &FileEntry,
        split: &SplitRule,
        tallies: &mut Tallies,
        report: &mut VerifyReport,
    ) {
        report.documents += 1;
        let mut wrong = |what: String| report.add(&file.path, Some(self.doc_id.to_string()), what);
        let tally = tallies.of(&self.doc_id);
        if std::mem::replace(&mut tally.has_row, true) {
            wrong("is there twice".to_owned());
        }
        if self.doc_id != DocId::of(&self.source_uri, self.source_member.as_deref()) {
            wrong("doc_id is not that of source_uri and source_member".to_owned());
        }
        let expected = self
            .content_sha256
            .as_deref()
            .map(|content| split.side(content));
        if self.split != expected {
            wrong(format!("is in the wrong split, {:?}", self.split));
        }
        match (&self.duplicate_of, self.status) {
            (Some(original), DocumentStatus::Duplicate) => {
                tallies
                    .duplicate_of
                    .push((self.doc_id.clone(), doc_key(original)));
            }
            (None, DocumentStatus::Duplicate) => wrong("is the duplicate of nothing".to_owned()),
            (Some(_), status) => wrong(format!("has an original and the status {status}")),
            (None, _) => {}
        }
        tallies.rows.push(Told {
            file: file.path.clone(),
            doc_id: self.doc_id.clone(),
            status: self.status,
            page_count: self.page_count,
            pages_ok: self.pages_ok,
            pages_failed: self.pages_failed,
            text_chars: self.text_chars,
        });
    }
}

impl CheckedRow for ErrorRow {
    fn check(
        &self,
        file: &FileEntry,
        _split: &SplitRule,
        tallies: &mut Tallies,
        report: &mut VerifyReport,
    ) {
        report.errors += 1;
        let numbered = |number| page_id(&self.doc_id, u32::try_from(number).unwrap_or(0));
        let expected = self.page_number.map(numbered);
        let id = self
            .page_id
            .clone()
            .unwrap_or_else(|| self.doc_id.to_string());
        let mut wrong = |what: String| report.add(&file.path, Some(id.clone()), what);
        if self.page_id != expected || self.page_number.is_some_and(|number| number < 1) {
            wrong(format!(
                "page_id does not go with page {:?}",
                self.page_number
            ));
        }
        if !tallies.is_new_page(&id) {
            wrong("is there twice".to_owned());
        }
        if self.doc_id != DocId::of(&self.source_uri, self.source_member.as_deref()) {
            wrong("doc_id is not that of source_uri and source_member".to_owned());
        }
        if self.message.len() > MAX_MESSAGE_BYTES {
            wrong(format!("message has {} bytes", self.message.len()));
        }
        let tally = tallies.of(&self.doc_id);
        match self.page_number {
            Some(_) => tally.pages_failed += 1,
            None => tally.has_failure = true,
        }
    }
}
