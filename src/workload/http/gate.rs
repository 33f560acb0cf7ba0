//! Whether a component may ask what it wants to ask. Pure.

use std::net::IpAddr;

use hyper::{Method, Uri};

use crate::config::{HttpHost, HttpScheme, HttpTarget};

/// Why a request does not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The component has chosen a link that there is not.
    #[error("there is no link of this name to ask by")]
    NoLink,
    /// It is no address of a host.
    #[error("it does not say which host, or says more than that")]
    NoHost,
    /// A tunnel would lead where nobody looks.
    #[error("CONNECT is not allowed")]
    Tunnel,
    /// The link leads elsewhere.
    #[error("the link does not allow {host}")]
    Host { host: HttpHost },
}

/// The host that is asked, if that is allowed.
pub(super) fn judge(target: Option<&HttpTarget>, method: &Method, uri: &Uri) -> Result<HttpHost, Denied> {
    let target = target.ok_or(Denied::NoLink)?;
    if *method == Method::CONNECT {
        return Err(Denied::Tunnel);
    }
    let host = host(uri).ok_or(Denied::NoHost)?;
    match target.hosts.contains(&host) {
        true => Ok(host),
        false => Err(Denied::Host { host }),
    }
}

/// Whether a name may stand for an address. Whoever answers for a name could send a component to what listens on this
/// machine without a password, or nowhere; what is meant to be this machine is called `localhost` or by its address.
pub(super) fn may_stand_for(name: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_local_to_a_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let means_here = name == "localhost" || name.ends_with(".localhost");
    let leads_home = ip.is_loopback() && !means_here;
    !(leads_home || is_local_to_a_link || ip.is_unspecified() || ip.is_multicast())
}

fn host(uri: &Uri) -> Option<HttpHost> {
    let scheme = match uri.scheme_str()? {
        "https" => HttpScheme::Https,
        "http" => HttpScheme::Http,
        _ => return None,
    };
    let authority = uri.authority()?;
    // The part before it would go out in the head, where some servers take it for the host.
    if authority.as_str().contains('@') {
        return None;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = name.parse().map_or_else(|_| name.to_ascii_lowercase(), |ip: IpAddr| ip.to_string());
    let port = match authority.port() {
        Some(port) => port.as_str().parse().ok()?,
        None => scheme.port(),
    };
    Some(HttpHost { scheme, name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(hosts: &[(HttpScheme, &str, u16)], uri: &str) -> Result<String, Denied> {
        let host = |&(scheme, name, port): &(_, &str, _)| HttpHost { scheme, name: name.to_owned(), port };
        let target = HttpTarget { hosts: hosts.iter().map(host).collect(), ca: None, answer_bytes_max: 1 };
        judge(Some(&target), &Method::GET, &uri.parse().unwrap()).map(|host| host.to_string())
    }

    #[test]
    fn only_what_the_list_names_is_asked_whatever_its_spelling() {
        // Goal: a component gets nowhere else, by no spelling. Method: requests that mean a host on the list, and
        // requests that look like it.
        let hosts = [
            (HttpScheme::Https, "api.example.com", 443),
            (HttpScheme::Http, "10.0.0.5", 8080),
            (HttpScheme::Https, "::1", 443),
        ];
        for uri in [
            "https://api.example.com/a?b",
            "https://API.Example.COM",
            "https://api.example.com:443/",
            "http://10.0.0.5:8080/x",
            "https://[0:0::1]/",
        ] {
            assert!(ask(&hosts, uri).is_ok(), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "http://api.example.com:443/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.example/",
            "https://evil.example/api.example.com",
            "https://api.example.com@evil.example/",
            "https://evil.example@api.example.com/",
            "https://10.0.0.5:8080/",
            "http://10.0.0.5/",
            "http://10.0.0.50:8080/",
            "ftp://api.example.com/",
            "https://api.example.com./",
        ] {
            assert!(ask(&hosts, uri).is_err(), "{uri}");
        }
        assert!(ask(&[], "https://api.example.com/").is_err());
    }

    #[test]
    fn a_name_does_not_lead_to_the_gateway_itself_unless_it_says_so() {
        // Goal: whoever answers for a name on the list cannot send a component to doors that only this machine has.
        // Method: addresses of every kind behind a name; the machine's own behind the name that means it.
        for ip in ["10.0.0.5", "192.168.1.9", "93.184.216.34", "fd00::5", "2606:2800::1"] {
            assert!(may_stand_for("meter.plant", ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!may_stand_for("meter.plant", ip.parse().unwrap()), "{ip}");
            assert!(!may_stand_for("localhost.plant", ip.parse().unwrap()), "{ip}");
            assert!(may_stand_for("localhost", ip.parse().unwrap()), "{ip}");
        }
        for ip in ["0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(!may_stand_for("localhost", ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn nothing_goes_by_no_link_and_no_tunnel_is_made() {
        // Goal: the refusals that do not depend on a host. Method: each.
        let uri: Uri = "https://a/".parse().unwrap();
        assert_eq!(judge(None, &Method::GET, &uri), Err(Denied::NoLink));
        let hosts = vec![HttpHost { scheme: HttpScheme::Https, name: "a".into(), port: 443 }];
        let target = HttpTarget { hosts, ca: None, answer_bytes_max: 1 };
        assert_eq!(judge(Some(&target), &Method::CONNECT, &uri), Err(Denied::Tunnel));
        assert_eq!(judge(Some(&target), &Method::GET, &"/path".parse().unwrap()), Err(Denied::NoHost));
    }
}
