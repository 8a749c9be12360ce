//! Kernel interfaces, each in a file of its own; the only place with `unsafe`.

pub mod bounds;
pub mod cgroup;
pub mod evidence;
pub mod fdstore;
pub mod handover;
pub mod launch;
pub mod mark;
pub mod nofile;
pub mod notify;
pub mod pidfd;
pub mod plane;
pub mod pressure;
pub mod procfs;
pub mod seccomp;
pub mod sockdiag;
pub mod spawn;
pub mod steering;
pub mod tree;
