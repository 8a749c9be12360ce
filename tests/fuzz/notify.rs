//! A datagram of the notification protocol: from anybody who can reach the socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stanch::linux::notify::{Notice, watchdog};

fuzz_target!(|text: &[u8]| {
    let notice = Notice::parse(text);
    if let Some(status) = notice.status {
        // For terminals and logs.
        assert!(!status.chars().any(char::is_control));
        assert!(status.chars().count() <= 200);
    }
    assert!(notice.main_pid.is_none_or(|pid| pid.as_raw() > 0));
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = watchdog(Some(text), None);
    }
});
