//! Which revision a request is for while two share the traffic: a pure function of its ticket.
//!
//! A ticket is a number from the whole range of 32 bits. The newest revision takes the tickets below its share, so that growing
//! its share moves clients to it and none away from it. Without stickiness the ticket is drawn for each request; with it, it
//! is a hash of what the client is known by. The hash is salted with the newest revision's number: each experiment draws its own
//! clients, and nobody is always the first to try what is new.

use http::{HeaderMap, HeaderName, header};
use resources::{id::Revision, inference_service::Sticky, status::RevisionTraffic};

/// Cookies of one request that are looked at; browsers send at most a few dozen to one site.
const COOKIES_MAX: usize = 256;

/// How requests are shared out, and what keeps a client with one revision.
#[derive(Debug)]
pub(crate) struct Split {
    /// Tickets below the number are the revision's, unless they are another's before it.
    bounds: Vec<(u64, Revision)>,
    sticky: By,
    salt: u64,
}

#[derive(Debug)]
enum By {
    Nothing,
    Header(HeaderName),
    Cookie(String),
    Key,
}

impl Split {
    /// The split of a service; nothing when one revision gets everything.
    pub(crate) fn new(shares: &[RevisionTraffic], sticky: Option<&Sticky>) -> Option<Self> {
        let mut percent = 0;
        let bound = |share: &RevisionTraffic| {
            percent += u64::from(share.percent);
            ((percent << 32).div_ceil(100), share.revision)
        };
        let salt = shares.first()?.revision.0;
        Some(Self { bounds: shares.iter().map(bound).collect(), sticky: By::of(sticky), salt })
    }

    /// The ticket of a request. One without what it should be known by draws `random`.
    pub(crate) fn ticket(&self, headers: &HeaderMap, key: &str, random: u32) -> u32 {
        let known_by = match &self.sticky {
            By::Nothing => None,
            By::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
            By::Cookie(name) => cookie(headers, name),
            By::Key => Some(key.as_bytes()),
        };
        known_by.filter(|value| !value.is_empty()).map_or(random, |value| hash(self.salt, value))
    }

    /// The revision of a ticket.
    pub(crate) fn draw(&self, ticket: u32) -> Option<Revision> {
        self.bounds.iter().find(|(bound, _)| u64::from(ticket) < *bound).map(|(_, revision)| *revision)
    }

    /// Revisions with a share, the newest first.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = Revision> {
        let mut before = 0;
        self.bounds.iter().filter_map(move |(bound, revision)| {
            let share = *bound > before;
            before = *bound;
            share.then_some(*revision)
        })
    }
}

impl By {
    fn of(sticky: Option<&Sticky>) -> Self {
        match sticky {
            Some(Sticky { header: Some(name), .. }) => {
                // The API has checked the name; one from elsewhere that is none is never sent, and every request is drawn.
                HeaderName::from_bytes(name.as_bytes()).map_or(Self::Nothing, Self::Header)
            }
            Some(Sticky { cookie: Some(name), .. }) => Self::Cookie(name.clone()),
            Some(Sticky { key: Some(true), .. }) => Self::Key,
            _ => Self::Nothing,
        }
    }
}

/// The value of the first cookie of this name (RFC 6265, 5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.take(COOKIES_MAX).find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// FNV-1a over the salt and the bytes, then the finaliser of MurmurHash3, which spreads it over all bits; the upper half of them.
fn hash(salt: u64, bytes: &[u8]) -> u32 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut mixed = bytes.iter().fold(salt.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step), step);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    u32::try_from((mixed ^ (mixed >> 33)) >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(percent: u32, sticky: Option<Sticky>) -> Split {
        let share = |revision, percent| RevisionTraffic { revision: Revision(revision), percent };
        Split::new(&[share(2, percent), share(1, 100 - percent)], sticky.as_ref()).unwrap()
    }

    fn by_header() -> Option<Sticky> {
        Some(Sticky { header: Some("X-User".to_owned()), ..Sticky::default() })
    }

    fn of_user(split: &Split, user: &str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", user.parse().unwrap());
        split.draw(split.ticket(&headers, "", 0)).unwrap().0
    }

    #[test]
    fn the_ends_of_the_range() {
        for (percent, first, last) in [(0, 1, 1), (1, 2, 1), (50, 2, 1), (100, 2, 2)] {
            let split = split(percent, None);
            assert_eq!(split.draw(0), Some(Revision(first)), "{percent}");
            assert_eq!(split.draw(u32::MAX), Some(Revision(last)), "{percent}");
        }
        assert_eq!(split(0, None).revisions().collect::<Vec<_>>(), [Revision(1)]);
        assert_eq!(split(100, None).revisions().collect::<Vec<_>>(), [Revision(2)]);
        assert!(Split::new(&[], None).is_none());
    }

    #[test]
    fn growing_a_share_moves_nobody_back_and_keeps_to_the_share() {
        let users: Vec<String> = (0..20_000).map(|number| format!("user-{number}")).collect();
        let mut before = vec![1; users.len()];
        for percent in [1, 5, 25, 50, 75, 100] {
            let split = split(percent, by_header());
            let now: Vec<u64> = users.iter().map(|user| of_user(&split, user)).collect();
            assert!(before.iter().zip(&now).all(|(before, now)| before <= now), "{percent}");
            let newest = u32::try_from(now.iter().filter(|revision| **revision == 2).count()).unwrap();
            // Five standard deviations of a fair draw are 1.8 percent at most.
            assert!(newest.abs_diff(percent * 200) <= 360, "{percent} % gave {newest}");
            before = now;
        }
    }

    #[test]
    fn what_a_client_is_known_by() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; session=s-1;b=2".parse().unwrap());
        headers.append("cookie", "other=3".parse().unwrap());
        let cookies = |name: &str| Some(Sticky { cookie: Some(name.to_owned()), ..Sticky::default() });
        let ticket = |sticky| split(50, sticky).ticket(&headers, "key-1", 7);
        assert_eq!(ticket(cookies("session")), hash(2, b"s-1"));
        assert_eq!(ticket(cookies("other")), hash(2, b"3"));
        assert_eq!(ticket(Some(Sticky { key: Some(true), ..Sticky::default() })), hash(2, b"key-1"));
        // Nothing to know it by: drawn.
        for sticky in [cookies("sess"), by_header(), None] {
            assert_eq!(ticket(sticky), 7);
        }
    }
}
