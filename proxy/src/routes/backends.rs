//! Which addresses a request may be sent to at all, whoever names them. Pure.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// The networks and ports that sessions' backends live in.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Networks of the hosts that run sessions.
    pub networks: Vec<IpNet>,
    /// Ranges of the dynamic ports there.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl Default for Backends {
    /// Private and loopback networks, and Nomad's range of dynamic ports.
    fn default() -> Self {
        let networks =
            ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "::1/128"];
        Self {
            networks: networks.iter().filter_map(|net| net.parse().ok()).collect(),
            ports: vec![20_000..=32_000],
        }
    }
}

impl Backends {
    /// Whether a backend may live there. Link-local addresses never: a cloud's metadata service answers there.
    #[must_use]
    pub fn permit(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let forbidden = match ip {
            IpAddr::V4(ip) => {
                ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()
            }
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
        };
        !forbidden
            && self.ports.iter().any(|ports| ports.contains(&address.port()))
            && self.networks.iter().any(|net| net.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permitted(address: &str) -> bool {
        Backends::default().permit(address.parse().unwrap())
    }

    #[test]
    fn the_default_permits_private_hosts_on_dynamic_ports_only() {
        for address in
            ["127.0.0.1:20000", "10.1.2.3:32000", "192.168.7.7:25000", "[fd00::1]:20001", "[::1]:20000"]
        {
            assert!(permitted(address), "{address} must be permitted");
        }
        for address in [
            "127.0.0.1:19999",
            "127.0.0.1:32001",
            "8.8.8.8:20000",
            "169.254.169.254:20000",
            "[fe80::1]:20000",
            "[::ffff:169.254.169.254]:20000",
            "0.0.0.0:20000",
            "[::]:20000",
            "224.0.0.1:20000",
        ] {
            assert!(!permitted(address), "{address} must be refused");
        }
    }

    #[test]
    fn link_local_is_refused_even_where_the_networks_name_it() {
        let all = Backends {
            networks: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            ports: vec![1..=65_535],
        };
        assert!(all.permit("8.8.8.8:443".parse().unwrap()));
        assert!(!all.permit("169.254.169.254:80".parse().unwrap()));
        assert!(!all.permit("[fe80::1]:80".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_is_permitted_lies_in_a_network_and_in_the_range(ip: [u8; 4], port: u16) {
            let rules = Backends::default();
            if rules.permit((ip, port).into()) {
                prop_assert!((20_000..=32_000).contains(&port));
                prop_assert!(matches!(ip, [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..]));
            }
        }

        #[test]
        fn a_mapped_address_is_judged_as_what_it_is(ip: [u8; 4], port: u16) {
            let rules = Backends::default();
            let plain = std::net::Ipv4Addr::from(ip);
            prop_assert_eq!(rules.permit((plain, port).into()), rules.permit((plain.to_ipv6_mapped(), port).into()));
        }
    }
}
