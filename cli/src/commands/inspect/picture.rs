//! The image of a page: the one in the dataset, else the source document drawn again.

use std::collections::HashSet;
use std::path::Path;

use quire_core::{PageImage, RenderSpec, Rotation};
use quire_corpus::{FoundDocument, Listed, Wanted};
use quire_dataset::{PageRow, VersionFile};
use sha2::{Digest, Sha256};

use crate::commands::run::parts;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The upright image that the page's coordinates are fractions of.
pub(crate) async fn of_page(
    context: &Context,
    version: &VersionFile,
    page: &PageRow,
) -> Outcome<PageImage> {
    match &page.image {
        Some(image) => decode(&image.bytes),
        None => draw_again(context, version, page).await,
    }
}

fn decode(bytes: &[u8]) -> Outcome<PageImage> {
    let image = image::load_from_memory(bytes).map_err(|error| {
        Failure::from(anyhow::Error::new(error)).context("cannot decode the embedded image")
    })?;
    let image = image.into_rgb8();
    let (width, height) = image.dimensions();
    Ok(PageImage {
        width,
        height,
        rgb: image.into_raw(),
        dpi: None,
    })
}

async fn draw_again(
    context: &Context,
    version: &VersionFile,
    page: &PageRow,
) -> Outcome<PageImage> {
    let document = fetch(context, page).await?;
    let content = document
        .content
        .map_err(|trouble| gone(page, &trouble.message))?;
    if hex::encode(Sha256::digest(&content)) != page.content_sha256 {
        return Err(gone(page, "its bytes are not those that were read"));
    }
    let renderer = parts::start_renderer(context.settings(), 1).await?;
    let cannot_draw = |trouble: quire_core::Trouble| {
        Failure::failed(format!("cannot draw the page again: {}", trouble.message))
    };
    let mut opened = renderer
        .open(content, &document.media_type)
        .await
        .map_err(cannot_draw)?;
    let spec = RenderSpec {
        dpi: page.render_dpi.unwrap_or(version.render.dpi),
        max_edge_px: version.render.max_edge_px,
        max_area_px: version.render.max_area_px,
    };
    let page_idx = page.page_number.unsigned_abs().saturating_sub(1);
    let drawn = opened
        .page(page_idx, &spec, false)
        .await
        .map_err(cannot_draw)?;
    // The renderer turned the page as its file says; reading may have turned it further.
    let further = Rotation::from_degrees(page.rotation - drawn.rotation.degrees());
    Ok(drawn.image.rotated(further.unwrap_or_default()))
}

async fn fetch(context: &Context, page: &PageRow) -> Outcome<FoundDocument> {
    let listed = quire_corpus::list(&context.stores, std::slice::from_ref(&page.source_uri)).await;
    let listed = listed.map_err(|error| gone(page, &error.to_string()))?;
    let entry = match listed.into_iter().next() {
        Some(Listed::Entry(entry)) => entry,
        Some(Listed::Trouble { trouble, .. }) => return Err(gone(page, &trouble.message)),
        None => return Err(gone(page, "nothing is there")),
    };
    let wanted = Wanted::Members(HashSet::from([page.source_member.clone()]));
    let limits = context.settings().input.limits();
    let mut found = quire_corpus::documents(&context.stores, &entry, wanted, &limits);
    let document = found.recv().await;
    document.ok_or_else(|| gone(page, "nothing was found in it"))
}

fn gone(page: &PageRow, reason: &str) -> Failure {
    let member = page
        .source_member
        .as_ref()
        .map_or_else(String::new, |name| format!(" > {name}"));
    let what = format!(
        "cannot read the source again ({}{member}): {reason}",
        page.source_uri
    );
    Failure::failed(what).hint(
        "the dataset holds no images; with `--no-png` the page's text and blocks are shown, and \
         `quire run --image-mode embed` keeps images",
    )
}

/// Writes a PNG.
pub(crate) fn write_png(image: &PageImage, path: &Path) -> Outcome<()> {
    let written = image::save_buffer_with_format(
        path,
        &image.rgb,
        image.width,
        image.height,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    );
    written.map_err(|error| {
        Failure::from(anyhow::Error::new(error)).context(format!("cannot write {}", path.display()))
    })
}

/// Bytes of an image as a dataset embeds it, for tests.
#[cfg(test)]
fn encoded(image: &PageImage) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(
        &mut png,
        &image.rgb,
        image.width,
        image.height,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .unwrap();
    png.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_image_is_decoded_and_written() {
        let mut image = PageImage::white(3, 2);
        image.rgb[0] = 7;
        assert_eq!(decode(&encoded(&image)).unwrap(), image);
        assert_eq!(decode(b"no image").unwrap_err().exit_code, 1);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.png");
        write_png(&image, &path).unwrap();
        assert_eq!(decode(&std::fs::read(&path).unwrap()).unwrap(), image);
        assert!(write_png(&image, &folder.path().join("no/such/folder.png")).is_err());
    }
}
