//! The form of a key, and how one is made: `berth_<id>_<secret>`.
//!
//! The secret is 43 characters out of 62, each drawn evenly from the operating system's randomness: 256 bits. A slow hash
//! (Argon2, bcrypt) makes guessing a *human's* password dear; nobody can guess 256 bits at any speed, so one SHA-256
//! is kept of it, and checking a key costs a request a fraction of a microsecond.

use std::fmt;

use rand::{TryRng, rngs::SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every key begins with, so that people and secret scanners recognise one.
pub const PREFIX: &str = "berth_";

/// Characters of an id: 62 bits, so that two keys of one data directory never share one by chance.
const ID_LEN: usize = 12;
/// Characters of a secret: log2(62^43) is a little over 256 bits.
const SECRET_LEN: usize = 43;
const ID_ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const SECRET_ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Draws of 64 random bytes before giving up. One draw is nearly always enough; a source that fails this often is broken.
const DRAWS_MAX: usize = 64;

/// The operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no randomness: {0}")]
pub struct RandomError(String);

/// A text that is wiped when it goes and that is never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// SHA-256 of a key's secret.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests the secret part of a key.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// 64 hexadecimal digits, as `KeyRecord` keeps them.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<digest>")
    }
}

/// A key that was just made.
#[derive(Debug)]
pub struct NewKey {
    /// Its public part.
    pub id: String,
    /// The whole key, to be shown once: `berth_<id>_<secret>`.
    pub key: Secret,
    /// What is kept of it, hexadecimal.
    pub digest: String,
}

/// Makes a key from the operating system's randomness.
pub fn generate() -> Result<NewKey, RandomError> {
    let id = draw(ID_ALPHABET, ID_LEN)?;
    let secret = draw(SECRET_ALPHABET, SECRET_LEN)?;
    let digest = Digest::of(secret.as_bytes()).to_hex();
    let key = Secret::from(format!("{PREFIX}{}_{}", *id, *secret));
    Ok(NewKey { id: (*id).clone(), key, digest })
}

/// `len` characters, each evenly out of `alphabet`: bytes that would favour its first letters are drawn again.
fn draw(alphabet: &[u8], len: usize) -> Result<Zeroizing<String>, RandomError> {
    // Room for all of it, so that no reallocation leaves a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(len));
    let fair = 256 - 256 % alphabet.len();
    for _ in 0..DRAWS_MAX {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        SysRng.try_fill_bytes(&mut *bytes).map_err(|error| RandomError(error.to_string()))?;
        let letters = bytes.iter().filter(|byte| usize::from(**byte) < fair);
        for letter in letters.filter_map(|byte| alphabet.get(usize::from(*byte) % alphabet.len())) {
            if text.len() == len {
                return Ok(text);
            }
            text.push(char::from(*letter));
        }
    }
    Err(RandomError("its bytes are not random".to_owned()))
}

/// The parts of a key that somebody sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Public part.
    pub id: &'a str,
    /// Secret part.
    pub secret: &'a str,
}

impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed").field("id", &self.id).field("secret", &"<secret>").finish()
    }
}

impl<'a> Parsed<'a> {
    /// Splits `berth_<id>_<secret>`; nothing when the text has another form.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = id.len() == ID_LEN
            && secret.len() == SECRET_LEN
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then_some(Self { id, secret })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_key_parses_and_matches_its_digest() {
        let new = generate().unwrap();
        let parsed = Parsed::parse(new.key.expose().as_bytes()).unwrap();
        assert_eq!(parsed.id, new.id);
        assert!(Digest::from_hex(&new.digest).unwrap().matches(&Digest::of(parsed.secret.as_bytes())));
        assert!(!Digest::from_hex(&new.digest).unwrap().matches(&Digest::of(b"another")));
    }

    #[test]
    fn keys_differ_and_use_the_whole_alphabet() {
        let keys: Vec<_> = (0..200).map(|_| generate().unwrap()).collect();
        assert_eq!(keys.iter().map(|key| key.id.clone()).collect::<BTreeSet<_>>().len(), keys.len());
        let letters: BTreeSet<u8> = keys
            .iter()
            .flat_map(|key| Parsed::parse(key.key.expose().as_bytes()).unwrap().secret.bytes().collect::<Vec<_>>())
            .collect();
        assert_eq!(letters.len(), SECRET_ALPHABET.len());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let new = generate().unwrap();
        let secret = Parsed::parse(new.key.expose().as_bytes()).unwrap();
        let shown = format!("{new:?} {secret:?} {:?}", Digest::of(secret.secret.as_bytes()));
        assert!(!shown.contains(secret.secret));
        assert!(shown.contains("<secret>"));
    }

    #[test]
    fn other_forms_are_not_keys() {
        let secret = "s".repeat(SECRET_LEN);
        for text in [
            String::new(),
            "berth_".to_owned(),
            format!("berth_0123456789ab_{secret}s"),
            format!("berth_0123456789a_{secret}"),
            format!("berth_0123456789AB_{secret}"),
            format!("other_0123456789ab_{secret}"),
            format!("berth_0123456789ab_{secret} "),
            format!("berth_0123456789ab-{secret}"),
        ] {
            assert_eq!(Parsed::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(parsed) = Parsed::parse(&bytes) {
                prop_assert_eq!(format!("{PREFIX}{}_{}", parsed.id, parsed.secret).into_bytes(), bytes);
            }
        }

        #[test]
        fn what_has_the_form_parses(id in "[a-z0-9]{12}", secret in "[A-Za-z0-9]{43}") {
            let text = format!("{PREFIX}{id}_{secret}");
            prop_assert_eq!(Parsed::parse(text.as_bytes()), Some(Parsed { id: &id, secret: &secret }));
        }
    }
}
