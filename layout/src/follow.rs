//! Whether a row goes on with the paragraph before it: what white space, indentation, size, a
//! line's end and its start say together.

use quire_core::Label;

use crate::chars::{ends_sentence, is_cjk, is_hyphen, width_units};
use crate::draft::Page;
use crate::flow::Column;
use crate::label::is_footnote_mark;
use crate::lists::{Kind, marker};
use crate::rows::Row;
use crate::tables;

/// How a row follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// The same paragraph goes on.
    Running,
    /// The same block, on a line of its own.
    OnNewLine,
    /// A new block.
    Apart,
}

/// How far right each row could have reached: as far as its neighbours do, since a paragraph
/// may be narrower than its column.
pub(crate) fn local_rights(page: &Page<'_>, column: &Column, rows: &[Row]) -> Vec<f32> {
    (0..rows.len())
        .map(|at| {
            let mut ends = vec![rows[at].rect.x1];
            let mut reach = |from: usize, to: usize| {
                let pitch = (rows[to].centre_y() - rows[from].centre_y()).abs();
                if pitch > column.pitch + 0.8 * page.em {
                    return false;
                }
                ends.push(rows[to].rect.x1);
                true
            };
            for n in 1..=6 {
                if at < n || !reach(at - n + 1, at - n) {
                    break;
                }
            }
            for n in 1..=6 {
                if at + n >= rows.len() || !reach(at + n - 1, at + n) {
                    break;
                }
            }
            // One line that sticks out says nothing about the others.
            ends.sort_by(|a, b| b.total_cmp(a));
            let right = if ends.len() >= 4 { ends[1] } else { ends[0] };
            right.min(column.right).max(rows[at].rect.x1)
        })
        .collect()
}

/// A row, the one before it, and what is known of both.
#[derive(Debug)]
pub(crate) struct Pair<'p, 'a> {
    page: &'p Page<'a>,
    column: &'p Column,
    /// The rows of the block so far; the last of them is `last`.
    group: &'p [Row],
    last: &'p Row,
    row: &'p Row,
    last_text: String,
    text: String,
    /// The last row was ended on purpose: there was room for more.
    is_short: bool,
    /// The last row ends a sentence.
    ended: bool,
    /// The block is a list item or a reference.
    in_item: bool,
}

impl<'p, 'a> Pair<'p, 'a> {
    /// `right` is how far the last row of `group` could have reached. `None` for an empty group.
    pub(crate) fn new(
        page: &'p Page<'a>,
        column: &'p Column,
        group: &'p [Row],
        row: &'p Row,
        right: f32,
    ) -> Option<Self> {
        let (first, last) = (group.first()?, group.last()?);
        let (last_text, text) = (last.text(page), row.text(page));
        let first_text = first.text(page);
        Some(Self {
            is_short: would_have_fit(last, &text, row, right, page.em),
            ended: ends_sentence(&last_text),
            in_item: marker(&first_text).is_some() || is_reference_start(&first_text),
            page,
            column,
            group,
            last,
            row,
            last_text,
            text,
        })
    }

    /// How the row follows: the first sign that says anything decides.
    pub(crate) fn follows(&self, right: f32) -> Follows {
        self.by_distance()
            .or_else(|| self.by_region())
            .or_else(|| self.by_line_end())
            .or_else(|| self.by_mark())
            .or_else(|| self.by_edges())
            .unwrap_or_else(|| self.by_room(right))
    }

    /// White space between the rows.
    fn by_distance(&self) -> Option<Follows> {
        let em = self.page.em;
        let height = self.last.height.max(self.row.height);
        let pitch = self.row.centre_y() - self.last.centre_y();
        let pitch_of_size = if height > 1.15 * em {
            1.5 * height
        } else {
            0.0
        };
        if pitch <= self.column.pitch.max(pitch_of_size) + 0.35 * em {
            return None;
        }
        // Lines of a large title stand far apart.
        let (last_hint, hint) = self.hints();
        let is_title = hint == last_hint
            && (hint == Hint::Heading || self.row.height > 1.4 * em)
            && self.is_alike(1.15);
        let goes_on = is_title && pitch < 2.1 * height;
        Some(if goes_on {
            Follows::Running
        } else {
            Follows::Apart
        })
    }

    /// Regions and sizes: a heading or caption beside text.
    fn by_region(&self) -> Option<Follows> {
        let (last_hint, hint) = self.hints();
        if hint != last_hint {
            // A region may miss its heading's or caption's last line.
            let is_cut_off = self.row.zone(self.page).is_none()
                && self.is_alike(1.28)
                && last_hint != Hint::None
                && !self.is_short
                && (last_hint != Hint::Heading || self.row.height > 1.15 * self.page.em);
            if !is_cut_off {
                return Some(Follows::Apart);
            }
        }
        if hint == Hint::Heading && self.last.zone(self.page) == self.row.zone(self.page) {
            return Some(Follows::Running);
        }
        let can_tell = width_units(&self.last_text) >= 4.0 && width_units(&self.text) >= 4.0;
        (can_tell && !self.is_alike(1.28)).then_some(Follows::Apart)
    }

    /// What the last row ends with: leaders to a page number, a hyphen.
    fn by_line_end(&self) -> Option<Follows> {
        let is_contents = tables::has_leaders(&self.last_text)
            || tables::has_leaders(&self.text)
            || tables::is_contents_row(self.page, self.last);
        if is_contents {
            return Some(Follows::OnNewLine);
        }
        let goes_on = self.text.chars().next().is_some_and(char::is_alphanumeric);
        (goes_on && ends_in_hyphen(&self.last_text)).then_some(Follows::Running)
    }

    /// What the row starts with: a footnote's mark, a bullet or number, a reference's number.
    fn by_mark(&self) -> Option<Follows> {
        let em = self.page.em;
        let is_small = self.row.height.max(self.last.height) < 0.93 * em;
        let among_notes = self
            .group
            .first()
            .is_some_and(|row| is_footnote_mark(&row.text(self.page)));
        let is_note = is_small && among_notes && is_footnote_mark(&self.text);
        let is_item = marker(&self.text).is_some_and(|mark| {
            // A dash or a number may start any line of running text.
            let steps = (self.row.rect.x0 - self.last.rect.x0).abs() > 0.5 * em;
            let in_list = self.in_item && (steps || aligned(self.group, self.row, em));
            mark.kind == Kind::Bullet || self.is_short || self.ended || in_list
        });
        let is_reference =
            is_reference_start(&self.text) && (self.is_short || self.ended || self.in_item);
        (is_note || is_item || is_reference).then_some(Follows::Apart)
    }

    /// Where the row starts and ends: indented first lines, hanging ones, centred lines.
    fn by_edges(&self) -> Option<Follows> {
        let em = self.page.em;
        let may_end = self.ended || self.is_short;
        let indented = self.row.rect.x0 - self.last.rect.x0 > 0.8 * em;
        let was_at_left = self.last.rect.x0 - self.column.left < 0.6 * em;
        if indented && was_at_left && !self.in_item && may_end {
            return Some(Follows::Apart);
        }
        let dedented = self.last.rect.x0 - self.row.rect.x0 > 0.8 * em;
        let was_first = self.group.len() == 1;
        let is_centred = is_centred(self.group, self.row, em);
        if dedented && may_end && (!was_first || self.is_short) && !is_centred {
            return Some(Follows::Apart);
        }
        let is_plain = self.hints().1 == Hint::None;
        let centred = is_plain && are_centred(self.column, self.last, self.row, em);
        centred.then_some(Follows::OnNewLine)
    }

    /// Whether there was room on the last row.
    fn by_room(&self, right: f32) -> Follows {
        if !self.is_short {
            return Follows::Running;
        }
        let before = &self.group[..self.group.len() - 1];
        let reaches = |row: &Row| row.rect.x1 > right - 3.0 * self.page.em;
        let was_filled = !before.is_empty() && before.iter().all(reaches);
        let starts_new = self.text.chars().next().is_some_and(char::is_uppercase);
        let elsewhere = self.last.zone(self.page) != self.row.zone(self.page);
        if elsewhere || (self.ended && (was_filled || starts_new)) {
            Follows::Apart
        } else {
            Follows::OnNewLine
        }
    }

    fn hints(&self) -> (Hint, Hint) {
        (hint(self.page, self.last), hint(self.page, self.row))
    }

    /// Whether both rows are of one size, within a factor.
    fn is_alike(&self, factor: f32) -> bool {
        let (a, b) = (self.last.height, self.row.height);
        a < factor * b && b < factor * a
    }
}

fn ends_in_hyphen(text: &str) -> bool {
    let mut last = text.chars().rev();
    last.next().is_some_and(is_hyphen) && last.next().is_some_and(char::is_alphabetic)
}

/// Whether rows share a middle: set centred, so that their left edges say nothing.
fn is_centred(group: &[Row], row: &Row, em: f32) -> bool {
    group
        .iter()
        .all(|other| (other.rect.x0 + other.rect.x1 - row.rect.x0 - row.rect.x1).abs() < 1.2 * em)
}

/// Whether two rows are set centred and of different width: each was ended on purpose.
fn are_centred(column: &Column, last: &Row, row: &Row, em: f32) -> bool {
    let (left, right) = (row.rect.x0 - last.rect.x0, last.rect.x1 - row.rect.x1);
    let shift = left.abs().min(right.abs());
    let is_symmetric = left * right > 0.0 && (left - right).abs() < 0.7 * em;
    let is_inside = last.rect.x0.min(row.rect.x0) > column.left + 1.2 * em;
    column.is_centred || (is_symmetric && shift > if is_inside { 0.4 * em } else { em })
}

/// Whether a row starts where the group's first row does.
fn aligned(group: &[Row], row: &Row, em: f32) -> bool {
    group
        .first()
        .is_some_and(|first| (first.rect.x0 - row.rect.x0).abs() < 0.8 * em)
}

/// `[12]` at the start of a line.
pub(crate) fn is_reference_start(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .is_some_and(|(name, _)| {
            !name.is_empty()
                && name.len() <= 12
                && name.chars().all(|c| c.is_alphanumeric() || c == '+')
        })
}

/// Whether the next row's first word had room at the end of the row before: then the row was
/// ended on purpose.
fn would_have_fit(last: &Row, text: &str, row: &Row, right: f32, em: f32) -> bool {
    let units = width_units(text).max(1.0);
    let word: f32 = match text.chars().next() {
        Some(c) if is_cjk(c) => 4.0,
        _ => width_units(text.split(' ').next().unwrap_or("")) + 1.0,
    };
    let room = right - last.rect.x1;
    room > word * row.rect.width() / units + 1.2 * em
}

/// What a row's region says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    Heading,
    Caption,
}

fn hint(page: &Page<'_>, row: &Row) -> Hint {
    match row.zone(page).map(|zone| page.zones[zone].label) {
        Some(Label::Title | Label::SectionHeader) => Hint::Heading,
        Some(Label::Caption) => Hint::Caption,
        _ => Hint::None,
    }
}
