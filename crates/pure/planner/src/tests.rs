//! Golden scripts and random histories.
