//! Addresses to listen on.

use super::reader::{FromText, Wrong};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// An address that the application's workers listen on. Prints as it is typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `0.0.0.0:8000`, `[::]:8000`; the port is never 0.
    Tcp(SocketAddr),
    /// `unix:/run/app.sock`; the path is absolute and fits a socket address.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What may stand under `listen.address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// `auto`: the ports that the application binds.
    Auto,
    /// An address.
    Address(ListenAddress),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Auto => f.write_str("\"auto\""),
            Named::Address(address) => address.fmt(f),
        }
    }
}

impl FromText for Named {
    const WHAT: &'static str = ListenAddress::WHAT;

    fn from_text(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Named::Auto),
            _ if text.trim().eq_ignore_ascii_case("auto") => Err(Wrong {
                message: format!("{text:?} is not an address: {FORMS}"),
                suggestion: Some("auto".to_owned()),
            }),
            _ => ListenAddress::from_text(text).map(Named::Address),
        }
    }
}

/// How addresses are written.
const FORMS: &str = "IP:PORT ([IP]:PORT for IPv6), unix:/PATH or auto";

/// Room for the path in a Unix socket address (unix(7): 108 bytes with the closing NUL).
pub const UNIX_PATH_MAX: usize = 107;

impl FromText for ListenAddress {
    const WHAT: &'static str = "an address like 0.0.0.0:8000";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!("the path in {text:?} must be absolute").into());
            }
            if path.len() > UNIX_PATH_MAX {
                let message = format!(
                    "{} bytes of path do not fit a Unix socket's {UNIX_PATH_MAX}",
                    path.len()
                );
                return Err(message.into());
            }
            return Ok(ListenAddress::Unix(PathBuf::from(path)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                Err("port 0 means a different port each time; name one".to_owned().into())
            }
            Ok(address) => Ok(ListenAddress::Tcp(address)),
            Err(_) => Err(Wrong {
                message: format!("{text:?} is not an address: {FORMS}"),
                suggestion: meant(text).filter(|meant| Self::from_text(meant).is_ok()),
            }),
        }
    }
}

/// The address that was probably meant; not necessarily a valid one.
fn meant(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some(format!("unix:{text}"));
    }
    let bare = text.trim().trim_start_matches("http://").trim_end_matches('/');
    match bare.rsplit_once(':') {
        None => Some(format!("0.0.0.0:{bare}")),
        Some(("" | "*", port)) => Some(format!("0.0.0.0:{port}")),
        Some(("localhost", port)) => Some(format!("127.0.0.1:{port}")),
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => Some(format!("[{host}]:{port}")),
        // Not `text` itself: it was refused already.
        Some(_) => Some(bare.to_owned()).filter(|bare| bare != text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_typed() {
        for text in ["0.0.0.0:8000", "[::]:80", "127.0.0.1:65535", "unix:/run/app.sock"] {
            let address =
                ListenAddress::from_text(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (text, suggestion) in [
            ("8000", Some("0.0.0.0:8000")),
            (":8000", Some("0.0.0.0:8000")),
            ("*:8000", Some("0.0.0.0:8000")),
            ("localhost:8000", Some("127.0.0.1:8000")),
            ("http://127.0.0.1:8000/", Some("127.0.0.1:8000")),
            ("::1:8000", Some("[::1]:8000")),
            ("/run/app.sock", Some("unix:/run/app.sock")),
            ("example.org:80", None),
            ("0.0.0.0:0", None),
            ("0.0.0.0:70000", None),
            ("unix:app.sock", None),
            ("", None),
        ] {
            let wrong = ListenAddress::from_text(text).expect_err(text);
            assert_eq!(wrong.suggestion.as_deref(), suggestion, "{text}");
        }
    }

    #[test]
    fn a_unix_path_fits_its_socket_address() {
        let longest = format!("unix:/{}", "x".repeat(106));
        assert!(ListenAddress::from_text(&longest).is_ok());
        assert!(ListenAddress::from_text(&format!("{longest}x")).is_err());
    }
}
