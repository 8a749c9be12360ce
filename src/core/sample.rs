//! What a worker used at one moment.

use serde::{Deserialize, Serialize};

/// One reading over the whole process tree of a worker. `None` is "not known", never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Resident memory, summed over the tree.
    pub rss_kib: Option<u64>,
    /// Anonymous memory: heap and stacks. Pages that a prefork tree shares are counted once where
    /// the kernel tells (see `linux::procfs`).
    pub rss_anon_kib: Option<u64>,
    /// File mappings, which the kernel can take back; never a leak.
    pub rss_file_kib: Option<u64>,
    /// Shared memory and tmpfs mappings.
    pub rss_shmem_kib: Option<u64>,
    /// Anonymous memory that was swapped out.
    pub vm_swap_kib: Option<u64>,
    /// Threads in the tree.
    pub threads: Option<u64>,
    /// Open file descriptors in the tree.
    pub fds: Option<u64>,
    /// Processes in the tree.
    pub processes: Option<u64>,
    /// CPU time of the tree since its start, user + system, in clock ticks (100 a second); time of
    /// processes that have left the tree stays counted where the kernel adds it to their parent.
    pub cpu_ticks: Option<u64>,
    /// Established connections on the supervised addresses.
    pub connections: Option<u64>,
    /// Requests a second, where something tells (a recorded trace, a probe of the application).
    pub load_rps: Option<f64>,
}

impl Sample {
    /// The quantity that soft limits and the leak detector judge: anonymous + shared + swapped, in
    /// KiB. Page cache is not in it. Falls back to the resident size where the kernel gives no parts.
    pub fn growth_kib(&self) -> Option<u64> {
        match self.rss_anon_kib {
            Some(anon) => {
                Some(anon + self.rss_shmem_kib.unwrap_or(0) + self.vm_swap_kib.unwrap_or(0))
            }
            None => self.rss_kib,
        }
    }
}
