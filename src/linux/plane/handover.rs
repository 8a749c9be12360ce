//! The sockets go over to another program in the same process: all of them, in their order, with who has
//! which, and where each worker's calls come in. Nothing is bound or closed, and the kernel's programs
//! stay as they are.

use super::Plane;
use super::group::{Group, Member, Standing};
use super::path::PathListener;
use super::socket::{self, Key};
use crate::core::WorkerId;
use crate::linux::handover::{Luggage, Place};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What a plane holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holdings {
    groups: Vec<HeldGroup>,
    paths: Vec<(PathBuf, Place)>,
    calls: Vec<(WorkerId, Place)>,
    standing: Vec<(WorkerId, Standing)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldGroup {
    address: SocketAddr,
    v6only: bool,
    /// In the kernel's order.
    members: Vec<(Place, Option<WorkerId>)>,
    /// Of each, see [`Member::untold`].
    #[serde(default)]
    untold: Vec<u64>,
}

impl Plane {
    /// What it holds, with second descriptors of it in the luggage.
    ///
    /// # Errors
    /// The limit of open files is reached.
    pub fn holdings(&self, luggage: &mut Luggage) -> io::Result<Holdings> {
        let mut groups = Vec::new();
        for group in &self.groups {
            let members = group.members.iter();
            let members = members.map(|member| Ok((luggage.put(&member.socket)?, member.worker())));
            let members = members.collect::<io::Result<_>>()?;
            let Key { address, v6only } = group.key;
            let untold = group.members.iter().map(Member::untold).collect();
            groups.push(HeldGroup { address, v6only, members, untold });
        }
        let paths =
            self.paths.iter().map(|path| Ok((path.path.clone(), luggage.put(&path.socket)?)));
        let paths = paths.collect::<io::Result<_>>()?;
        let calls = self.calls.iter().map(|(worker, notify)| Ok((*worker, luggage.put(notify)?)));
        let calls = calls.collect::<io::Result<_>>()?;
        let standing = self.standing.iter().map(|(worker, standing)| (*worker, *standing));
        Ok(Holdings { groups, paths, calls, standing: standing.collect() })
    }

    /// From here on it answers nobody and leaves everything as it is: calls of workers wait for the
    /// successor.
    pub fn retire(&mut self) {
        self.retired = true;
        // Their files are not removed with them.
        std::mem::take(&mut self.paths).into_iter().for_each(std::mem::forget);
    }

    /// Takes over what another plane held; for one that holds nothing yet.
    ///
    /// # Errors
    /// Something is missing in the luggage, or is no socket.
    pub fn take_on(&mut self, holdings: Holdings, luggage: &mut Luggage) -> io::Result<()> {
        for HeldGroup { address, v6only, members, untold } in holdings.groups {
            let mut untold = untold.into_iter();
            let mut group = Group { key: Key { address, v6only }, members: Vec::new() };
            for (place, holder) in members {
                let socket = luggage.take(place)?;
                let inode = socket::inode(&socket)?;
                let untold = untold.next().unwrap_or_default();
                group.members.push(Member { untold, ..Member::new(socket, inode, holder) });
            }
            self.groups.push(group);
        }
        for (path, place) in holdings.paths {
            let socket = luggage.take(place)?;
            let inode = socket::inode(&socket)?;
            self.paths.push(PathListener { path, socket, inode });
        }
        for (worker, place) in holdings.calls {
            self.calls.insert(worker, Arc::new(luggage.take(place)?.into()));
        }
        self.standing.extend(holdings.standing);
        Ok(())
    }
}
