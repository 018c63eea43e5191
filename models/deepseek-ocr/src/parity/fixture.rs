//! Files of the fixtures.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ParityError, ReadView};
use crate::preprocess::{Grid, PageViews, View};

/// Values of one name.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

#[derive(Debug, Clone)]
pub(super) enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

pub(super) type Tensors = BTreeMap<String, Stored>;

/// One question with everything that the reference computed for it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) about: AboutCase,
    pub(super) tensors: Tensors,
    path: std::path::PathBuf,
}

/// What `cases.json` says of a case; the rest of it is for people.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AboutCase {
    pub(super) name: String,
    #[serde(default)]
    pub(super) ngram_size: usize,
    #[serde(default)]
    pub(super) window_size: usize,
    #[serde(default)]
    pub(super) whitelist: Vec<u32>,
}

#[derive(Deserialize)]
struct AboutCases {
    cases: Vec<AboutCase>,
}

/// All cases of a folder.
pub(super) fn cases(folder: &Path) -> Result<Vec<Case>, ParityError> {
    let about: AboutCases = read_json(&folder.join("cases.json"))?;
    about
        .cases
        .into_iter()
        .map(|about| {
            let path = folder.join(format!("case_{}.safetensors", about.name));
            Ok(Case {
                about,
                tensors: read_tensors(&path)?,
                path,
            })
        })
        .collect()
}

impl Case {
    /// Token ids of the prompt.
    pub(super) fn ids(&self) -> Result<Vec<u32>, ParityError> {
        let ids = self.integers("input_ids")?.iter();
        ids.map(|&id| u32::try_from(id).map_err(|_| self.wrong("an id is negative")))
            .collect()
    }

    /// What the page looks like, if there is a page: from the case, or else from pictures beside
    /// it.
    pub(super) fn views(
        &self,
        folder: &Path,
        read_view: ReadView<'_>,
    ) -> Result<Option<PageViews>, ParityError> {
        if !self.integers("images_seq_mask")?.contains(&1) {
            return Ok(None);
        }
        let grid = self.grid()?;
        let n_tiles = match grid.columns * grid.rows {
            1 => 0,
            n => n,
        };
        if self.tensors.contains_key("pixel_values_u8") {
            let mut globals = self.pictures("pixel_values_u8")?;
            let global = globals
                .pop()
                .ok_or_else(|| self.wrong("there is no view"))?;
            let tiles = match n_tiles {
                0 => Vec::new(),
                _ => self.pictures("images_crop_u8")?,
            };
            return Ok(Some(PageViews {
                global,
                tiles,
                grid,
            }));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            read_view(&path).map_err(|reason| ParityError::Fixture { path, reason })
        };
        let tiles = (0..n_tiles).map(|tile| read(&format!("view_tile{tile}.png")));
        Ok(Some(PageViews {
            global: read("view_global.png")?,
            tiles: tiles.collect::<Result<_, _>>()?,
            grid,
        }))
    }

    /// Embeddings with the image's slots filled.
    ///
    /// # Shapes
    /// - `embeddings` and output: `[prompt, hidden]`
    /// - `vectors`: `[slots, hidden]`
    pub(super) fn fill(
        &self,
        embeddings: Tensor<2>,
        vectors: Option<Tensor<2>>,
    ) -> Result<Tensor<2>, ParityError> {
        let Some(vectors) = vectors else {
            return Ok(embeddings);
        };
        let vectors = vectors.cast(DType::F32);
        let mask = self.integers("images_seq_mask")?;
        let n_slots = mask.iter().filter(|&&is_slot| is_slot == 1).count();
        let n_vectors = vectors.dims()[0];
        if n_slots != n_vectors {
            let reason = format!("{n_slots} slots, but the page takes {n_vectors}");
            return Err(self.wrong(&reason));
        }
        let mut pieces = Vec::new();
        let (mut position, mut vector) = (0, 0);
        for run in mask.chunk_by(|left, right| left == right) {
            let n = run.len();
            if run[0] == 1 {
                pieces.push(vectors.clone().narrow(0, vector, n));
                vector += n;
            } else {
                pieces.push(embeddings.clone().narrow(0, position, n));
            }
            position += n;
        }
        Ok(Tensor::cat(pieces, 0))
    }

    pub(super) fn integers(&self, name: &str) -> Result<&[i64], ParityError> {
        match self.tensors.get(name).map(|stored| &stored.values) {
            Some(Values::Integers(values)) => Ok(values),
            _ => Err(self.wrong(&format!("it lacks the integers {name}"))),
        }
    }

    fn grid(&self) -> Result<Grid, ParityError> {
        match self.integers("spatial_crop")? {
            &[columns @ 1..=64, rows @ 1..=64] => Ok(Grid {
                columns: columns as u32,
                rows: rows as u32,
            }),
            _ => Err(self.wrong("spatial_crop is no grid")),
        }
    }

    /// Pictures stored as `[n, 3, side, side]`.
    fn pictures(&self, name: &str) -> Result<Vec<View>, ParityError> {
        let bytes = self.integers(name)?;
        let &[n, 3, height, side] = self.tensors[name].shape.as_slice() else {
            return Err(self.wrong(&format!("{name} holds no pictures")));
        };
        if height != side || side == 0 {
            return Err(self.wrong(&format!("{name} holds pictures that are not square")));
        }
        let plane = side * side;
        let view = |bytes: &[i64]| View {
            side: side as u32,
            rgb: (0..plane)
                .flat_map(|pixel| [0, 1, 2].map(|channel| bytes[channel * plane + pixel] as u8))
                .collect(),
        };
        Ok(bytes.chunks_exact(3 * plane).take(n).map(view).collect())
    }

    pub(super) fn wrong(&self, reason: &str) -> ParityError {
        ParityError::Fixture {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Reads and parses a file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ParityError> {
    let wrong = |error: serde_json::Error| ParityError::Fixture {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    serde_json::from_slice(&read(path)?).map_err(wrong)
}

/// Reads all tensors of a file.
pub(super) fn read_tensors(path: &Path) -> Result<Tensors, ParityError> {
    let wrong = |reason: String| ParityError::Fixture {
        path: path.to_owned(),
        reason,
    };
    let bytes = read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => {
                let quads = bytes.as_chunks::<4>().0.iter();
                Values::Floats(quads.map(|quad| f32::from_le_bytes(*quad)).collect())
            }
            Dtype::I64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                Values::Integers(words.map(|word| i64::from_le_bytes(*word)).collect())
            }
            Dtype::U8 => Values::Integers(bytes.iter().map(|&byte| i64::from(byte)).collect()),
            other => return Err(wrong(format!("{name} holds {other:?}"))),
        };
        let shape = view.shape().to_vec();
        tensors.insert(name, Stored { shape, values });
    }
    Ok(tensors)
}

fn read(path: &Path) -> Result<Vec<u8>, ParityError> {
    std::fs::read(path).map_err(|source| ParityError::Read {
        path: path.to_owned(),
        source,
    })
}
