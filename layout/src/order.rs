//! Reading order: the page cut into columns and bands.
//!
//! Columns come first: a gutter that runs clean through a stretch of the page splits it into
//! left and right, each read to its end. What crosses the gutter (a title, a wide figure) ends
//! the stretch. A gutter is only believed when what stands on its two sides reads as two
//! columns and not as the cells of one row: the price beside an article, the number beside an
//! equation and the word beside its definition stay on their row.

use quire_core::{Label, Rect};

use crate::draft::Page;
use crate::furniture::Furniture;
use crate::sides::are_columns;

/// Nothing on a page nests deeper; bounds the recursion on hostile input.
const MAX_DEPTH: usize = 24;

/// What a box is drawn in by on either side, in lines.
const INSET: f32 = 0.15;
/// Narrowest gutter between drawn-in boxes, in lines: between columns of running text.
const MIN_GUTTER: f32 = 0.35;
/// Narrowest gutter between anything else.
const WIDE_GUTTER: f32 = 0.9;

/// Something that is ordered as a whole: a line, or a table, picture or formula with its lines.
#[derive(Debug, Clone)]
pub(crate) struct Atom {
    pub(crate) rect: Rect,
    pub(crate) items: Vec<usize>,
    /// The solid region it stands for.
    pub(crate) zone: Option<usize>,
}

/// A stretch of the page that is read straight down.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) atoms: Vec<Atom>,
}

/// The page's flows in reading order; every item that is no furniture is in exactly one.
pub(crate) fn order(page: &Page<'_>, furniture: &Furniture) -> Vec<Flow> {
    let (mut atoms, sideways) = atoms(page, furniture);
    let mut cutter = Cutter {
        page,
        flows: Vec::new(),
    };
    atoms.sort_by(|a, b| a.rect.y0.total_cmp(&b.rect.y0));
    cutter.cut(atoms, 0);
    // Text along the margin is read after the page.
    cutter
        .flows
        .extend(sideways.into_iter().map(|atom| Flow { atoms: vec![atom] }));
    cutter.flows
}

fn atoms(page: &Page<'_>, furniture: &Furniture) -> (Vec<Atom>, Vec<Atom>) {
    let mut inside: Vec<Vec<usize>> = vec![Vec::new(); page.zones.len()];
    let (mut atoms, mut sideways) = (Vec::new(), Vec::new());
    for (index, item) in page.items.iter().enumerate() {
        if furniture.has(index) {
            continue;
        }
        match item.zone {
            Some(zone) if page.zones[zone].is_solid() => inside[zone].push(index),
            _ => {
                let atom = Atom {
                    rect: item.rect,
                    items: vec![index],
                    zone: None,
                };
                if item.is_sideways {
                    sideways.push(atom)
                } else {
                    atoms.push(atom)
                }
            }
        }
    }
    for (zone, items) in inside.into_iter().enumerate() {
        if !page.zones[zone].is_solid() {
            continue;
        }
        let is_picture = page.zones[zone].label == Label::Picture;
        if items.is_empty() && !is_picture {
            continue;
        }
        let mut rect = page.bounds(items.iter().copied());
        if is_picture {
            rect = if items.is_empty() {
                page.zones[zone].rect
            } else {
                rect.union(&page.zones[zone].rect)
            };
        }
        atoms.push(Atom {
            rect,
            items,
            zone: Some(zone),
        });
    }
    (atoms, sideways)
}

#[derive(Debug)]
struct Cutter<'p, 'a> {
    page: &'p Page<'a>,
    flows: Vec<Flow>,
}

/// Whether a stretch of slabs stands in columns.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Columns {
    /// The first `end` slabs do, on both sides of `gutter`.
    Found { end: usize, gutter: f32 },
    /// Nothing is free from top to bottom.
    NoGap,
    /// Something is, but the sides are no columns.
    Rejected,
}

/// Atoms that share heights, and what is free between them.
#[derive(Debug)]
struct Slab {
    atoms: Vec<usize>,
    y0: f32,
    y1: f32,
    /// Free stretches of x, ascending.
    gaps: Vec<(f32, f32)>,
}

impl Cutter<'_, '_> {
    fn cut(&mut self, atoms: Vec<Atom>, depth: usize) {
        if atoms.len() < 2 || depth >= MAX_DEPTH {
            self.flow(atoms);
            return;
        }
        let slabs = self.slabs(&atoms);
        let mut single: Vec<usize> = Vec::new();
        let mut at = 0;
        let mut found = false;
        let mut n_failed = 0;
        while at < slabs.len() {
            let (end, gutter) = match self.columns(&atoms, &slabs[at..]) {
                Columns::Found { end, gutter } => (end, gutter),
                missed => {
                    // A long table fails from each of its rows on: look again at ever wider steps.
                    n_failed = if missed == Columns::Rejected {
                        n_failed + 1
                    } else {
                        0
                    };
                    let step = if n_failed > 8 { n_failed / 4 } else { 1 };
                    let next = (at + step).min(slabs.len());
                    single.extend(slabs[at..next].iter().flat_map(|slab| &slab.atoms));
                    at = next;
                    continue;
                }
            };
            found = true;
            n_failed = 0;
            self.flow_of(&atoms, &mut single);
            let inside = slabs[at..at + end]
                .iter()
                .flat_map(|slab| slab.atoms.iter().copied());
            let (left, right): (Vec<usize>, Vec<usize>) =
                inside.partition(|&atom| centre_x(&atoms[atom].rect) < gutter);
            self.cut(pick(&atoms, &left), depth + 1);
            self.cut(pick(&atoms, &right), depth + 1);
            at += end;
        }
        if found {
            self.flow_of(&atoms, &mut single);
            return;
        }
        self.cut_around(atoms, depth);
    }

    /// Cuts where a gutter is crossed by a few atoms that heights alone do not set apart.
    fn cut_around(&mut self, atoms: Vec<Atom>, depth: usize) {
        let Some(gutter) = self.crossed_gutter(&atoms) else {
            self.flow(atoms);
            return;
        };
        let margin = self.page.em * 0.2;
        let (mut crossing, mut rest): (Vec<Atom>, Vec<Atom>) = atoms
            .into_iter()
            .partition(|atom| atom.rect.x0 < gutter - margin && atom.rect.x1 > gutter + margin);
        crossing.sort_by(|a, b| centre_y(&a.rect).total_cmp(&centre_y(&b.rect)));
        let mut together: Vec<Atom> = Vec::new();
        for crosser in crossing {
            let middle = centre_y(&crosser.rect);
            let (above, below): (Vec<Atom>, Vec<Atom>) = rest
                .into_iter()
                .partition(|atom| centre_y(&atom.rect) < middle);
            if !above.is_empty() {
                self.flow(std::mem::take(&mut together));
                self.cut(above, depth + 1);
            }
            together.push(crosser);
            rest = below;
        }
        self.flow(together);
        self.cut(rest, depth + 1);
    }

    /// A place few atoms cross, with columns on both sides. Never one that nothing crosses:
    /// those have been tried, and cutting would not get smaller.
    fn crossed_gutter(&self, atoms: &[Atom]) -> Option<f32> {
        const BINS: usize = 200;
        if atoms.len() < 8 {
            return None;
        }
        let bounds = bounds(atoms);
        let bin = bounds.width() / BINS as f32;
        if bin <= 0.0 {
            return None;
        }
        let mut covered = [0f32; BINS];
        for atom in atoms {
            let from = ((atom.rect.x0 - bounds.x0) / bin) as usize;
            let to = ((atom.rect.x1 - bounds.x0) / bin) as usize;
            for value in &mut covered[from.min(BINS - 1)..=to.min(BINS - 1)] {
                *value += atom.rect.height();
            }
        }
        let most = covered.iter().fold(0f32, |a, &b| a.max(b));
        let inner = BINS / 5..BINS * 4 / 5;
        let least = inner.min_by(|&a, &b| {
            let middle = |i: usize| i.abs_diff(BINS / 2);
            covered[a]
                .total_cmp(&covered[b])
                .then(middle(a).cmp(&middle(b)))
        })?;
        let gutter = bounds.x0 + (least as f32 + 0.5) * bin;
        let crosses = |rect: &Rect| {
            rect.x0 < gutter - self.page.em * 0.2 && rect.x1 > gutter + self.page.em * 0.2
        };
        let n_crossing = atoms.iter().filter(|atom| crosses(&atom.rect)).count();
        if covered[least] > 0.3 * most || n_crossing == 0 || n_crossing * 5 > atoms.len() {
            return None;
        }
        let rest = (0..atoms.len()).filter(|&atom| !crosses(&atoms[atom].rect));
        let (left, right): (Vec<usize>, Vec<usize>) =
            rest.partition(|&atom| centre_x(&atoms[atom].rect) < gutter);
        are_columns(self.page, atoms, &left, &right, true).then_some(gutter)
    }

    /// How many slabs from the first on stand in columns, and where to cut them.
    fn columns(&self, atoms: &[Atom], slabs: &[Slab]) -> Columns {
        let min_gutter = MIN_GUTTER * self.page.em;
        let mut gaps = slabs
            .first()
            .map(|slab| slab.gaps.clone())
            .unwrap_or_default();
        let mut best: Option<(usize, Vec<(f32, f32)>)> = None;
        let mut reach = (f32::MAX, f32::MIN);
        for end in 1..=slabs.len() {
            if end > 1 {
                gaps = intersect(&gaps, &slabs[end - 1].gaps, min_gutter);
            }
            if gaps.is_empty() {
                break;
            }
            for &atom in &slabs[end - 1].atoms {
                let x = centre_x(&atoms[atom].rect);
                reach = (reach.0.min(x), reach.1.max(x));
            }
            let has_both_sides = |gap: &&(f32, f32)| {
                let middle = (gap.0 + gap.1) / 2.0;
                reach.0 < middle && reach.1 > middle
            };
            let inner: Vec<(f32, f32)> = gaps.iter().filter(has_both_sides).copied().collect();
            if !inner.is_empty() {
                best = Some((end, inner));
            } else if best.is_some() {
                break;
            }
        }
        let Some((end, mut gutters)) = best else {
            return Columns::NoGap;
        };
        gutters.sort_by(|a, b| (b.1 - b.0).total_cmp(&(a.1 - a.0)));
        let found = gutters.iter().find_map(|gap| {
            let gutter = (gap.0 + gap.1) / 2.0;
            let end = self.trim(atoms, slabs, end, gutter);
            let inside = slabs[..end]
                .iter()
                .flat_map(|slab| slab.atoms.iter().copied());
            let (left, right): (Vec<usize>, Vec<usize>) =
                inside.partition(|&atom| centre_x(&atoms[atom].rect) < gutter);
            let is_wide = gap.1 - gap.0 >= WIDE_GUTTER * self.page.em;
            are_columns(self.page, atoms, &left, &right, is_wide)
                .then_some(Columns::Found { end, gutter })
        });
        found.unwrap_or(Columns::Rejected)
    }

    /// Slabs at the end that stand on one side only, after a wide gap, and are followed by
    /// something full-width, belong to what follows: a heading over the next stretch.
    fn trim(&self, atoms: &[Atom], slabs: &[Slab], end: usize, gutter: f32) -> usize {
        if end == slabs.len() {
            return end;
        }
        let is_two_sided = |slab: &Slab| {
            slab.atoms
                .iter()
                .any(|&atom| centre_x(&atoms[atom].rect) < gutter)
                && slab
                    .atoms
                    .iter()
                    .any(|&atom| centre_x(&atoms[atom].rect) > gutter)
        };
        let last = slabs[..end].iter().rposition(is_two_sided).unwrap_or(0);
        (last + 1..end)
            .find(|&at| slabs[at].y0 - slabs[at - 1].y1 > 1.2 * self.page.em)
            .unwrap_or(end)
    }

    fn slabs(&self, atoms: &[Atom]) -> Vec<Slab> {
        let bounds = bounds(atoms);
        let em = self.page.em;
        // Boxes of neighbouring rows touch; what counts is where their middles lie.
        let inner = |atom: &Atom| {
            let inset = if atom.zone.is_some() {
                0.4 * em
            } else {
                0.2 * atom.rect.height()
            };
            let inset = inset.min(0.4 * atom.rect.height());
            (atom.rect.y0 + inset, atom.rect.y1 - inset)
        };
        let mut sorted: Vec<usize> = (0..atoms.len()).collect();
        sorted.sort_by(|&a, &b| inner(&atoms[a]).0.total_cmp(&inner(&atoms[b]).0));
        let mut slabs: Vec<Slab> = Vec::new();
        for index in sorted {
            let (y0, y1) = inner(&atoms[index]);
            match slabs.last_mut() {
                Some(slab) if y0 < slab.y1 => {
                    slab.atoms.push(index);
                    slab.y1 = slab.y1.max(y1);
                }
                _ => slabs.push(Slab {
                    atoms: vec![index],
                    y0,
                    y1,
                    gaps: Vec::new(),
                }),
            }
        }
        for slab in &mut slabs {
            slab.gaps = gaps(atoms, &slab.atoms, (bounds.x0, bounds.x1), em);
        }
        slabs
    }

    fn flow_of(&mut self, atoms: &[Atom], indexes: &mut Vec<usize>) {
        let picked = pick(atoms, indexes);
        indexes.clear();
        self.flow(picked);
    }

    fn flow(&mut self, atoms: Vec<Atom>) {
        if !atoms.is_empty() {
            self.flows.push(Flow { atoms });
        }
    }
}

fn pick(atoms: &[Atom], indexes: &[usize]) -> Vec<Atom> {
    let mut sorted = indexes.to_vec();
    sorted.sort_unstable();
    sorted.iter().map(|&index| atoms[index].clone()).collect()
}

pub(crate) fn centre_x(rect: &Rect) -> f32 {
    (rect.x0 + rect.x1) / 2.0
}

fn centre_y(rect: &Rect) -> f32 {
    (rect.y0 + rect.y1) / 2.0
}

fn bounds(atoms: &[Atom]) -> Rect {
    atoms
        .iter()
        .map(|atom| atom.rect)
        .reduce(|a, b| a.union(&b))
        .unwrap_or_default()
}

/// What some atoms leave free of a stretch of x. Boxes are drawn in a little: detectors give
/// lines some air, and columns may be set closer than that.
fn gaps(atoms: &[Atom], indexes: &[usize], within: (f32, f32), em: f32) -> Vec<(f32, f32)> {
    let min = MIN_GUTTER * em;
    let mut spans: Vec<(f32, f32)> = indexes
        .iter()
        .map(|&index| {
            let rect = &atoms[index].rect;
            let inset = (INSET * em).min(0.3 * rect.width());
            (rect.x0 + inset, rect.x1 - inset)
        })
        .collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = Vec::new();
    let mut at = within.0;
    for (x0, x1) in spans {
        if x0 - at >= min {
            free.push((at, x0));
        }
        at = at.max(x1);
    }
    if within.1 - at >= min {
        free.push((at, within.1));
    }
    free
}

fn intersect(a: &[(f32, f32)], b: &[(f32, f32)], min: f32) -> Vec<(f32, f32)> {
    let mut shared = Vec::new();
    for x in a {
        for y in b {
            let (from, to) = (x.0.max(y.0), x.1.min(y.1));
            if to - from >= min {
                shared.push((from, to));
            }
        }
    }
    shared
}
