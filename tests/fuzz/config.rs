//! A configuration: whatever the text is, it is understood or refused with words, and what is understood is
//! understood alike the second time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stanch::config::{difference, parse};
use std::path::Path;

fuzz_target!(|text: &str| {
    let read = || parse(text, Path::new("/etc/stanch/shop.toml"));
    match read() {
        Err(errors) => assert!(!errors.report().is_empty()),
        Ok(config) => {
            let again = read().expect("it was understood before");
            assert!(difference(&config, &again).0.is_empty());
        }
    }
});
