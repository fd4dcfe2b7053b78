//! The load one start-up time ahead: several guesses, each kept until its time comes, and the one believed that was nearest of late.

use std::collections::VecDeque;

use super::{level::Level, seasons::Seasons};

/// Guesses that wait for their time, at most: one a second for ten minutes, longer than a replica may take to start.
const PENDING_MAX: usize = 600;
/// Weight of the newest error: errors older than a minute or so are forgotten.
const NEW: f64 = 1.0 / 40.0;
/// A guess must be this much nearer than the present load to be believed before it.
const BETTER: f64 = 0.85;
/// Guesses that must have come true or not before any is believed.
const TRIED_MIN: u32 = 30;
/// Mean absolute error to standard deviation, for a normal one.
const TO_DEVIATION: f64 = 1.25;

/// How the load ahead was guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// As it is now.
    Reactive,
    /// Along its slope.
    Trend,
    /// As on the days before.
    Season,
}

/// The load ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ahead {
    /// Requests per second.
    pub rate: f64,
    /// Its standard deviation by the errors of late.
    pub deviation: f64,
    /// How it was guessed.
    pub model: Model,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Guess {
    due_ms: u64,
    now: f64,
    trend: f64,
    season: Option<f64>,
}

/// Guesses and how far off they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Forecast {
    seasons: Seasons,
    pending: VecDeque<Guess>,
    tried: u32,
    now_off: f64,
    trend_off: f64,
    season_tried: u32,
    season_off: f64,
}

impl Forecast {
    /// Guesses the load `ahead_ms` from now, after judging the guesses whose time has come.
    pub(super) fn ahead(&mut self, level: &Level, now_ms: u64, ahead_ms: u64) -> Ahead {
        self.judge(level.mean, now_ms);
        self.seasons.learn(now_ms, level.mean);
        let ahead_s = ahead_ms as f64 / 1000.0;
        // A guess by the seasons stands on the days before only: today's minutes are not ahead of now.
        let season = self.seasons.change(now_ms, now_ms + ahead_ms).map(|change| level.mean * change);
        let trend = (level.mean + level.slope * ahead_s).max(0.0);
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(Guess { due_ms: now_ms + ahead_ms, now: level.mean, trend, season });
        }
        let lag = level.slope * level.lag_s;
        let reactive = Ahead { rate: level.mean, deviation: self.now_off * TO_DEVIATION, model: Model::Reactive };
        let mut best = reactive;
        let mut off = self.now_off * BETTER;
        if self.tried >= TRIED_MIN && self.trend_off < off {
            off = self.trend_off;
            best = Ahead { rate: (trend + lag).max(0.0), deviation: off * TO_DEVIATION, model: Model::Trend };
        }
        if let Some(season) = season
            && self.season_tried >= TRIED_MIN
            && self.season_off < off
        {
            best = Ahead { rate: season, deviation: self.season_off * TO_DEVIATION, model: Model::Season };
        }
        best
    }

    fn judge(&mut self, rate: f64, now_ms: u64) {
        while self.pending.front().is_some_and(|guess| guess.due_ms <= now_ms) {
            let Some(guess) = self.pending.pop_front() else { return };
            self.tried = self.tried.saturating_add(1);
            let weight = NEW.max(1.0 / f64::from(self.tried));
            self.now_off += weight * ((guess.now - rate).abs() - self.now_off);
            self.trend_off += weight * ((guess.trend - rate).abs() - self.trend_off);
            if let Some(season) = guess.season {
                self.season_tried = self.season_tried.saturating_add(1);
                let weight = NEW.max(1.0 / f64::from(self.season_tried));
                self.season_off += weight * ((season - rate).abs() - self.season_off);
            }
        }
    }
}
