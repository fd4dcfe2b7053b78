//! Who asks, and whether they may: a pure function of the keys and the request's header.

use std::collections::HashMap;

use resources::access::{Action, KeyRecord};

use crate::key::{Digest, Parsed};

/// Why nobody could be recognised. All of them are the client's to change; HTTP 401, gRPC `UNAUTHENTICATED`.
///
/// The messages do not tell an unknown id from a wrong secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no header.
    #[error("a key is needed: send `authorization: Bearer berth_<id>_<secret>`")]
    Missing,
    /// The header does not hold a key.
    #[error("the authorization header is not a key: send `authorization: Bearer berth_<id>_<secret>`")]
    Malformed,
    /// No such key: it was never made, or it is revoked, or its secret is wrong.
    #[error("the key is not known: it may be mistyped or revoked")]
    Unknown,
}

/// The key is known and does not permit this. HTTP 403, gRPC `PERMISSION_DENIED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key does not permit this: ask for a key with the permission, or for another service")]
pub struct Forbidden;

/// A record that no key can ever match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRecordError {
    /// The digest is not SHA-256 in hexadecimal.
    #[error("the digest of key `{0}` is not 64 hexadecimal digits")]
    Digest(String),
    /// Two records have one id.
    #[error("key `{0}` is there twice")]
    Twice(String),
}

#[derive(Clone, Debug)]
struct Entry {
    record: KeyRecord,
    digest: Digest,
}

/// The keys that are not revoked, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    keys: HashMap<String, Entry>,
}

impl Authorizer {
    /// Reads the records; a wrong one refuses them all, since a key that silently never works helps nobody.
    pub fn new(records: &[KeyRecord]) -> Result<Self, KeyRecordError> {
        let mut keys = HashMap::with_capacity(records.len());
        for record in records {
            let digest = Digest::from_hex(&record.digest).ok_or_else(|| KeyRecordError::Digest(record.id.clone()))?;
            if keys.insert(record.id.clone(), Entry { record: record.clone(), digest }).is_some() {
                return Err(KeyRecordError::Twice(record.id.clone()));
            }
        }
        Ok(Self { keys })
    }

    /// Finds the key in the value of an `Authorization` header (RFC 6750): `Bearer berth_<id>_<secret>`.
    ///
    /// The secret is digested for unknown ids too, so that the time taken says nothing about which ids exist.
    pub fn authenticate(&self, header: Option<&[u8]>) -> Result<&KeyRecord, AuthError> {
        let header = header.ok_or(AuthError::Missing)?;
        let token = bearer(header).ok_or(AuthError::Malformed)?;
        let parsed = Parsed::parse(token).ok_or(AuthError::Malformed)?;
        let digest = Digest::of(parsed.secret.as_bytes());
        let entry = self.keys.get(parsed.id).ok_or(AuthError::Unknown)?;
        if entry.digest.matches(&digest) { Ok(&entry.record) } else { Err(AuthError::Unknown) }
    }

    /// Whether `key` permits `action` on `service`.
    pub fn authorise(key: &KeyRecord, action: Action, service: Option<&str>) -> Result<(), Forbidden> {
        if key.allow.iter().any(|permission| permission.covers(action, service)) { Ok(()) } else { Err(Forbidden) }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The token after the scheme, which is written in any case (RFC 9110, 11.1) and followed by spaces.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    Some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use resources::access::Permission;

    use super::*;
    use crate::key::{NewKey, generate};

    fn record(new: &NewKey, allow: &[&str]) -> KeyRecord {
        KeyRecord {
            id: new.id.clone(),
            name: "k".to_owned(),
            digest: new.digest.clone(),
            allow: allow.iter().map(|text| Permission::parse(text).unwrap()).collect(),
            created_at: "2026-01-01T00:00:00.000Z".to_owned(),
        }
    }

    fn header(key: &NewKey) -> Vec<u8> {
        format!("Bearer {}", key.key.expose()).into_bytes()
    }

    #[test]
    fn recognises_its_keys_and_no_others() {
        let (known, foreign) = (generate().unwrap(), generate().unwrap());
        let authorizer = Authorizer::new(&[record(&known, &["infer:*"])]).unwrap();
        assert_eq!(authorizer.authenticate(Some(&header(&known))).unwrap().id, known.id);
        assert_eq!(authorizer.authenticate(None), Err(AuthError::Missing));
        assert_eq!(authorizer.authenticate(Some(&header(&foreign))), Err(AuthError::Unknown));
        // The id of one key with the secret of another.
        let mixed = format!("Bearer berth_{}_{}", known.id, foreign.key.expose().rsplit_once('_').unwrap().1);
        assert_eq!(authorizer.authenticate(Some(mixed.as_bytes())), Err(AuthError::Unknown));
        assert_eq!(Authorizer::default().authenticate(Some(&header(&known))), Err(AuthError::Unknown));
    }

    #[test]
    fn the_scheme_is_written_in_any_case() {
        let known = generate().unwrap();
        let authorizer = Authorizer::new(&[record(&known, &["metrics"])]).unwrap();
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            let value = format!("{scheme} {}", known.key.expose());
            assert!(authorizer.authenticate(Some(value.as_bytes())).is_ok(), "{scheme}");
        }
        for scheme in ["Basic", "Bearer:", "", "Token", "Bear"] {
            let value = format!("{scheme} {}", known.key.expose());
            assert_eq!(authorizer.authenticate(Some(value.as_bytes())), Err(AuthError::Malformed), "{scheme}");
        }
        assert_eq!(authorizer.authenticate(Some(known.key.expose().as_bytes())), Err(AuthError::Malformed));
    }

    #[test]
    fn permissions_are_scoped() {
        let key = record(&generate().unwrap(), &["infer:spam", "metadata:iris"]);
        let may = |action, service| Authorizer::authorise(&key, action, service).is_ok();
        assert!(may(Action::Infer, Some("spam")));
        assert!(may(Action::Metadata, Some("spam")));
        assert!(may(Action::Metadata, Some("iris")));
        assert!(!may(Action::Infer, Some("iris")));
        assert!(!may(Action::Infer, Some("other")));
        assert!(!may(Action::Metrics, None));
        let metrics = record(&generate().unwrap(), &["metrics"]);
        assert!(Authorizer::authorise(&metrics, Action::Metrics, None).is_ok());
        assert!(Authorizer::authorise(&metrics, Action::Infer, Some("spam")).is_err());
    }

    #[test]
    fn wrong_records_are_refused_by_name() {
        let new = generate().unwrap();
        let mut wrong = record(&new, &["metrics"]);
        assert_eq!(
            Authorizer::new(&[wrong.clone(), wrong.clone()]).unwrap_err(),
            KeyRecordError::Twice(new.id.clone())
        );
        wrong.digest = "00".to_owned();
        assert_eq!(Authorizer::new(&[wrong]).unwrap_err(), KeyRecordError::Digest(new.id));
    }

    proptest! {
        #[test]
        fn no_header_is_let_in_by_chance(header in proptest::collection::vec(any::<u8>(), 0..120)) {
            let known = generate().unwrap();
            let authorizer = Authorizer::new(&[record(&known, &["infer:*"])]).unwrap();
            prop_assert!(authorizer.authenticate(Some(&header)).is_err());
        }

        #[test]
        fn one_changed_character_is_refused(at in 6usize..62, with in "[a-zA-Z0-9_]") {
            let known = generate().unwrap();
            let authorizer = Authorizer::new(&[record(&known, &["infer:*"])]).unwrap();
            let mut text = known.key.expose().as_bytes().to_vec();
            prop_assume!(text[at] != with.as_bytes()[0]);
            text[at] = with.as_bytes()[0];
            let header = [b"Bearer ".as_slice(), &text].concat();
            prop_assert!(authorizer.authenticate(Some(&header)).is_err());
        }
    }
}
