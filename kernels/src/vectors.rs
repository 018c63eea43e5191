//! Runs code on vectors of a chosen width.

use pulp::{Simd, WithSimd};

/// Instructions that this CPU has.
#[derive(Debug, Clone, Copy)]
pub struct Vectors(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(not(target_arch = "x86_64"))]
    Native(pulp::Arch),
    Portable,
}

impl Vectors {
    /// All kinds of this CPU, the widest first and plain code last.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V4::try_new().map(|simd| Self(Kind::Avx512(simd))));
            all.extend(pulp::x86::V3::try_new().map(|simd| Self(Kind::Avx2(simd))));
        }
        #[cfg(not(target_arch = "x86_64"))]
        all.push(Self(Kind::Native(pulp::Arch::new())));
        all.push(Self(Kind::Portable));
        all
    }

    /// The widest kind of this CPU.
    pub fn widest() -> Self {
        Self::all()[0]
    }

    /// For logs and tests.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "AVX2 and FMA",
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Native(_) => "native",
            Kind::Portable => "portable",
        }
    }

    /// Compiles `work` for each kind and runs this one.
    #[inline]
    pub(crate) fn run<W: WithSimd>(self, work: W) -> W::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => Simd::vectorize(simd, work),
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Native(arch) => arch.dispatch(work),
            Kind::Portable => Simd::vectorize(pulp::Scalar, work),
        }
    }

    /// Runs plain loops, which the compiler turns into vectors of this kind.
    #[inline]
    pub(crate) fn run_loops<T, F: FnOnce() -> T>(self, loops: F) -> T {
        struct Loops<F>(F);

        impl<T, F: FnOnce() -> T> WithSimd for Loops<F> {
            type Output = T;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _simd: S) -> T {
                (self.0)()
            }
        }

        self.run(Loops(loops))
    }
}
