//! `quire inspect`: what is in a dataset, or one page of it with its boxes drawn.

mod count;
mod page;
mod picture;
mod report;

use std::path::{Path, PathBuf};

use quire_dataset::PageRow;
use quire_dataset::reader::Dataset as Reader;

use crate::args::InspectArgs;
use crate::context::{Context, Dataset};
use crate::draw;
use crate::facts;
use crate::failure::{Failure, Outcome};
use crate::output;

use page::PageView;
use report::{Report, VersionLine};

/// Shows a dataset or a page.
pub(crate) async fn execute(context: &Context, args: InspectArgs) -> Outcome<()> {
    let dataset = context.open_dataset(&args.out)?;
    let reader = dataset.reader().await?;
    match &args.page {
        Some(page_id) => show_page(context, &args, &dataset, &reader, page_id).await,
        None => show_dataset(context, &dataset, &reader).await,
    }
}

async fn show_dataset(context: &Context, dataset: &Dataset, reader: &Reader) -> Outcome<()> {
    let version = reader.version();
    let (documents, media_types) = count::documents(reader).await?;
    let report = Report {
        out: dataset.name.clone(),
        version: version.version,
        versions: versions(dataset).await?,
        documents,
        media_types,
        pages: count::pages(reader).await?,
        errors: version.totals.errors,
        failures: facts::failures(reader).await?,
    };
    if context.json {
        output::print_json(&report)
    } else {
        output::print(&report.text())
    }
}

async fn versions(dataset: &Dataset) -> Outcome<Vec<VersionLine>> {
    let mut lines = Vec::new();
    for number in dataset.output.versions().await.map_err(Failure::of)? {
        let version = dataset.output.version(number).await.map_err(Failure::of)?;
        lines.push(VersionLine {
            version: version.version,
            created_at: version.created_at,
            documents: version.totals.documents,
            pages: version.totals.pages,
            errors: version.totals.errors,
        });
    }
    Ok(lines)
}

async fn show_page(
    context: &Context,
    args: &InspectArgs,
    dataset: &Dataset,
    reader: &Reader,
    page_id: &str,
) -> Outcome<()> {
    let found = reader.page(page_id).await.map_err(Failure::of)?;
    let row = found.ok_or_else(|| {
        let what = format!("version {} has no page {page_id}", reader.version().version);
        Failure::failed(what)
            .hint("page ids are in the column `page_id` of pages; a page that failed is in errors")
    })?;
    let mut view = PageView::of(&row);
    let drawn = if args.no_png {
        Ok(None)
    } else {
        draw(context, args, reader, &row).await.map(Some)
    };
    view.png = drawn
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|path| path.display().to_string());
    if context.json {
        output::print_json(&view)?;
    } else {
        output::print(&view.text())?;
    }
    // The page itself is shown even if its picture cannot be made.
    drawn.map(|_| ()).map_err(|failure| {
        failure.context(format!(
            "no boxes were drawn for a page of {}",
            dataset.name
        ))
    })
}

async fn draw(
    context: &Context,
    args: &InspectArgs,
    reader: &Reader,
    row: &PageRow,
) -> Outcome<PathBuf> {
    let mut image = picture::of_page(context, reader.version(), row).await?;
    draw::draw_blocks(&mut image, &row.layout);
    let path = args
        .png
        .clone()
        .unwrap_or_else(|| Path::new(&row.page_id).with_extension("png"));
    picture::write_png(&image, &path)?;
    Ok(path)
}
