//! What flags of the command line say; they win over the file.

/// Values given by flags, as typed: they are read and checked like those of the file, and an error
/// names the flag. An absent one leaves the file's value, or the default. Relative paths are relative
/// to the current directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-- COMMAND...`: the command and its arguments.
    pub command: Option<Vec<String>>,
    /// `--name`: the application's name.
    pub name: Option<String>,
    /// `--workers`: number of workers.
    pub workers: Option<u32>,
    /// `--listen`: addresses, in place of all that the file gives.
    pub listen: Option<Vec<String>>,
    /// `--mode`: `takeover`, `inherit`, `port` or `none`.
    pub mode: Option<String>,
    /// `--directory`: where workers run.
    pub directory: Option<String>,
    /// `--user`: as whom workers run.
    pub user: Option<String>,
    /// `--release`: label of the application's version.
    pub release: Option<String>,
    /// `--soft-limit`: a size.
    pub soft_limit: Option<String>,
    /// `--hard-limit`: a size.
    pub hard_limit: Option<String>,
    /// `--total-limit`: a size.
    pub total_limit: Option<String>,
    /// `--ready-path`: readiness by HTTP on this path.
    pub ready_path: Option<String>,
    /// `--health-path`: liveness by HTTP on this path.
    pub health_path: Option<String>,
    /// `--store`: the audit log's file.
    pub store: Option<String>,
    /// `--socket`: the control socket.
    pub socket: Option<String>,
}
