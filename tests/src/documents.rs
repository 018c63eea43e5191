//! Documents made on the spot.

use std::fmt::Write as _;

/// A PDF of `n_pages` small pages; each says its own number and `salt`.
pub fn pdf(n_pages: usize, salt: &str) -> Vec<u8> {
    let mut file = String::from("%PDF-1.4\n");
    let mut offsets = Vec::new();
    let mut object = |file: &mut String, body: &str| {
        offsets.push(file.len());
        let number = offsets.len();
        write!(file, "{number} 0 obj\n{body}\nendobj\n").expect("writing to a string cannot fail");
    };
    let first_page = 4;
    let kids: Vec<String> = (0..n_pages)
        .map(|page| format!("{} 0 R", first_page + 2 * page))
        .collect();
    object(&mut file, "<< /Type /Catalog /Pages 2 0 R >>");
    let pages = format!(
        "<< /Type /Pages /Count {n_pages} /Kids [{}] >>",
        kids.join(" ")
    );
    object(&mut file, &pages);
    object(
        &mut file,
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    );
    for page in 0..n_pages {
        let contents = first_page + 2 * page + 1;
        object(
            &mut file,
            &format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents {contents} 0 R \
                 /Resources << /Font << /F1 3 0 R >> >> >>"
            ),
        );
        let text = format!("BT /F1 12 Tf 10 50 Td (page {} of {salt}) Tj ET", page + 1);
        object(
            &mut file,
            &format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        );
    }
    let start = file.len();
    let n_objects = offsets.len() + 1;
    write!(file, "xref\n0 {n_objects}\n0000000000 65535 f \n")
        .expect("writing to a string cannot fail");
    for offset in offsets {
        writeln!(file, "{offset:010} 00000 n ").expect("writing to a string cannot fail");
    }
    write!(
        file,
        "trailer\n<< /Size {n_objects} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    )
    .expect("writing to a string cannot fail");
    file.into_bytes()
}
