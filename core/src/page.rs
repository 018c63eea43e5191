//! A page as pixels.

use serde::{Deserialize, Serialize};

/// A clockwise turn by a multiple of 90 degrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Rotation {
    #[default]
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Rotation {
    /// The turn of `degrees` clockwise, taken modulo 360; `None` unless a multiple of 90.
    pub fn from_degrees(degrees: i32) -> Option<Self> {
        match degrees.rem_euclid(360) {
            0 => Some(Self::None),
            90 => Some(Self::Quarter),
            180 => Some(Self::Half),
            270 => Some(Self::ThreeQuarters),
            _ => None,
        }
    }

    /// 0, 90, 180 or 270, clockwise.
    pub fn degrees(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Quarter => 90,
            Self::Half => 180,
            Self::ThreeQuarters => 270,
        }
    }

    /// This turn followed by `next`.
    pub fn then(self, next: Self) -> Self {
        Self::from_degrees(self.degrees() + next.degrees()).unwrap_or_default()
    }
}

/// An RGB page image, 8 bits a channel, rows from the top, no padding: `width * height * 3` bytes.
#[derive(Clone, PartialEq)]
pub struct PageImage {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
    /// Dots an inch at which a vector page was drawn, or that an image file states.
    pub dpi: Option<f32>,
}

impl PageImage {
    /// A white image.
    pub fn white(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            rgb: vec![255; width as usize * height as usize * 3],
            dpi: None,
        }
    }

    /// The image turned clockwise by `rotation`.
    pub fn rotated(&self, rotation: Rotation) -> Self {
        let (w, h) = (self.width as usize, self.height as usize);
        let (new_w, new_h) = match rotation {
            Rotation::None | Rotation::Half => (w, h),
            Rotation::Quarter | Rotation::ThreeQuarters => (h, w),
        };
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..new_h {
            for x in 0..new_w {
                let (sx, sy) = match rotation {
                    Rotation::None => (x, y),
                    Rotation::Quarter => (y, h - 1 - x),
                    Rotation::Half => (w - 1 - x, h - 1 - y),
                    Rotation::ThreeQuarters => (w - 1 - y, x),
                };
                let at = (sy * w + sx) * 3;
                rgb.extend_from_slice(&self.rgb[at..at + 3]);
            }
        }
        Self {
            width: new_w as u32,
            height: new_h as u32,
            rgb,
            dpi: self.dpi,
        }
    }
}

impl std::fmt::Debug for PageImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PageImage({}x{}, dpi {:?})",
            self.width, self.height, self.dpi
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turn_moves_the_left_column_to_the_top() {
        // 2x1: red, green  ->  turned clockwise: red above green.
        let image = PageImage {
            width: 2,
            height: 1,
            rgb: vec![255, 0, 0, 0, 255, 0],
            dpi: None,
        };
        let turned = image.rotated(Rotation::Quarter);
        assert_eq!((turned.width, turned.height), (1, 2));
        assert_eq!(turned.rgb, image.rgb);
        assert_eq!(turned.rotated(Rotation::ThreeQuarters), image);
        assert_eq!(
            image.rotated(Rotation::Half).rgb,
            vec![0, 255, 0, 255, 0, 0]
        );
    }
}
