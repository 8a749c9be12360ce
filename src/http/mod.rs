//! The control API: HTTP and JSON over a Unix socket, so that `curl --unix-socket` speaks it.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`](crate::wire::Status) |
//! | `POST /v1/restart` | `{"slot": 3, "wait": true}`, both optional | [`Answer`](crate::wire::Answer) |
//! | `POST /v1/drain` | `{"slot": 3}` | the same |
//! | `POST /v1/scale` | `{"workers": 8}` | the same |
//! | `POST /v1/upgrade` | none needed | the same, from the program that took over |
//! | `POST /v1/stop`, `/v1/pause`, `/v1/resume` | none needed | the same |
//! | `POST /v1/incidents/ack` | `{"incident": "last", "by": "ada"}`, `by` optional | the same |
//!
//! `wait` is true unless given: the answer comes when the command is done (200) or refused (409).
//! With `"wait": false` it comes at once (202), and what becomes of the command is in the audit log.
//! Other answers: 400 bad body, 403 foreign user, 404 and 405 with the list of routes, 408 and 413
//! slow or large body, 503 the engine has ended.

pub mod places;
pub mod server;
pub mod socket;

pub use places::Places;
pub use server::{Closing, ServeError, answer_late, serve};
pub use socket::{Control, ControlFile, SocketError, bind};
