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
