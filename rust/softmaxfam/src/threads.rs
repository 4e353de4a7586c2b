//! Threads: a private pool, and the cutting of a call into pieces.
//!
//! A call is cut into pieces of rows (or of chunks of long rows) whose results do not depend on the cutting, so the
//! number of threads changes no bit. The caller's thread takes pieces too; work that is too small to share stays on
//! it. Between pieces, each a few milliseconds at most, the caller's interrupt is asked.

use crate::error::{Error, Result};
use crate::rows::{Outputs, Pieces};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The environment variable with the number of threads, 1 or more; without it, as many as this process may run on.
pub const VARIABLE: &str = "SOFTMAXFAM_NUM_THREADS";

/// Below this much work (ns, on one thread) a call stays on the caller's thread: two threads then gain little.
const WORTH_SHARING: f64 = 150e3;
/// The work (ns) of one piece: long against the cost of taking it, short against a person's patience with Ctrl-C.
const PIECE: f64 = 1e6;

/// So often a thread looks whether a round ended before it gives its core away: some microseconds.
const SPINS: usize = 200;

static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// The number of threads that a call may use.
pub fn num_threads() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    match CHOSEN.load(Ordering::Relaxed) {
        0 => *FOUND.get_or_init(|| {
            let asked = std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse().ok()).filter(|&n| n > 0);
            asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        }),
        chosen => chosen,
    }
}

/// Sets the number of threads for all later calls; 0 goes back to what the environment says.
pub fn set_num_threads(threads: usize) {
    CHOSEN.store(threads, Ordering::Relaxed);
}

/// What a call costs and who may stop it.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// Rows to cut.
    pub(crate) rows: usize,
    /// Estimated time of a row on one thread, ns.
    pub(crate) row_cost: f64,
    /// Pieces hold a multiple of so many rows, which kernels take at a time.
    pub(crate) together: usize,
    /// Asked between pieces.
    pub(crate) interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// Runs `work` on pieces of the rows, each with its part of the outputs, on as many threads as pay.
pub(crate) fn for_each_piece<O: Outputs>(
    job: Job<'_>,
    outputs: O,
    work: impl Fn(Range<usize>, O) -> Result<()> + Sync,
) -> Result<()> {
    let threads = if job.row_cost * job.rows as f64 > WORTH_SHARING { num_threads() } else { 1 };
    let even = job.rows.div_ceil(4 * threads); // pieces enough that no thread waits long for the last
    let patient = (PIECE / job.row_cost.max(1e-3)) as usize;
    let length = if threads == 1 { patient } else { even.min(patient) };
    let pieces = Pieces::new(outputs, job.rows, length.max(1).next_multiple_of(job.together));
    take_all(threads.min(pieces.count()), job.interrupt, &|may_go_on| {
        let (rows, part) = pieces.take()?;
        Some(may_go_on().and_then(|()| work(rows, part)))
    })
}

/// Runs rounds of tasks: `work` gets the number of a round and a part of its `tasks`, and all parts of a round end before one
/// of the next begins. `cost` estimates a round, in ns on one thread.
///
/// Parts are dealt in their order and wait only for those of earlier rounds, which somebody holds who waits for even earlier
/// ones: so any number of threads gets on, fewer than were asked for too. Waiting takes microseconds, where a call of
/// [`for_each_piece`] for each round would take the waking of a thread.
pub(crate) fn for_each_round(
    rounds: usize,
    tasks: usize,
    cost: f64,
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    work: &(dyn Fn(usize, Range<usize>) -> Result<()> + Sync),
) -> Result<()> {
    let threads = if cost * rounds as f64 > WORTH_SHARING { num_threads().min(tasks) } else { 1 };
    let parts = if threads == 1 { 1 } else { tasks.min(2 * threads) };
    let (next, done, left) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    take_all(threads, interrupt, &|may_go_on| {
        let ticket = next.fetch_add(1, Ordering::Relaxed);
        let (round, part) = (ticket / parts, ticket % parts);
        if round >= rounds {
            return None;
        }
        let leaving = Leaving(&left); // a panic must not keep others waiting
        let mut waited = 0;
        while done.load(Ordering::Acquire) < round * parts {
            if left.load(Ordering::Relaxed) {
                return None;
            }
            waited += 1;
            if waited < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let of_part = part * tasks / parts..(part + 1) * tasks / parts;
        let result = may_go_on().and_then(|()| work(round, of_part));
        if result.is_ok() {
            done.fetch_add(1, Ordering::AcqRel);
            std::mem::forget(leaving);
        }
        Some(result)
    })
}

/// Says on its end that a round will not be finished.
struct Leaving<'a>(&'a AtomicBool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether the next piece may be begun.
type MayGoOn<'a> = &'a dyn Fn() -> Result<()>;

/// Takes pieces until there are none, or one fails. It knows neither outputs nor work, so that its code exists once.
fn take_all(
    threads: usize,
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    take: &(dyn Fn(MayGoOn<'_>) -> Option<Result<()>> + Sync),
) -> Result<()> {
    let failure = OnceLock::new();
    let may_go_on = || if interrupt.is_some_and(|interrupt| interrupt()) { Err(Error::Interrupted) } else { Ok(()) };
    pool::share(threads, &|| {
        while failure.get().is_none()
            && let Some(result) = take(&may_go_on)
        {
            if let Err(error) = result {
                failure.get_or_init(|| error);
            }
        }
    });
    failure.into_inner().map_or(Ok(()), Err)
}

#[cfg(not(feature = "rayon"))]
mod pool {
    pub(super) fn share(_threads: usize, take_all: &(dyn Fn() + Sync)) {
        take_all();
    }
}

#[cfg(feature = "rayon")]
mod pool {
    //! One pool for the process, made at first use. It only ever grows: calls with fewer threads use a part of it.
    //! A forked child has none of its parent's threads, so it forgets the pool and makes its own.
    #![allow(unsafe_code, reason = "one of the files named for it: the handler that runs in a forked child")]

    use rayon::{ThreadPool, ThreadPoolBuilder};
    use std::ptr::null_mut;
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, Ordering};

    static POOL: AtomicPtr<ThreadPool> = AtomicPtr::new(null_mut());

    /// Runs `take_all` on this thread and, where they can be had, on `threads - 1` others.
    pub(super) fn share(threads: usize, take_all: &(dyn Fn() + Sync)) {
        match pool(threads.saturating_sub(1)) {
            None => take_all(),
            Some(pool) => pool.in_place_scope(|scope| {
                (1..threads).for_each(|_| scope.spawn(|_| take_all()));
                take_all();
            }),
        }
    }

    fn pool(workers: usize) -> Option<&'static ThreadPool> {
        if workers == 0 {
            return None;
        }
        let held = POOL.load(Ordering::Acquire);
        // SAFETY: POOL is null or a leaked box, which is never freed nor changed.
        let pool = unsafe { held.as_ref() };
        if pool.is_some_and(|pool| pool.current_num_threads() >= workers) {
            return pool;
        }
        forget_in_children();
        let named = |index| format!("softmaxfam-{index}");
        let made = ThreadPoolBuilder::new().num_threads(workers).thread_name(named).build().ok()?;
        let made = Box::into_raw(Box::new(made));
        // A race of two callers leaks one idle pool, once in the life of a process.
        POOL.store(made, Ordering::Release);
        // SAFETY: as above.
        unsafe { made.as_ref() }
    }

    #[cfg(unix)]
    fn forget_in_children() {
        type Handler = Option<extern "C" fn()>;
        unsafe extern "C" {
            fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> std::ffi::c_int;
        }
        extern "C" fn forget() {
            POOL.store(null_mut(), Ordering::Release);
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // a failure for want of memory leaves forked children without threads of their own, which is no error here
            // SAFETY: the handler only stores to an atomic, which is allowed in a child of a process with threads.
            let _ = unsafe { pthread_atfork(None, None, Some(forget)) };
        });
    }

    #[cfg(not(unix))]
    fn forget_in_children() {}
}
