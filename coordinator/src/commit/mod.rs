//! From accepted parts to a version of the dataset: checks of a commit ([`accept`]), numbered
//! manifests ([`publish`]), parts for rows that were given up ([`lost`]), the end of a job
//! ([`finish`]). Before: `schedule` gives leases. After: `quire_dataset::seal`.

pub(crate) mod accept;
pub(crate) mod catch_up;
pub(crate) mod finish;
pub(crate) mod lost;
pub(crate) mod publish;
pub(crate) mod sweep;
