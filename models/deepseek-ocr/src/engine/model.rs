//! All of the network but its decoder: views become prompts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use quire_core::{Stage, Trouble, TroubleCode};
use rayon::ThreadPool;

use super::options::named_with;
use crate::config::Architecture;
use crate::decoder::Decoder;
use crate::generate::{Question, Rules};
use crate::preprocess::{Grid, Mode, PageViews, View};
use crate::prompt::{Prompt, Task};
use crate::stages::Stages;
use crate::tokenizer::TextTokenizer;
use crate::vision::{VisionModel, pixels};

/// Towers, tokenizer and settings.
pub(super) struct Model {
    pub(super) vision: VisionModel,
    pub(super) tokenizer: TextTokenizer,
    pub(super) device: Device,
    pub(super) architecture: Architecture,
    pub(super) mode: Mode,
    pub(super) max_tiles: Option<u32>,
    pub(super) task: Task,
    pub(super) rules: Arc<Rules>,
    /// Pictures of a page that are asked about; 0 without deep parsing.
    pub(super) max_figures: usize,
    /// Threads of the towers on the CPU.
    pub(super) pool: ThreadPool,
    /// Threads that cut pages into views.
    pub(super) preparing: ThreadPool,
}

impl Model {
    pub(super) fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// A mode as rows name it.
    pub(super) fn named(&self, mode: &str) -> String {
        let has_tiles = self.mode_of(Some(mode)).is_ok_and(|mode| mode.crop);
        let max_tiles = self.max_tiles.filter(|_| has_tiles);
        named_with(mode, max_tiles, &self.task, self.max_figures > 0)
    }

    /// The engine's own mode, or another one by name.
    pub(super) fn mode_of(&self, name: Option<&str>) -> Result<Mode, Trouble> {
        let Some(name) = name.filter(|&name| name != self.mode.name()) else {
            return Ok(self.mode);
        };
        let mode = Mode::named(name, self.architecture).map_err(|error| {
            Trouble::new(
                Stage::Recognize,
                TroubleCode::Unsupported,
                error.to_string(),
            )
        })?;
        Ok(match self.max_tiles {
            Some(max_tiles) if mode.crop => mode.with_max_tiles(max_tiles),
            _ => mode,
        })
    }

    /// The vectors of each page's views in the order of its slots, `[n, hidden]`. All views of a
    /// size go through the towers together.
    pub(super) fn see(&self, pages: Vec<PageViews>) -> Vec<Tensor<2>> {
        self.pool.install(|| {
            let mut sizes = Sizes::default();
            let placed: Vec<Placed> = pages.into_iter().map(|page| sizes.place(page)).collect();
            let encoded: BTreeMap<u32, Tensor<3>> = sizes
                .0
                .into_iter()
                .map(|(side, views)| (side, self.encode(&views)))
                .collect();
            let placed = placed.into_iter();
            placed.map(|page| self.assemble(&page, &encoded)).collect()
        })
    }

    fn encode(&self, views: &[View]) -> Tensor<3> {
        self.vision
            .encode(pixels(views, &self.device), &mut Stages::ignored())
    }

    fn assemble(&self, page: &Placed, encoded: &BTreeMap<u32, Tensor<3>>) -> Tensor<2> {
        let of =
            |(side, range): &(u32, Range<usize>)| encoded[side].clone().slice_dim(0, range.clone());
        let global = of(&page.global);
        let [_, cells, hidden] = global.dims();
        let tiles = page.tiles.as_ref().map(|tiles| (of(tiles), page.grid));
        self.vision.assemble(global.reshape([cells, hidden]), tiles)
    }

    /// A question about an image whose vectors are these.
    pub(super) fn ask<T>(
        &self,
        decoder: &dyn Decoder,
        tag: T,
        task: &Task,
        vectors: Tensor<2>,
    ) -> Result<Question<T>, Trouble> {
        let [n_slots, _] = vectors.dims();
        let prompt = Prompt::new(&self.tokenizer, task, n_slots).map_err(|error| {
            Trouble::new(Stage::Recognize, TroubleCode::Other, error.to_string())
        })?;
        let Prompt { ids, image_range } = prompt;
        let before = decoder.embed(&ids[..image_range.start]);
        let vectors = vectors.to_device(&before.device()).cast(before.dtype());
        let mut parts = vec![before, vectors];
        if image_range.end < ids.len() {
            parts.push(decoder.embed(&ids[image_range.end..]));
        }
        Ok(Question {
            tag,
            prompt: Tensor::cat(parts, 0),
            tokens: ids,
            rules: Arc::clone(&self.rules),
        })
    }
}

/// Views by their side.
#[derive(Default)]
struct Sizes(BTreeMap<u32, Vec<View>>);

/// Where a page's views are among those of their size.
struct Placed {
    global: (u32, Range<usize>),
    tiles: Option<(u32, Range<usize>)>,
    grid: Grid,
}

impl Sizes {
    fn place(&mut self, page: PageViews) -> Placed {
        let global = self.add(vec![page.global]);
        let tiles = (!page.tiles.is_empty()).then(|| self.add(page.tiles));
        Placed {
            global,
            tiles,
            grid: page.grid,
        }
    }

    /// Adds views that are all of one size.
    fn add(&mut self, views: Vec<View>) -> (u32, Range<usize>) {
        let side = views[0].side;
        let all = self.0.entry(side).or_default();
        let start = all.len();
        all.extend(views);
        (side, start..all.len())
    }
}
