//! Who gets what, and what becomes of shards whose worker did not finish them. Decisions are pure
//! functions of values ([`order`], [`verdict`]); the shells around them ask the store and apply.
//! Before: `plan` makes shards. After: `commit` takes their parts.

pub(crate) mod halve;
pub(crate) mod order;
pub(crate) mod pace;
pub(crate) mod reap;
pub(crate) mod verdict;
