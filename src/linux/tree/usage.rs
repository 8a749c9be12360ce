//! What a tree uses: sums over its members.
//!
//! # Shared pages
//!
//! After a fork parent and child map the same pages, and both count them as resident. `smaps_rollup`
//! tells each one's proportional share, but walks all page tables (10.7 ms for 1 GiB). So each member's
//! *excess* (resident − share) is measured when the tree has changed and else at every 30th sample, for
//! 1% of the time at most, and subtracted from all readings until the next measurement. A difference,
//! not a ratio: what a leak adds is private to one process and must come through unscaled. Until it is
//! measured, and where the kernel does not let us, a new member's excess is what its parent has too: a
//! fork must not look as if the tree had doubled.
//!
//! # CPU time
//!
//! When a process is reaped the kernel adds its time to its parent's, and zombies are counted until
//! then, so the sum over the tree survives the end of members. It does not when the supervisor reaps (an
//! orphan, the leader) or when the parent ignores SIGCHLD: what the sum would fall by is carried on, so
//! that it never goes backwards.

use super::Tree;
use crate::core::Sample;
use crate::linux::procfs::{Memory, ProcessFiles, Share};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// With a tree that has not changed, so many samples from one measurement to the next.
const SAMPLES_PER_SLOW_LOOK: u32 = 30;

/// Samples of many workers follow each other; one look at the orphans does for all that come so soon.
const ORPHANS_AGE_MAX: Duration = Duration::from_millis(10);

/// A measurement is followed by a pause of so many times its duration.
const MEASUREMENT_PAUSE: u32 = 100;

/// What has to be remembered from sample to sample.
#[derive(Debug)]
pub(super) struct Usage {
    samples_until_slow_look: u32,
    excess_is_stale: bool,
    next_measurement: Option<Instant>,
    cpu_ticks_carried: u64,
    cpu_ticks_reported: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            samples_until_slow_look: 0,
            excess_is_stale: true,
            next_measurement: None,
            cpu_ticks_carried: 0,
            cpu_ticks_reported: 0,
        }
    }
}

impl Usage {
    /// A member came or left, and so the shares of the others changed.
    pub(super) fn tree_changed(&mut self) {
        self.excess_is_stale = true;
    }

    fn is_slow_look(&mut self) -> bool {
        let slow = self.samples_until_slow_look == 0;
        self.samples_until_slow_look =
            if slow { SAMPLES_PER_SLOW_LOOK - 1 } else { self.samples_until_slow_look - 1 };
        slow
    }

    fn total_cpu_ticks(&mut self, living: u64) -> u64 {
        let lost = self.cpu_ticks_reported.saturating_sub(living + self.cpu_ticks_carried);
        self.cpu_ticks_carried += lost;
        self.cpu_ticks_reported = living + self.cpu_ticks_carried;
        self.cpu_ticks_reported
    }
}

/// Memory of a process that others of its tree have too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Excess {
    anon_kib: u64,
    shmem_kib: u64,
    swap_kib: u64,
}

impl Excess {
    fn measured(memory: &Memory, share: &Share) -> Self {
        let beyond = |resident: Option<u64>, share: Option<u64>| match (resident, share) {
            (Some(resident), Some(share)) => resident.saturating_sub(share),
            _ => 0,
        };
        Self {
            anon_kib: beyond(memory.rss_anon_kib, share.anon_kib),
            shmem_kib: beyond(memory.rss_shmem_kib, share.shmem_kib),
            swap_kib: beyond(memory.vm_swap_kib, share.swap_kib),
        }
    }

    fn estimated(memory: &Memory, parent: &Memory) -> Self {
        let common = |own: Option<u64>, parent: Option<u64>| own.min(parent).unwrap_or(0);
        Self {
            anon_kib: common(memory.rss_anon_kib, parent.rss_anon_kib),
            shmem_kib: common(memory.rss_shmem_kib, parent.rss_shmem_kib),
            swap_kib: common(memory.vm_swap_kib, parent.vm_swap_kib),
        }
    }
}

impl Tree {
    /// Reads what the tree uses now. Figures that no member has are `None`; connections and load are
    /// never known here.
    ///
    /// It blocks: 45 µs for one process, 15 to 25 µs for each further one, and without a cgroup 5 µs
    /// for each thread, whose children have to be asked for (Linux 6.18). A measurement of the excess
    /// takes `smaps_rollup` over the tree, 20 ms for nine processes of 100 MB.
    pub fn sample(&mut self) -> Sample {
        let slow = self.usage.is_slow_look();
        if slow {
            self.usage.excess_is_stale = true;
        }
        if slow || self.leaf.is_none() {
            self.look_everywhere_but(ORPHANS_AGE_MAX);
        } else {
            self.look_at_members_and_leaf();
        }

        // The zombies' time included, see the module's documentation.
        let cpu_ticks = self.members.values().map(|member| member.stat.cpu_ticks).sum();
        let cpu_ticks = self.usage.total_cpu_ticks(cpu_ticks);
        let cpu_ticks = (!self.members.is_empty()).then_some(cpu_ticks);
        self.read_memory();
        let mut sample = Sample { processes: Some(0), cpu_ticks, ..Sample::default() };
        let alone = self.live().count() == 1;
        for (&pid, member) in self.members.iter().filter(|(_, member)| member.stat.is_alive()) {
            let memory = &member.memory;
            let excess = member.excess.filter(|_| !alone).unwrap_or_default();
            let fds = match &member.files {
                Some(files) => files.fd_count(),
                None => self.procfs.open(pid).and_then(|files| files.fd_count()),
            };
            add(&mut sample.processes, Some(1));
            add(&mut sample.threads, Some(member.stat.threads));
            add(&mut sample.fds, fds);
            add_memory(&mut sample, memory, excess);
        }
        sample
    }

    /// What limits are compared with, of the processes known so far: 6 µs each. `None` when none of
    /// them lives.
    pub fn growth_kib(&self) -> Option<u64> {
        let alone = self.live().count() == 1;
        let mut sample = Sample::default();
        for member in self.members.values().filter(|member| member.stat.is_alive()) {
            let Some(memory) = member.files.as_ref().and_then(ProcessFiles::memory) else {
                continue;
            };
            let excess = member.excess.filter(|_| !alone).unwrap_or_default();
            add_memory(&mut sample, &memory, excess);
        }
        sample.growth_kib()
    }

    /// Reads each member's memory where it has changed, and what of it others have too where that is due.
    fn read_memory(&mut self) {
        let started = (self.usage.excess_is_stale && self.live().count() > 1)
            .then(Instant::now)
            .filter(|now| self.usage.next_measurement.is_none_or(|next| *now >= next));
        for (&pid, member) in &mut self.members {
            let share = started.and_then(|_| self.procfs.share(pid));
            if member.read_at != Some(member.stat.paging) || share.is_some() {
                // Of a moment before the reading: what changes in between shows the next time.
                member.read_at = Some(member.stat.paging);
                member.memory = match &member.files {
                    Some(files) => files.memory(),
                    None => self.procfs.open(pid).and_then(|files| files.memory()),
                }
                .unwrap_or_default();
            }
            if let Some(share) = share {
                member.excess = Some(Excess::measured(&member.memory, &share));
            }
        }
        if let Some(started) = started {
            let now = Instant::now();
            self.usage.next_measurement = Some(now + (now - started) * MEASUREMENT_PAUSE);
            self.usage.excess_is_stale = false;
        }
        let estimates: Vec<(Pid, Excess)> = self
            .members
            .iter()
            .filter(|(_, member)| member.excess.is_none())
            .map(|(&pid, member)| {
                let parent = self.members.get(&member.stat.parent).map(|parent| parent.memory);
                (pid, Excess::estimated(&member.memory, &parent.unwrap_or_default()))
            })
            .collect();
        for (pid, excess) in estimates {
            if let Some(member) = self.members.get_mut(&pid) {
                member.excess = Some(excess);
            }
        }
    }
}

fn add_memory(sample: &mut Sample, memory: &Memory, excess: Excess) {
    add(&mut sample.rss_kib, memory.rss_kib);
    add(&mut sample.rss_anon_kib, less(memory.rss_anon_kib, excess.anon_kib));
    add(&mut sample.rss_file_kib, memory.rss_file_kib);
    add(&mut sample.rss_shmem_kib, less(memory.rss_shmem_kib, excess.shmem_kib));
    add(&mut sample.vm_swap_kib, less(memory.vm_swap_kib, excess.swap_kib));
}

/// A sum of what is known; unknown only if nothing is.
fn add(sum: &mut Option<u64>, part: Option<u64>) {
    if let Some(part) = part {
        *sum = Some(sum.unwrap_or(0) + part);
    }
}

fn less(figure: Option<u64>, excess: u64) -> Option<u64> {
    figure.map(|figure| figure.saturating_sub(excess))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_never_goes_backwards_and_is_not_counted_twice() {
        let mut usage = Usage::default();
        assert_eq!(usage.total_cpu_ticks(500), 500);
        // A member with 300 ended and its time went to nobody.
        assert_eq!(usage.total_cpu_ticks(200), 500);
        assert_eq!(usage.total_cpu_ticks(210), 510);
        // Another one ended, and its parent in the tree got its time.
        assert_eq!(usage.total_cpu_ticks(210), 510);
        assert_eq!(usage.total_cpu_ticks(0), 510);
    }

    #[test]
    fn the_first_sample_and_every_thirtieth_look_slowly() {
        let mut usage = Usage::default();
        let slow: Vec<usize> = (0..62).filter(|_| usage.is_slow_look()).collect();
        assert_eq!(slow, [0, 30, 60]);
    }

    #[test]
    fn the_excess_is_what_others_have_too() {
        let memory = Memory {
            rss_anon_kib: Some(100_000),
            rss_shmem_kib: Some(4_000),
            vm_swap_kib: Some(10),
            ..Memory::default()
        };
        let share = Share { anon_kib: Some(25_000), shmem_kib: Some(5_000), swap_kib: None };
        let measured = Excess { anon_kib: 75_000, shmem_kib: 0, swap_kib: 0 };
        assert_eq!(Excess::measured(&memory, &share), measured);

        let parent = Memory { rss_anon_kib: Some(90_000), rss_shmem_kib: None, ..memory };
        let estimated = Excess { anon_kib: 90_000, shmem_kib: 0, swap_kib: 10 };
        assert_eq!(Excess::estimated(&memory, &parent), estimated);
        assert_eq!(Excess::estimated(&memory, &Memory::default()), Excess::default());
    }

    #[test]
    fn what_nobody_knows_stays_unknown() {
        let mut sum = None;
        add(&mut sum, None);
        assert_eq!(sum, None);
        add(&mut sum, Some(0));
        add(&mut sum, None);
        add(&mut sum, Some(7));
        assert_eq!(sum, Some(7));
        assert_eq!(less(None, 5), None);
        assert_eq!(less(Some(3), 5), Some(0));
    }
}
