//! Runs code on the widest vectors that this CPU has, found out when the program runs.

use pulp::{Simd, WithSimd};

/// Compiles `work` for AVX-512, for AVX2 with FMA and for neither, and runs what fits.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn run<W: WithSimd>(work: W) -> W::Output {
    if let Some(simd) = pulp::x86::V4::try_new() {
        return Simd::vectorize(simd, work);
    }
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, work);
    }
    Simd::vectorize(pulp::Scalar, work)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn run<W: WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Runs plain loops, which the compiler turns into vectors of the chosen width.
#[inline]
pub(super) fn run_loops<F: FnOnce()>(loops: F) {
    struct Loops<F>(F);

    impl<F: FnOnce()> WithSimd for Loops<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) {
            (self.0)();
        }
    }

    run(Loops(loops));
}
