//! How many connections there may be, in all and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections that are open.
#[derive(Debug)]
pub(crate) struct Places {
    total: usize,
    per_client: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    of: HashMap<Client, usize>,
}

/// Who is counted as one client. Whoever has an IPv6 address has all those that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Which bound a connection has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// So many connections are open.
    Total,
    /// So many of this client are.
    Client,
}

impl Places {
    pub(crate) fn new(total: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { total, per_client, open: Mutex::default() })
    }

    /// A place for a connection, whoever it is from.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Place, Full> {
        let mut open = self.open.lock();
        if open.total >= self.total {
            return Err(Full::Total);
        }
        open.total += 1;
        Ok(Place { places: self.clone(), client: None })
    }

    #[cfg(test)]
    fn open(&self) -> usize {
        self.open.lock().total
    }
}

/// One connection's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    client: Option<Client>,
}

impl Place {
    /// Now it is known whose it is.
    pub(crate) fn belongs_to(mut self, address: IpAddr) -> Result<Self, Full> {
        let client = Client::of(address);
        {
            let mut open = self.places.open.lock();
            let of = open.of.entry(client).or_default();
            if *of >= self.places.per_client {
                return Err(Full::Client);
            }
            *of += 1;
        }
        self.client = Some(client);
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock();
        open.total -= 1;
        if let Some(client) = self.client
            && let Entry::Occupied(mut of) = open.of.entry(client)
        {
            *of.get_mut() -= 1;
            if *of.get() == 0 {
                of.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_that_has_its_share_leaves_room_for_others() {
        let places = Places::new(4, 2);
        let seat = |client: &str| places.take()?.belongs_to(address(client));
        let first = seat("192.0.2.1").unwrap();
        let _second = seat("::ffff:192.0.2.1").unwrap();
        assert_eq!(seat("192.0.2.1").err(), Some(Full::Client));
        let _other = seat("192.0.2.2").unwrap();
        drop(first);
        let _again = seat("192.0.2.1").unwrap();
        let _hop = places.take().unwrap();
        assert_eq!(places.take().err(), Some(Full::Total));
    }

    #[test]
    fn half_an_address_of_six_words_is_one_client() {
        let places = Places::new(9, 1);
        let seat = |client: &str| places.take()?.belongs_to(address(client));
        let _one = seat("2001:db8:1:2::1").unwrap();
        assert_eq!(seat("2001:db8:1:2:ffff::9").err(), Some(Full::Client));
        assert!(seat("2001:db8:1:3::1").is_ok());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_given_back(clients in prop::collection::vec(0u8..6, 0..60)) {
            let places = Places::new(20, 5);
            let mut held = Vec::new();
            for client in clients {
                let seated = places.take().and_then(|place| place.belongs_to([192, 0, 2, client].into()));
                held.extend(seated);
                if held.len() % 3 == 2 {
                    held.swap_remove(0);
                }
                prop_assert_eq!(places.open(), held.len());
            }
            drop(held);
            prop_assert_eq!(places.open(), 0);
            prop_assert!(places.open.lock().of.is_empty());
        }
    }
}
