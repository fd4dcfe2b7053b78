//! Where a process listens: reads `host:port`, and keeps keys and requests off the network in the clear.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// Why an address is not listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be understood.
    #[error("`{0}` is not an address to listen on: write one like `127.0.0.1:8080`")]
    NoAddress(String),
    /// It would send keys and requests through the network for all to read.
    #[error(
        "`{0}` can be reached from other machines, and without TLS everybody on the way reads the keys and the requests: \
         give `--tls-cert` and `--tls-key`, listen on 127.0.0.1, or say `--insecure-listen-in-the-clear` if something else encrypts"
    )]
    InTheClear(SocketAddr),
}

/// Reads `host:port`, where the host may be a name. A name with several addresses stands for its first.
///
/// # Errors
///
/// [`ListenError::NoAddress`].
pub fn address(text: &str) -> Result<SocketAddr, ListenError> {
    let unreadable = || ListenError::NoAddress(text.to_owned());
    let mut addresses = text.to_socket_addrs().map_err(|_| unreadable())?;
    addresses.next().ok_or_else(unreadable)
}

/// Refuses an address that other machines reach, unless what is sent is encrypted or the user has said that it need not be.
///
/// # Errors
///
/// [`ListenError::InTheClear`].
pub fn check(address: SocketAddr, encrypted: bool, in_the_clear: bool) -> Result<(), ListenError> {
    let local = address.ip().to_canonical().is_loopback();
    if local || encrypted || in_the_clear { Ok(()) } else { Err(ListenError::InTheClear(address)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clear_is_for_this_machine() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            let address = address(text).unwrap();
            assert_eq!(check(address, false, false).is_ok(), local, "{text}");
            assert!(check(address, true, false).is_ok() && check(address, false, true).is_ok(), "{text}");
        }
        assert_eq!(address("8080"), Err(ListenError::NoAddress("8080".to_owned())));
    }
}
