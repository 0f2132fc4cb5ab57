//! Addresses of clients.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::error::{Error, Object, ObjectKind, Result};

/// The address of a client: `IP:PORT/NONCE`. Watchers, lockers and lock owners have one, and the
/// blocklist accepts it. The nonce tells apart the clients of one host, whose port is normally 0.
///
/// Two addresses are equal if they mean the same client, with or without the protocol version in
/// front.
///
/// ```
/// use rbd::ClientAddress;
/// let address: ClientAddress = "127.0.0.1:0/3461389112".parse()?;
/// assert_eq!(address, "v1:127.0.0.1:0/3461389112".parse()?);
/// assert_eq!(address.to_string(), "127.0.0.1:0/3461389112");
/// assert!("client.4123".parse::<ClientAddress>().is_err());
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientAddress(String);

impl ClientAddress {
    /// Wraps an address in Ceph's format, unchecked.
    pub(crate) fn from_ceph(text: String) -> ClientAddress {
        ClientAddress(text)
    }

    /// Returns the address in Ceph's format.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the address is unknown. Ceph does not report the address of every lock
    /// holder.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn plain(&self) -> &str {
        ["v1:", "v2:", "any:"].iter().find_map(|version| self.0.strip_prefix(version)).unwrap_or(&self.0)
    }
}

/// Accepts `IP:PORT/NONCE`, optionally with `v1:`, `v2:` or `any:` in front, and `IP`, which means
/// all clients of that machine. `IP:PORT` is refused, because no client has such an address.
impl FromStr for ClientAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<ClientAddress> {
        let address = ClientAddress(text.to_owned());
        // `10.0.0.0/24` would mean one client with the nonce 24, and `10.0.0.1:6789` one with the
        // nonce 0. Both would fence no client.
        let is_address = match address.plain().split_once('/') {
            Some((place, nonce)) => place.parse::<SocketAddr>().is_ok() && nonce.parse::<u32>().is_ok(),
            None => address.plain().parse::<IpAddr>().is_ok(),
        };
        if is_address {
            return Ok(address);
        }
        let why = "it is not an address of the form IP:PORT/NONCE; take that of a watcher or lock owner";
        Err(Error::invalid("parse", Object::new(ObjectKind::Client, text), why))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for ClientAddress {
    fn eq(&self, other: &ClientAddress) -> bool {
        self.plain() == other.plain()
    }
}

impl Eq for ClientAddress {}

impl Hash for ClientAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plain().hash(state);
    }
}

impl AsRef<str> for ClientAddress {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_parse() {
        for good in ["127.0.0.1:0/3461389112", "v1:10.0.0.1:0/1", "[::1]:0/5", "any:[::1]:0/5", "10.0.0.1"] {
            assert_eq!(good.parse::<ClientAddress>().unwrap().to_string(), good);
        }
        for bad in ["", "client.4123", "127.0.0.1:0/x", "localhost:0/1", "10.0.0.0/-1", "10.0.0.1:0"] {
            assert!(bad.parse::<ClientAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_version_of_the_protocol_makes_no_other_client() {
        let parse = |text: &str| text.parse::<ClientAddress>().unwrap();
        assert_eq!(parse("v2:10.0.0.1:0/7"), parse("10.0.0.1:0/7"));
        assert_ne!(parse("10.0.0.1:0/7"), parse("10.0.0.1:0/8"));
    }
}
