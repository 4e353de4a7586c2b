//! Which instruction sets this CPU has, and which one is used.

use super::generic::Generic;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
use std::cell::Cell;
use std::sync::OnceLock;

/// The environment variable that forces an instruction set, for tests and reports.
pub const VARIABLE: &str = "SOFTMAXFAM_ISA";

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Generic(Generic),
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Generic(_) => "generic",
        }
    }

    fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let native = [Avx512::detect().map(Self::Avx512), Avx2::detect().map(Self::Avx2)];
        #[cfg(not(target_arch = "x86_64"))]
        let native = [None];
        native.into_iter().flatten().chain([Self::Generic(Generic)]).collect()
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|level| level.name() == name)
    }

    /// The instruction set for a call that starts on this thread.
    #[inline]
    pub(crate) fn active() -> Self {
        static CHOSEN: OnceLock<Level> = OnceLock::new();
        FORCED.get().unwrap_or_else(|| {
            *CHOSEN.get_or_init(|| {
                let wanted = std::env::var(VARIABLE).ok().and_then(|name| Self::of_name(&name));
                wanted.unwrap_or_else(|| Self::all()[0])
            })
        })
    }
}

thread_local! {
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

/// The names of the instruction sets that this CPU has, best first; the last is always `generic`.
pub fn available() -> Vec<&'static str> {
    Level::all().into_iter().map(Level::name).collect()
}

/// The instruction set in use: the best, or the one that [`VARIABLE`] names, where this CPU has it.
pub fn active() -> &'static str {
    Level::active().name()
}

/// Runs `f` with calls from this thread on the named instruction set; `None` where this CPU lacks it.
///
/// ```
/// assert_eq!(softmaxfam::isa::forced("generic", softmaxfam::isa::active), Some("generic"));
/// assert_eq!(softmaxfam::isa::forced("abacus", softmaxfam::isa::active), None);
/// ```
pub fn forced<R>(name: &str, f: impl FnOnce() -> R) -> Option<R> {
    let level = Level::of_name(name)?;
    let before = FORCED.replace(Some(level));
    let result = f();
    FORCED.set(before);
    Some(result)
}
