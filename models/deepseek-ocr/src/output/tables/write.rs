//! Tables written out: as HTML, and as plain text.

use std::fmt::Write as _;

use super::Table;
use super::tags::close;

impl Table {
    /// Cells by tab, rows by newline. A cell that covers several is followed by empty ones, to
    /// its right and below.
    pub(in crate::output) fn plain(&self) -> String {
        // Rows that a cell above still covers, by column.
        let mut covered: Vec<usize> = Vec::new();
        let rows = self.rows.iter().map(|row| {
            let mut texts: Vec<&str> = Vec::new();
            for cell in row {
                skip_covered(&mut covered, &mut texts);
                for column in 0..cell.columns {
                    if covered.len() <= texts.len() {
                        covered.push(0);
                    }
                    covered[texts.len()] = cell.rows - 1;
                    texts.push(if column == 0 { &cell.plain } else { "" });
                }
            }
            // Covered cells to the right of the row's last.
            for below in covered.iter_mut().skip(texts.len()) {
                *below = below.saturating_sub(1);
            }
            let mut line = texts.join("\t");
            line.truncate(line.trim_end_matches('\t').len());
            line
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// The table without attributes but spans, and without empty lines, so that Markdown takes it
    /// as one block.
    pub(in crate::output) fn html(&self) -> String {
        let mut out = String::from("<table>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for cell in row {
                let name = if cell.is_head { "th" } else { "td" };
                out.push('<');
                out.push_str(name);
                for (attribute, n) in [("colspan", cell.columns), ("rowspan", cell.rows)] {
                    if n > 1 {
                        // Writing to a string cannot fail.
                        write!(out, " {attribute}=\"{n}\"").unwrap_or_default();
                    }
                }
                out.push('>');
                out.push_str(&cell.html);
                close(&mut out, name);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>");
        out
    }
}

/// Empty cells for the columns that cells above reach down into.
fn skip_covered(covered: &mut [usize], texts: &mut Vec<&str>) {
    while let Some(below) = covered.get_mut(texts.len()).filter(|below| **below > 0) {
        *below -= 1;
        texts.push("");
    }
}
