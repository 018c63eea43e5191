//! Engines that have no page help those that have one.
//!
//! Where pages are enough, each engine reads its own and shares nothing. At the end of a run and in
//! a short one they are not: then an idle engine's thread takes parts of another's page that depend
//! on nothing else, such as a batch of lines, until a page of its own comes. Who computes a part
//! changes nothing in it, so a page reads alike whoever helped.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::times::{self, Times};

/// All engines over the same weights.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    seats: Mutex<Vec<Weak<Seat>>>,
}

/// An engine's threads: everything of it is computed here, and parts of other engines' pages.
#[derive(Debug)]
pub(crate) struct Seat {
    crew: Arc<Crew>,
    pool: ThreadPool,
    occupation: Mutex<Occupation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupation {
    Idle,
    Helping,
    /// A helper that is still at work ends after the part it has.
    OwnPage,
}

impl Seat {
    /// A further engine of `crew`, with so many threads.
    pub(crate) fn join(
        crew: &Arc<Crew>,
        threads: usize,
        name: &'static str,
    ) -> Result<Arc<Self>, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(move |index| format!("{name}-{index}"))
            .build()?;
        let seat = Arc::new(Self {
            crew: Arc::clone(crew),
            pool,
            occupation: Mutex::new(Occupation::Idle),
        });
        let mut seats = locked(&crew.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        Ok(seat)
    }

    /// The engines that this one belongs to.
    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Runs the work on a page on this engine's threads; parts that it offers may be computed on
    /// others.
    pub(crate) fn work<T: Send>(&self, work: impl FnOnce(&Parts) -> T + Send) -> T {
        struct Leave<'a>(&'a Seat);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                *self.0.occupation() = Occupation::Idle;
            }
        }
        *self.occupation() = Occupation::OwnPage;
        let _leave = Leave(self);
        self.pool.install(|| work(&Parts::of(&self.crew)))
    }

    fn occupation(&self) -> MutexGuard<'_, Occupation> {
        locked(&self.occupation)
    }

    fn help(&self, queue: &Queue) {
        while *self.occupation() == Occupation::Helping {
            let Some(part) = queue.take() else { break };
            part(By::Helper);
        }
        let mut occupation = self.occupation();
        if *occupation == Occupation::Helping {
            *occupation = Occupation::Idle;
        }
    }
}

impl Crew {
    /// Sends idle engines to a queue, at most so many.
    fn call(&self, queue: &Arc<Queue>, most: usize) {
        let idle = |seat: &Weak<Seat>| {
            let seat = seat.upgrade()?;
            let mut occupation = seat.occupation();
            if *occupation != Occupation::Idle {
                return None;
            }
            *occupation = Occupation::Helping;
            drop(occupation);
            Some(seat)
        };
        for seat in locked(&self.seats).iter().filter_map(idle).take(most) {
            let (helper, queue) = (Arc::clone(&seat), Arc::clone(queue));
            seat.pool.spawn(move || helper.help(&queue));
        }
    }
}

/// Who computes a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Owner,
    Helper,
}

type Part = Box<dyn FnOnce(By) + Send>;

/// Parts of a page that nobody has begun.
#[derive(Default)]
struct Queue(Mutex<VecDeque<Part>>);

impl Queue {
    fn take(&self) -> Option<Part> {
        locked(&self.0).pop_front()
    }

    fn len(&self) -> usize {
        locked(&self.0).len()
    }
}

/// The parts of one page. Belongs to the thread that reads it.
pub(crate) struct Parts {
    crew: Arc<Crew>,
    queue: Arc<Queue>,
    elsewhere: Cell<Spent>,
}

/// Time that others spent on a page, and time that its own engine waited for them.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    helping: Duration,
    waiting: Duration,
}

impl Parts {
    fn of(crew: &Arc<Crew>) -> Self {
        Self {
            crew: Arc::clone(crew),
            queue: Arc::default(),
            elsewhere: Cell::default(),
        }
    }

    /// Offers a part to whoever is idle. Nothing of it is computed before [`Self::wait`], which begins
    /// all parts in the order in which they were offered.
    pub(crate) fn offer<T: Send + 'static>(
        &self,
        part: impl FnOnce() -> T + Send + 'static,
    ) -> Offered<T> {
        let (sender, receiver) = sync_channel(1);
        let is_recorded = times::is_recorded();
        let compute = move |by| {
            let start = Instant::now();
            let contained = || catch_unwind(AssertUnwindSafe(part));
            let (result, times) = match (by, is_recorded) {
                (By::Helper, true) => {
                    let (result, times) = times::recorded(contained);
                    (result, Some(times))
                }
                _ => (contained(), None),
            };
            let helping = match by {
                By::Owner => Duration::ZERO,
                By::Helper => start.elapsed(),
            };
            // Whoever offered it may have given its page up.
            drop(sender.send(Computed {
                result,
                helping,
                times,
            }));
        };
        locked(&self.queue.0).push_back(Box::new(compute));
        Offered(receiver)
    }

    /// Computes what was offered, with everybody who is idle, until the last part is begun.
    fn work_off(&self) {
        while let Some(part) = self.queue.take() {
            self.crew.call(&self.queue, self.queue.len());
            part(By::Owner);
        }
    }

    /// What a part came to. Waits for a helper that is at it; panics as the part did.
    pub(crate) fn wait<T>(&self, offered: Offered<T>) -> T {
        self.work_off();
        let start = Instant::now();
        // Every part that was taken out of the queue is answered, so this cannot fail.
        let computed = offered.0.recv().expect("a part is computed");
        let mut elsewhere = self.elsewhere.get();
        elsewhere.waiting += start.elapsed();
        elsewhere.helping += computed.helping;
        self.elsewhere.set(elsewhere);
        if let Some(times) = computed.times {
            times::add(&times);
        }
        match computed.result {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Time that was spent on the page, whoever spent it, if it was begun at `start`.
    pub(crate) fn spent_since(&self, start: Instant) -> Duration {
        let Spent { helping, waiting } = self.elsewhere.get();
        start.elapsed().saturating_sub(waiting) + helping
    }
}

impl Drop for Parts {
    /// A page that is given up leaves no work behind.
    fn drop(&mut self) {
        locked(&self.queue.0).clear();
    }
}

/// A part that was offered.
#[must_use = "a part is computed to be used"]
pub(crate) struct Offered<T>(Receiver<Computed<T>>);

struct Computed<T> {
    result: Result<T, Box<dyn Any + Send>>,
    /// What a helper took for it.
    helping: Duration,
    /// What a helper recorded.
    times: Option<Times>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;
    use std::thread::ThreadId;

    use super::*;
    use crate::times::Stage;

    /// Nothing here takes so long; a test that would hang fails instead.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn seats<const N: usize>() -> [Arc<Seat>; N] {
        let crew = Arc::default();
        std::array::from_fn(|_| Seat::join(&crew, 1, "test").unwrap())
    }

    fn here() -> ThreadId {
        std::thread::current().id()
    }

    /// A part that ends only when another one is computed beside it, and says who computed it.
    fn meeting(tell: SyncSender<()>, hear: Receiver<()>) -> impl FnOnce() -> ThreadId + Send {
        move || {
            tell.send(()).unwrap();
            hear.recv_timeout(PATIENCE).unwrap();
            here()
        }
    }

    #[test]
    fn idle_engine_helps_and_its_time_counts() {
        let [own, _idle] = seats();
        own.work(|parts| {
            let start = Instant::now();
            let ((to_a, from_b), (to_b, from_a)) = (sync_channel(1), sync_channel(1));
            let a = parts.offer(meeting(to_b, from_b));
            let b = parts.offer(meeting(to_a, from_a));
            let (a, b) = (parts.wait(a), parts.wait(b));
            assert!(a == here() && b != here(), "the second part went elsewhere");
            let spent = parts.elsewhere.get();
            assert!(spent.helping > Duration::ZERO);
            assert!(parts.spent_since(start) >= spent.helping);
        });
    }

    #[test]
    fn engine_with_a_page_is_left_alone() {
        let [own, busy] = seats();
        let (started, is_started) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                busy.work(move |_| {
                    started.send(()).unwrap();
                    ended.recv_timeout(PATIENCE).unwrap();
                });
            });
            is_started.recv_timeout(PATIENCE).unwrap();
            own.work(|parts| {
                let offered: Vec<_> = (0..8).map(|_| parts.offer(here)).collect();
                for part in offered {
                    assert_eq!(parts.wait(part), here());
                }
            });
            end.send(()).unwrap();
        });
    }

    #[test]
    fn helper_whose_page_comes_ends_after_its_part() {
        let [own, other] = &seats();
        let (begun, is_begun) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(1);
        // The page lasts as long as there are parts, or else its engine would be free for them again.
        let (end_page, page_ended) = sync_channel::<()>(1);
        std::thread::scope(|scope| {
            own.work(|parts| {
                // Its own thread waits in the first part until the second has ended elsewhere.
                let (to_own, from_other) = sync_channel::<()>(1);
                let first = parts.offer(move || from_other.recv_timeout(PATIENCE).unwrap());
                let second = parts.offer(move || {
                    begun.send(()).unwrap();
                    ended.recv_timeout(PATIENCE).unwrap();
                    to_own.send(()).unwrap();
                });
                let rest: Vec<_> = (0..8).map(|_| parts.offer(here)).collect();
                let page = scope.spawn(move || {
                    is_begun.recv_timeout(PATIENCE).unwrap();
                    other.work(move |_| {
                        page_ended.recv_timeout(PATIENCE).unwrap();
                        here()
                    })
                });
                scope.spawn(move || {
                    // Called back before its part ends, so that it begins no other.
                    while *other.occupation() != Occupation::OwnPage {
                        std::thread::yield_now();
                    }
                    end.send(()).unwrap();
                });
                parts.wait(first);
                parts.wait(second);
                for part in rest {
                    assert_eq!(parts.wait(part), here());
                }
                end_page.send(()).unwrap();
                assert_ne!(page.join().unwrap(), here());
            });
        });
    }

    #[test]
    fn panic_of_a_helper_is_the_pages_and_helper_goes_on() {
        let [own, idle] = seats();
        let panic = own.work(|parts| {
            let ((to_a, from_b), (to_b, from_a)) = (sync_channel(1), sync_channel(1));
            let a = parts.offer(meeting(to_b, from_b));
            let met = meeting(to_a, from_a);
            let b = parts.offer(move || {
                met();
                std::panic::panic_any("a part broke");
            });
            parts.wait(a);
            catch_unwind(AssertUnwindSafe(|| parts.wait::<()>(b))).unwrap_err()
        });
        assert_eq!(panic.downcast_ref(), Some(&"a part broke"));
        assert_eq!(idle.work(|_| 7), 7);
    }

    #[test]
    fn what_helpers_recorded_is_the_pages() {
        let [own, _idle] = seats();
        let noted = |meet: Box<dyn FnOnce() -> ThreadId + Send>| {
            move || times::network(Stage::Layout, || 5, meet)
        };
        let ((), times) = own.work(|parts| {
            times::recorded(|| {
                let ((to_a, from_b), (to_b, from_a)) = (sync_channel(1), sync_channel(1));
                let a = parts.offer(noted(Box::new(meeting(to_b, from_b))));
                let b = parts.offer(noted(Box::new(meeting(to_a, from_a))));
                assert_ne!(parts.wait(a), parts.wait(b));
            })
        });
        assert_eq!(times.of(Stage::Layout).multiply_adds, 10);
    }

    #[test]
    fn page_that_is_given_up_leaves_nothing_to_do() {
        let [own] = seats();
        let part = own.work(|parts| parts.offer(|| unreachable!("nobody wants it")));
        assert!(part.0.recv().is_err());
    }
}
