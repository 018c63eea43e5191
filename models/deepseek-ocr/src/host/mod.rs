//! The decoder in host memory: weights where the file maps them, products by `quire_kernels`.
//!
//! ```text
//! HostDecoder::load(&mut Weights, &DecoderConfig, HostOptions) -> Result<HostDecoder, CheckpointError>
//! HostOptions { dtype: Bf16 | F16 | F32 (of weights and cache), cache_bytes: u64, threads: usize }
//! impl Decoder for HostDecoder
//! ```
