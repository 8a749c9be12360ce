//! Words for people.

use std::error::Error;

/// An error with its sources, on one line: `Display` of an error never repeats its source here.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether what is sent to this host of a URL stays on this one.
pub fn is_own_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let v4: Option<Vec<u8>> = bare.split('.').map(|part| part.parse().ok()).collect();
    bare == "localhost" || bare == "::1" || matches!(v4.as_deref(), Some([127, _, _, _]))
}
