//! The decoder in host memory: weights where the file maps them, products by `quire_kernels`.
//!
//! A step reads each weight that it needs once, in the type in which the file holds it; whatever it
//! is, sums and everything between products are f32. So bf16 weights give exactly what their f32
//! copies would, without the copies, and the type that is asked for is that of the cache.
//!
//! All pages' rows go through the dense layers together, and through each expert those rows that
//! chose it: at batch 16 about 50 of 64 experts are read, each once. No sum depends on which rows
//! come together (see `quire_kernels`), so a page's answer is the same, bit for bit, alone and in
//! company, and whether its prompt comes whole or in pieces.

mod cache;
mod experts;
mod network;
mod pass;

use burn::tensor::{Device, Tensor, TensorData};
use quire_kernels::{Product, Rows, Stored, Vectors, likeliest, multiply, read_through};
use rayon::{ThreadPool, ThreadPoolBuilder};

use self::cache::Cache;
use self::network::Network;
use self::pass::Piece;
use crate::config::DecoderConfig;
use crate::decoder::{CacheFull, Chosen, Decoder, Input, Row, Slot};
use crate::stages::Stages;
use crate::weights::{CheckpointError, StoredType, Weights};

/// Positions that are computed together, whoever they belong to. Every expert gets about a hundred
/// of them then, so more would not make products faster, only memory for what is between larger:
/// here it is below 200 MiB.
const MAX_ROWS: usize = 1024;

/// How the decoder uses the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostOptions {
    /// Type of cached keys and values. F32 is what parity is shown with; Bf16 halves what a step
    /// reads of them.
    pub dtype: StoredType,
    /// Memory for keys and values of all pages.
    pub cache_bytes: u64,
    /// Threads that compute; 0 for one a core.
    pub threads: usize,
}

/// The language model on the CPU.
#[derive(Debug)]
pub struct HostDecoder {
    network: Network,
    cache: Cache,
    vectors: Vectors,
    /// None where the system gave no threads: work is done by whoever asks for it.
    pool: Option<ThreadPool>,
    bytes_read: u64,
}

impl HostDecoder {
    /// Takes the decoder's tensors out of a checkpoint. Their bytes stay where the file maps them,
    /// but for rows that are no multiple of 32 values, of which the published models have none.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        weights: &mut Weights,
        config: &DecoderConfig,
        options: HostOptions,
    ) -> Result<Self, CheckpointError> {
        let network = Network::load(weights, config)?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|index| format!("decoder-{index}"))
            .build();
        let pool = pool.inspect_err(|error| tracing::warn!(%error, "the decoder has no threads"));
        let vectors = Vectors::chosen();
        let cache = Cache::new(config, stored(options.dtype), options.cache_bytes);
        tracing::info!(
            vectors = vectors.name(),
            positions = cache.capacity(),
            copied_bytes = network.copied_bytes(),
            "decoder on the host"
        );
        Ok(Self {
            network,
            cache,
            vectors,
            pool: pool.ok(),
            bytes_read: 0,
        })
    }

    /// Reads all weights once, so that the first page does not wait for the disk, and gives their
    /// bytes.
    pub fn read_weights(&self) -> u64 {
        in_pool(self.pool.as_ref(), || {
            let mut bytes = 0;
            for matrix in self.network.matrices() {
                std::hint::black_box(read_through(self.vectors, matrix.bytes()));
                bytes += matrix.bytes().len() as u64;
            }
            bytes
        })
    }

    /// Bytes of weights and cached positions that all steps so far had to read from memory: each
    /// once for those positions that are computed together.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Computes a batch, and chooses a token for each piece that is wanted.
    fn choose(&mut self, batch: &Batch) -> Vec<Chosen> {
        let hidden = Rows::from_values(&batch.values, self.network.hidden());
        let hidden = self.forward(hidden, &batch.pieces, false, &mut Stages::ignored());
        if hidden.n() == 0 {
            return Vec::new();
        }
        let head = self.network.head();
        self.bytes_read += head.bytes().len() as u64;
        let found = likeliest(self.vectors, &hidden, head, &batch.banned);
        let chosen = found.into_iter().map(|found| Chosen {
            token: found.index as u32,
            log_probability: found.logit - found.log_sum,
        });
        chosen.collect()
    }

    fn given<'a>(&self, row: &'a Row) -> Given<'a> {
        let width = self.network.hidden();
        let values = match &row.input {
            Input::Token(token) => self.network.embed(&[*token]),
            Input::Prompt(embeddings) => {
                assert_eq!(embeddings.dims()[1], width, "width of the embeddings");
                let values = embeddings.to_data().try_into_vec_as::<f32>();
                values.expect("embeddings are numbers of some type")
            }
        };
        assert!(!values.is_empty(), "a step adds at least one position");
        Given {
            slot: row.slot,
            values,
            banned: &row.banned,
        }
    }

    fn step_all(&mut self, given: &[Given<'_>]) -> Vec<Chosen> {
        let width = self.network.hidden();
        let mut chosen = Vec::with_capacity(given.len());
        let mut batch = Batch::default();
        for row in given {
            let mut start = self.cache.extend(row.slot, row.values.len() / width);
            let mut values = row.values.as_slice();
            while !values.is_empty() {
                let room = MAX_ROWS - batch.n_rows;
                let (now, later) = values.split_at(values.len().min(room * width));
                batch.add(row, now, width, start, later.is_empty());
                start += now.len() / width;
                values = later;
                if batch.n_rows == MAX_ROWS {
                    chosen.extend(self.choose(&std::mem::take(&mut batch)));
                }
            }
        }
        chosen.extend(self.choose(&batch));
        chosen
    }

    fn all_logits(&mut self, given: &Given<'_>, stages: &mut Stages) -> Rows {
        let hidden = Rows::from_values(&given.values, self.network.hidden());
        let piece = Piece {
            slot: given.slot,
            n: hidden.n(),
            start: self.cache.extend(given.slot, hidden.n()),
            is_wanted: true,
        };
        let hidden = self.forward(hidden, &[piece], true, stages);
        let head = self.network.head();
        let mut logits = Rows::zeros(hidden.n(), head.n_rows());
        let product = Product {
            rows: &hidden,
            chosen: None,
            matrix: head,
            out: &mut logits,
            adds: false,
        };
        multiply(self.vectors, vec![product]);
        logits
    }
}

/// A row of a step whose input is in host memory.
struct Given<'a> {
    slot: Slot,
    /// `[n, hidden]`
    values: Vec<f32>,
    banned: &'a [u32],
}

/// Rows that are computed together.
#[derive(Default)]
struct Batch {
    values: Vec<f32>,
    n_rows: usize,
    pieces: Vec<Piece>,
    /// Of the pieces whose last row is wanted.
    banned: Vec<Vec<u32>>,
}

impl Batch {
    fn add(
        &mut self,
        row: &Given<'_>,
        values: &[f32],
        width: usize,
        start: usize,
        is_wanted: bool,
    ) {
        let n = values.len() / width;
        self.values.extend_from_slice(values);
        self.n_rows += n;
        self.pieces.push(Piece {
            slot: row.slot,
            n,
            start,
            is_wanted,
        });
        if is_wanted {
            self.banned.push(row.banned.to_vec());
        }
    }
}

/// # Panics
/// A step with a place that is not open, more positions than its place was opened for, a prompt
/// without positions, or a token beyond the vocabulary is a mistake of the caller and panics.
impl Decoder for HostDecoder {
    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let shape = [tokens.len(), self.network.hidden()];
        let data = TensorData::new(self.network.embed(tokens), shape);
        Tensor::from_data(data, &Device::flex())
    }

    fn open(&mut self, positions: usize) -> Result<Slot, CacheFull> {
        self.cache.open(positions)
    }

    /// # Panics
    /// When the slot is not open.
    fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull> {
        self.cache.grow(slot, positions)
    }

    fn close(&mut self, slot: Slot) {
        self.cache.close(slot);
    }

    fn step(&mut self, rows: &[Row]) -> Vec<Chosen> {
        let given: Vec<Given<'_>> = rows.iter().map(|row| self.given(row)).collect();
        // The pool is lent to the work, which needs all the rest.
        let pool = self.pool.take();
        let chosen = in_pool(pool.as_ref(), || self.step_all(&given));
        self.pool = pool;
        chosen
    }

    fn logits(&mut self, row: &Row, stages: &mut Stages) -> Tensor<2> {
        let given = self.given(row);
        let pool = self.pool.take();
        let logits = in_pool(pool.as_ref(), || self.all_logits(&given, stages));
        self.pool = pool;
        let logits = Tensor::from_data(data(&logits), &Device::flex());
        stages.keep("logits", &logits);
        logits
    }

    fn capacity(&self) -> usize {
        self.cache.capacity()
    }
}

fn in_pool<T: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> T + Send) -> T {
    match pool {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn stored(stored: StoredType) -> Stored {
    match stored {
        StoredType::Bf16 => Stored::Bf16,
        StoredType::F16 => Stored::F16,
        StoredType::F32 => Stored::F32,
    }
}

/// Rows as a tensor's data, `[n, width]`.
fn data(rows: &Rows) -> TensorData {
    TensorData::new(rows.to_vec(), [rows.n(), rows.width()])
}
