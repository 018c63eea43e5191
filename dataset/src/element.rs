//! The nested columns `layout` and `lines`: [`Block`] and [`Line`] as the flat structs that
//! readers see, and back.

use arrow_array::ArrayRef;
use arrow_schema::DataType;
use quire_core::{Block, Label, Line, Parsed, Quad, Rect};

use crate::cell::{Cell, CellProblem, Columns, columns, read_struct, struct_array, struct_cell};

columns! {
    /// What deep parsing asked of a picture, and what it was told.
    pub(crate) struct ParsedElement {
        pub(crate) asked: String,
        pub(crate) kind: String,
        pub(crate) text: String,
    }
}
struct_cell!(ParsedElement);

columns! {
    /// An element of `layout`. What a later minor version adds stands at its end: files of an
    /// older one lack it.
    pub(crate) struct LayoutElement {
        pub(crate) label: Label,
        pub(crate) label_raw: String,
        pub(crate) x0: f32,
        pub(crate) y0: f32,
        pub(crate) x1: f32,
        pub(crate) y1: f32,
        pub(crate) quad: Option<Vec<f32>>,
        pub(crate) text: String,
        pub(crate) html: Option<String>,
        pub(crate) latex: Option<String>,
        pub(crate) text_start: Option<i32>,
        pub(crate) text_end: Option<i32>,
        pub(crate) parent: Option<i32>,
        pub(crate) level: Option<i32>,
        pub(crate) confidence: Option<f32>,
        pub(crate) parsed: Option<ParsedElement>,
    }
}

columns! {
    /// An element of `lines`.
    pub(crate) struct LineElement {
        pub(crate) block: Option<i32>,
        pub(crate) text: String,
        pub(crate) x0: f32,
        pub(crate) y0: f32,
        pub(crate) x1: f32,
        pub(crate) y1: f32,
        pub(crate) quad: Option<Vec<f32>>,
        pub(crate) confidence: f32,
    }
}

impl From<&Block> for LayoutElement {
    fn from(block: &Block) -> Self {
        let Rect { x0, y0, x1, y1 } = block.rect;
        Self {
            label: block.label,
            label_raw: block.label_raw.clone(),
            x0,
            y0,
            x1,
            y1,
            quad: block.quad.map(quad_numbers),
            text: block.text.clone(),
            html: block.html.clone(),
            latex: block.latex.clone(),
            text_start: block
                .text_range
                .as_ref()
                .map(|range| saturated(range.start)),
            text_end: block.text_range.as_ref().map(|range| saturated(range.end)),
            parent: block.parent.map(saturated),
            level: block.level.map(saturated),
            confidence: block.confidence,
            parsed: block.parsed.as_ref().map(|parsed| ParsedElement {
                asked: parsed.asked.clone(),
                kind: parsed.kind.clone(),
                text: parsed.text.clone(),
            }),
        }
    }
}

impl TryFrom<LayoutElement> for Block {
    type Error = CellProblem;

    fn try_from(element: LayoutElement) -> Result<Self, CellProblem> {
        let text_range = match (element.text_start, element.text_end) {
            (Some(start), Some(end)) => {
                Some(unsigned(start, "text_start")?..unsigned(end, "text_end")?)
            }
            (None, None) => None,
            _ => return Err(CellProblem::new("is half of a range").within("text_start")),
        };
        Ok(Self {
            label: element.label,
            label_raw: element.label_raw,
            rect: Rect {
                x0: element.x0,
                y0: element.y0,
                x1: element.x1,
                y1: element.y1,
            },
            quad: element.quad.map(quad_of).transpose()?,
            text: element.text,
            html: element.html,
            latex: element.latex,
            text_range,
            parent: element
                .parent
                .map(|at| unsigned(at, "parent"))
                .transpose()?,
            level: element
                .level
                .map(|depth| unsigned(depth, "level"))
                .transpose()?,
            confidence: element.confidence,
            parsed: element.parsed.map(|parsed| Parsed {
                asked: parsed.asked,
                kind: parsed.kind,
                text: parsed.text,
            }),
        })
    }
}

impl From<&Line> for LineElement {
    fn from(line: &Line) -> Self {
        let Rect { x0, y0, x1, y1 } = line.rect;
        Self {
            block: line.block.map(saturated),
            text: line.text.clone(),
            x0,
            y0,
            x1,
            y1,
            quad: line.quad.map(quad_numbers),
            confidence: line.confidence,
        }
    }
}

impl TryFrom<LineElement> for Line {
    type Error = CellProblem;

    fn try_from(element: LineElement) -> Result<Self, CellProblem> {
        Ok(Self {
            block: element.block.map(|at| unsigned(at, "block")).transpose()?,
            text: element.text,
            rect: Rect {
                x0: element.x0,
                y0: element.y0,
                x1: element.x1,
                y1: element.y1,
            },
            quad: element.quad.map(quad_of).transpose()?,
            confidence: element.confidence,
        })
    }
}

macro_rules! element_cell {
    ($ty:ty, $element:ty) => {
        impl Cell for $ty {
            fn data_type() -> DataType {
                DataType::Struct(<$element>::fields().into())
            }

            fn array<'a, I>(cells: I) -> ArrayRef
            where
                I: Iterator<Item = Option<&'a Self>>,
            {
                let elements: Vec<Option<$element>> =
                    cells.map(|cell| cell.map(<$element>::from)).collect();
                struct_array(&elements.iter().map(Option::as_ref).collect::<Vec<_>>())
            }

            fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
                read_struct::<$element>(array, row)?.try_into()
            }

            fn json(&self, out: &mut Vec<u8>) -> bool {
                Columns::json(&<$element>::from(self), |_| false, out);
                true
            }

            fn n_bytes(&self) -> usize {
                Columns::n_bytes(&<$element>::from(self))
            }
        }
    };
}

element_cell!(Block, LayoutElement);
element_cell!(Line, LineElement);

fn quad_numbers(quad: Quad) -> Vec<f32> {
    quad.0.iter().flatten().copied().collect()
}

fn quad_of(numbers: Vec<f32>) -> Result<Quad, CellProblem> {
    match numbers[..] {
        [a, b, c, d, e, f, g, h] => Ok(Quad([[a, b], [c, d], [e, f], [g, h]])),
        _ => {
            let what = format!("has {} numbers, not 8", numbers.len());
            Err(CellProblem::new(what).within("quad"))
        }
    }
}

fn saturated(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn unsigned(number: i32, column: &str) -> Result<u32, CellProblem> {
    u32::try_from(number).map_err(|_| CellProblem::new(format!("is {number}")).within(column))
}
