//! Which network addresses a submitted web address may lead to. Pure.
//!
//! A host name is only a promise: its owner may let it point to a machine of ours, to this one or
//! to the service that hands out its credentials. So the addresses themselves are judged, at the
//! moment of connecting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far away an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On the public internet.
    Public,
    /// This machine or its network: only for hosts that the settings name for it.
    Private,
    /// Never: metadata services, link-local, multicast, reserved, forms that hide another address.
    Never,
}

/// Judges an address.
pub(crate) fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

/// Metadata services that do not lie in the link-local range: Alibaba Cloud, Azure, Oracle.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    if METADATA_V4.contains(&ip) {
        return Reach::Never;
    }
    match (a, b, c) {
        // Loopback, private networks, carrier-grade NAT, networks for measurements.
        (127 | 10, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Reach::Private,
        (198, 18..=19, _) => Reach::Private,
        // "This" network, link-local, protocol assignments, documentation, 6to4 relays,
        // multicast, reserved and broadcast.
        (0, _, _) | (169, 254, _) | (192, 0, 0 | 2) | (192, 88, 99) => Reach::Never,
        (198, 51, 100) | (203, 0, 113) | (224..=255, _, _) => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_loopback() {
        return Reach::Private;
    }
    match ip.segments() {
        // NAT64 is how networks without IPv4 reach public IPv4 hosts; anything else behind it is
        // an attempt to reach what is refused by its own name.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            match reach_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))) {
                Reach::Public => Reach::Public,
                Reach::Private | Reach::Never => Reach::Never,
            }
        }
        // Metadata services of AWS and Google.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0xce, ..] => Reach::Never,
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Teredo, benchmarks and ORCHID; documentation; 6to4: none of them leads to a server.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] => Reach::Never,
        [0x3fff, 0..=0x0fff, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        // Unspecified, IPv4 in other clothes (mapped, compatible, local NAT64), link-local,
        // site-local, multicast, and what nobody has assigned.
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let check = |text: &str, wanted| {
            assert_eq!(reach(text.parse().unwrap()), wanted, "{text}");
        };
        for text in [
            "1.1.1.1",
            "93.184.216.34",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "168.63.129.17",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::5db8:d822",
        ] {
            check(text, Reach::Public);
        }
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "::1",
            "fc00::1",
            "fd12:3456::1",
        ] {
            check(text, Reach::Private);
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
        ] {
            check(text, Reach::Never);
        }
    }
}
