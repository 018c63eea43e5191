//! Who gets what, and what becomes of shards whose worker did not finish them. Decisions are pure
//! functions of values ([`share`], [`straggle`], [`sick`], [`verdict`]); the shells around them
//! ask the store and apply. Before: `plan` makes shards. After: `commit` takes their parts.

pub(crate) mod copies;
pub(crate) mod grant;
pub(crate) mod halve;
pub(crate) mod pace;
pub(crate) mod reap;
pub(crate) mod share;
pub(crate) mod sick;
pub(crate) mod straggle;
pub(crate) mod verdict;
pub(crate) mod view;
