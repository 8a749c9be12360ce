//! `[listen]`: what each way to listen needs, and what it cannot do.

use super::super::address::{ListenAddress, Named};
use super::super::checked::{Listen, ListenMode};
use super::super::error::Place;
use super::super::raw;
use super::super::reader::{At, Typed};
use super::{Judge, given};
use std::ops::RangeInclusive;

/// The kernel keeps a backlog in 16 bits in places.
const BACKLOG: RangeInclusive<u32> = 1..=65_535;

impl Judge<'_> {
    pub(super) fn listen(&mut self, raw: &raw::Listen, workers: u32) -> Listen {
        let defaults = Listen::default();
        let mode = given(&raw.mode).unwrap_or(defaults.mode);
        let typed: &[Typed<Named>] = raw.address.as_ref().map_or(&[], |list| &list.value);
        for (i, address) in typed.iter().enumerate() {
            if typed[..i].iter().any(|earlier| earlier.value == address.value) {
                self.refuse(address, format!("{} was given before", address.value));
            } else if address.value == Named::Auto && typed.len() > 1 {
                let message = "\"auto\" is whatever ports the workers bind; it stands alone, or \
                               leave it out and name every address";
                self.refuse(address, message.to_owned());
            } else if let Named::Address(ListenAddress::Unix(_)) = address.value
                && mode != ListenMode::Inherit
                && !self.problems.doubt("listen.mode")
            {
                let message = "a Unix socket can only be handed over; set mode = \"inherit\", or \
                               leave it out and let the application bind it";
                self.refuse(address, message.to_owned());
            }
        }
        let addresses: Vec<ListenAddress> = typed
            .iter()
            .filter_map(|typed| match &typed.value {
                Named::Auto => None,
                Named::Address(address) => Some(address.clone()),
            })
            .collect();
        let others = ["listen.address", "listen.mode", "app.workers"];
        let at = raw.address.as_ref().map(Typed::at).or(raw.mode.as_ref().map(Typed::at));
        let at = at.unwrap_or(At { key: "listen.mode", place: Place::Nowhere });
        match (mode, addresses.as_slice()) {
            (ListenMode::None, []) if !typed.is_empty() => {
                let message = "in mode \"none\" no address is supervised; leave it out";
                self.conclude(at, &others, message.to_owned());
            }
            (ListenMode::Takeover | ListenMode::None, _) | (ListenMode::Inherit, [_, ..]) => {}
            (ListenMode::Inherit, []) => {
                let message = "mode \"inherit\" hands sockets over: name what they listen on, as in \
                               address = [\"0.0.0.0:8000\"]";
                self.conclude(at, &others, message.to_owned());
            }
            (ListenMode::Port, [ListenAddress::Tcp(address)]) => {
                let first = address.port();
                let free = u32::from(u16::MAX) - u32::from(first) + 1;
                if workers > free {
                    let message = format!(
                        "{workers} workers need as many ports, and from {first} to 65535 there are \
                         not enough"
                    );
                    self.conclude(at, &others, message);
                }
            }
            (ListenMode::Port, _) => {
                let message = "mode \"port\" needs exactly one address, IP:PORT: slot 0 gets that \
                               port, slot 1 the next";
                self.conclude(at, &others, message.to_owned());
            }
        }
        Listen {
            ignore_ports: self.ignore_ports(raw, mode, &addresses, defaults.ignore_ports),
            addresses,
            mode,
            backlog: self.within(&raw.backlog, &BACKLOG, defaults.backlog),
        }
    }

    fn ignore_ports(
        &mut self,
        raw: &raw::Listen,
        mode: ListenMode,
        addresses: &[ListenAddress],
        default: Vec<u16>,
    ) -> Vec<u16> {
        let Some(typed) = &raw.ignore_ports else { return default };
        // A flag may well turn off what the file says of another way to listen.
        let by_flag = |place: Option<Place>| matches!(place, Some(Place::Flag(_)));
        let overruled = by_flag(raw.address.as_ref().map(|typed| typed.place))
            || by_flag(raw.mode.as_ref().map(|typed| typed.place));
        let auto = mode == ListenMode::Takeover && addresses.is_empty();
        if !auto && !overruled {
            let message = "means something only with address = \"auto\" in mode \"takeover\": \
                           else no port but those of the addresses is touched; leave it out";
            self.conclude(typed.at(), &["listen.address", "listen.mode"], message.to_owned());
        }
        for (i, port) in typed.value.iter().enumerate() {
            if typed.value[..i].iter().any(|earlier| earlier.value == port.value) {
                self.refuse(port, format!("{} was given before", port.value));
            }
        }
        typed.value.iter().map(|port| port.value.0).collect()
    }
}
