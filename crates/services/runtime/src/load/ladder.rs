//! Down the levels of optimisation until a model runs. Pure but for what it is given to try.
//!
//! ONNX Runtime rewrites some valid graphs into graphs that fail in every run, and only a run shows it.

use std::fmt::Display;

use crate::backend::ort::Optimisation;

/// Where a model runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached<T> {
    /// The model.
    pub(super) model: T,
    /// The level.
    pub(super) optimisation: Optimisation,
    /// What the first level said that did not work.
    pub(super) trouble: Option<String>,
}

/// Why a level does not do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T, E> {
    /// A lower level may do.
    Down(E),
    /// The model did not run at this level, for a reason that may be none of the level's: should no level do, it is served
    /// as it is.
    Doubt(Box<T>, String),
    /// No level will do.
    Stop(E),
}

/// The highest level at which `attempt` succeeds; if none, the highest that it doubts.
///
/// # Errors
///
/// The error that stopped it, else the first one when no level does.
pub(super) fn climb_down<T, E: Display>(
    mut attempt: impl FnMut(Optimisation) -> Result<T, Step<T, E>>,
) -> Result<Reached<T>, E> {
    let (trouble, mut kept) = match attempt(Optimisation::All) {
        Ok(model) => return Ok(Reached { model, optimisation: Optimisation::All, trouble: None }),
        Err(Step::Stop(error)) => return Err(error),
        Err(Step::Down(error)) => (error.to_string(), Err(error)),
        Err(Step::Doubt(model, reason)) => (reason, Ok((*model, Optimisation::All))),
    };
    for optimisation in Optimisation::LOWER {
        match attempt(optimisation) {
            Ok(model) => return Ok(Reached { model, optimisation, trouble: Some(trouble) }),
            Err(Step::Stop(error)) => return Err(error),
            Err(Step::Doubt(model, _)) if kept.is_err() => kept = Ok((*model, optimisation)),
            Err(Step::Down(_) | Step::Doubt(..)) => {}
        }
    }
    kept.map(|(model, optimisation)| Reached { model, optimisation, trouble: Some(trouble) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Optimisation::{All, Basic, Disabled, Extended};

    type Attempt = Result<u8, Step<u8, &'static str>>;

    fn climbed(attempts: [Attempt; 4]) -> Result<(u8, Optimisation, Option<String>), &'static str> {
        let mut attempts = attempts.into_iter();
        let mut levels = vec![];
        let reached = climb_down(|level| {
            levels.push(level);
            attempts.next().unwrap()
        });
        assert_eq!(levels, [All, Extended, Basic, Disabled][..levels.len()]);
        reached.map(|reached| (reached.model, reached.optimisation, reached.trouble))
    }

    #[test]
    fn the_highest_level_that_runs_is_taken_and_the_first_trouble_kept() {
        let down = |text| Err(Step::Down(text));
        let doubt = |model| Err(Step::Doubt(Box::new(model), "doubt".to_owned()));
        assert_eq!(climbed([Ok(1), Ok(2), Ok(3), Ok(4)]), Ok((1, All, None)));
        assert_eq!(climbed([down("a"), doubt(2), Ok(3), Ok(4)]), Ok((3, Basic, Some("a".into()))));
        assert_eq!(climbed([doubt(1), down("b"), down("c"), Ok(4)]), Ok((4, Disabled, Some("doubt".into()))));
        assert_eq!(climbed([doubt(1), doubt(2), doubt(3), doubt(4)]), Ok((1, All, Some("doubt".into()))));
        assert_eq!(climbed([down("a"), doubt(2), doubt(3), down("d")]), Ok((2, Extended, Some("a".into()))));
        assert_eq!(climbed([down("a"), down("b"), down("c"), down("d")]), Err("a"));
        assert_eq!(climbed([doubt(1), Err(Step::Stop("stop")), Ok(3), Ok(4)]), Err("stop"));
    }
}
