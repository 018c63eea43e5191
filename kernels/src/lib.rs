//! Products of matrices on a CPU at the speed of its memory. Knows no model and no burn.
