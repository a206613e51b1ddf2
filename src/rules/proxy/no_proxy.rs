//! The hosts that are reached without a proxy: `NO_PROXY`.

use std::net::{IpAddr, Ipv6Addr};

/// A list of hosts, separated by commas or blanks.
#[derive(Debug)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    hosts: Hosts,
    /// `None` for all ports.
    port: Option<u16>,
}

#[derive(Debug)]
enum Hosts {
    /// `*`
    All,
    /// A name and all names that end with a dot and it. In lower case, without dots around it.
    Domain(String),
    /// The addresses whose first bits are those of this one.
    Block(IpAddr, u8),
}

/// An entry that is not understood.
#[derive(Debug)]
pub(super) struct UnknownEntry {
    pub(super) entry: String,
    pub(super) why: &'static str,
}

impl NoProxy {
    pub(super) fn parse(list: &str) -> Result<Self, UnknownEntry> {
        let entries = list.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty());
        let entry = |text: &str| Entry::parse(text).map_err(|why| UnknownEntry { entry: text.to_owned(), why });
        entries.map(entry).collect::<Result<_, _>>().map(NoProxy)
    }

    /// Whether the list has this host: a name or an address, IPv6 without brackets.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        self.0.iter().filter(|entry| entry.port.is_none_or(|own| own == port)).any(|entry| match &entry.hosts {
            Hosts::All => true,
            Hosts::Block(block, bits) => address.is_some_and(|address| is_in_block(address, *block, *bits)),
            Hosts::Domain(_) if address.is_some() => false,
            Hosts::Domain(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some((address, bits)) = text.split_once('/') {
            let block = literal(address).ok_or("which is no block of addresses")?;
            let max = if block.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= max).ok_or("whose block has a wrong number of bits")?;
            return Ok(Entry { hosts: Hosts::Block(block, bits), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address has more than one colon, and a port only after brackets.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("whose port is not a number")?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        if let Some(address) = literal(host) {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Ok(Entry { hosts: Hosts::Block(address, bits), port });
        }
        if host == "*" {
            return Ok(Entry { hosts: Hosts::All, port });
        }
        let domain = host.strip_prefix("*.").unwrap_or(host).trim_matches('.');
        if domain.is_empty() || domain.contains(['*', ':', '[', ']', '@']) {
            return Err("which is neither a host name nor an address");
        }
        Ok(Entry { hosts: Hosts::Domain(domain.to_ascii_lowercase()), port })
    }
}

/// An address, IPv6 with or without brackets.
fn literal(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

fn is_in_block(address: IpAddr, block: IpAddr, bits: u8) -> bool {
    match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => {
            (address.to_bits() ^ block.to_bits()).leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(address), IpAddr::V6(block)) => {
            (address.to_bits() ^ block.to_bits()).leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_covered_as_in_curl() {
        for (list, host, port, covered) in [
            ("corp.test", "corp.test", 8000, true),
            ("corp.test", "api.corp.test", 8000, true),
            (".corp.test", "api.corp.test", 8000, true),
            (".corp.test", "corp.test", 8000, true),
            ("*.corp.test", "api.corp.test", 8000, true),
            ("corp.test", "notcorp.test", 8000, false),
            ("api.corp.test", "corp.test", 8000, false),
            ("a.b, api.corp.test", "api.corp.test", 8000, true),
            ("a.b api.corp.test", "api.corp.test", 8000, true),
            ("a.b,,\tapi.corp.test ,", "api.corp.test", 8000, true),
            ("CORP.test.", "API.corp.TEST", 8000, true),
            ("corp.test", "api.corp.test.", 8000, true),
            ("api.corp.test:8000", "api.corp.test", 8000, true),
            ("api.corp.test:8001", "api.corp.test", 8000, false),
            ("corp.test:8000", "api.corp.test", 8000, true),
            ("*", "api.corp.test", 8000, true),
            ("a.b,*", "api.corp.test", 8000, true),
            ("*:8000", "api.corp.test", 80, false),
            ("", "api.corp.test", 8000, false),
            ("10.0.0.0/8", "10.255.0.1", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("10.1.2.3/8", "10.9.9.9", 80, true),
            ("0.0.0.0/0", "11.0.0.1", 80, true),
            ("192.168.1.1/32", "192.168.1.1", 80, true),
            ("192.168.1.0/25", "192.168.1.128", 80, false),
            ("192.168.1.1", "192.168.1.1", 80, true),
            ("192.168.1.1:81", "192.168.1.1", 80, false),
            ("1.1", "192.168.1.1", 80, false),
            ("10.0.0.0/8", "10.example.com", 80, false),
            ("fd00::/8", "fd12::1", 80, true),
            ("fd00::/8", "fe80::1", 80, false),
            ("[fd00::1]", "fd00::1", 80, true),
            ("fd00::1", "fd00:0::1", 80, true),
            ("[fd00::1]:80", "fd00::1", 443, false),
            ("::/0", "10.0.0.1", 80, false),
        ] {
            assert_eq!(NoProxy::parse(list).unwrap().covers(host, port), covered, "{list:?} {host}:{port}");
        }
    }

    #[test]
    fn unknown_entries_are_refused() {
        for entry in [
            "10.0.0.0/33",
            "10.0.0.0/x",
            "corp.test/8",
            "a:b",
            "a:0",
            "a*b",
            "http://a",
            "[::1",
            "fd00::/129",
            ".",
            "*a",
        ] {
            let fault = NoProxy::parse(&format!("ok, {entry}")).unwrap_err();
            assert_eq!(fault.entry, entry);
        }
    }
}
