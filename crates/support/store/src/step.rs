//! The steps of a push, where the tests make it fail or die.

use std::io;

/// A step that was just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The directory under `tmp` is there.
    Staged,
    /// A piece of a file was copied.
    Copied,
    /// Every file is copied and checked.
    Checked,
    /// A file is linked to its blob.
    Shared,
    /// `bundle.json` is written.
    Described,
    /// The bundle has its place, which is not durable yet.
    Placed,
}

/// Marks a step. Does nothing outside the tests.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in the tests a step can fail")]
pub(crate) fn taken(_step: Step) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use hook::{STEPS, set, taken};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    use super::{Step, io};

    pub(crate) const STEPS: [Step; 6] =
        [Step::Staged, Step::Copied, Step::Checked, Step::Shared, Step::Described, Step::Placed];

    type Hook = Box<dyn FnMut(Step) -> io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Has `hook` called at every step of this thread; `None` ends that.
    pub(crate) fn set(hook: Option<Hook>) {
        HOOK.with(|slot| *slot.borrow_mut() = hook);
    }

    pub(crate) fn taken(step: Step) -> io::Result<()> {
        HOOK.with(|slot| slot.borrow_mut().as_mut().map_or(Ok(()), |hook| hook(step)))
    }
}
