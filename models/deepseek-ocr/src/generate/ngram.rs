//! Tokens that would repeat what was written.
