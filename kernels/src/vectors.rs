//! Runs code on vectors of a chosen width.

use pulp::{Simd, WithSimd};

use crate::path::{self, Path};
#[cfg(target_arch = "x86_64")]
use crate::tiles::Permission;

/// Instructions that this CPU has.
#[derive(Debug, Clone, Copy)]
pub struct Vectors(Kind);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Amx(pulp::x86::V4, Permission),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    Portable,
}

impl Vectors {
    /// What a path takes, if this CPU has it.
    pub fn of(path: Path) -> Option<Self> {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Amx => {
                let permission = Permission::ask()?;
                pulp::x86::V4::try_new().map(|simd| Self(Kind::Amx(simd, permission)))
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => pulp::x86::V4::try_new().map(|simd| Self(Kind::Avx512(simd))),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => pulp::x86::V3::try_new().map(|simd| Self(Kind::Avx2(simd))),
            #[cfg(not(target_arch = "x86_64"))]
            Path::Amx | Path::Avx512 | Path::Avx2 => None,
            Path::Portable => Some(Self(Kind::Portable)),
        }
    }

    /// All kinds of this CPU, the widest first and plain code last.
    pub fn all() -> Vec<Self> {
        Path::ALL.into_iter().filter_map(Self::of).collect()
    }

    /// The widest kind of this CPU.
    pub fn widest() -> Self {
        Self::all()[0]
    }

    /// Those of the path that was [chosen](crate::choose), or the widest if none was.
    #[inline]
    pub fn chosen() -> Self {
        path::chosen()
    }

    /// The path that takes these.
    pub fn path(self) -> Path {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(..) => Path::Amx,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => Path::Avx512,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => Path::Avx2,
            Kind::Portable => Path::Portable,
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn kind(self) -> Kind {
        self.0
    }

    /// For logs and tests.
    pub fn name(self) -> &'static str {
        match self.path() {
            Path::Amx => "AMX and AVX-512",
            Path::Avx512 => "AVX-512",
            Path::Avx2 => "AVX2 and FMA",
            Path::Portable => "portable",
        }
    }

    /// Values of f32 in a vector.
    pub fn lanes(self) -> usize {
        self.run(Ask).0
    }

    /// Rows whose products with two vectors of columns stay in registers.
    pub(crate) fn rows(self) -> usize {
        self.run(Ask).1
    }

    /// Compiles `work` for each kind and runs this one.
    ///
    /// All that `work` calls has to be inlined into it: what is not inlined is compiled for no
    /// vectors, and handing vectors over costs more than most of what is done with them.
    #[inline]
    pub(crate) fn run<W: WithSimd>(self, work: W) -> W::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(simd, _) | Kind::Avx512(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Kind::Portable => Simd::vectorize(pulp::Scalar, work),
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Portable => pulp::Arch::new().dispatch(work),
        }
    }

    /// Runs plain loops, which the compiler turns into vectors of this kind: for work that is not
    /// worth a function here. All that `loops` calls has to be inlined into it, and itself.
    #[inline]
    pub fn run_loops<T, F: FnOnce() -> T>(self, loops: F) -> T {
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

struct Ask;

impl WithSimd for Ask {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> (usize, usize) {
        (S::F32_LANES, rows::<S>())
    }
}

/// With 32 registers twelve rows by two vectors of sums fit, with 16 six rows.
#[inline(always)]
pub(crate) const fn rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}
