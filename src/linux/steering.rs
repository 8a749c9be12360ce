//! The program that picks, for each new connection, a member of a `SO_REUSEPORT` group.
//!
//! A classic BPF program (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5, no privilege needed) returns the
//! index of a member; members are numbered in the order in which they began to listen. Attaching
//! replaces the program of the whole group atomically, through any of its members (~20 µs), and
//! touches no connection that is already queued.
//!
//! ```text
//! probe      IPv4 packet from 127.77.HI.LO, HI.LO < members  → that index, admitted or not
//!            IPv6 packet that begins with PROBE_WORD6 + index → that index, admitted or not
//! everyone   the admitted one in whose part random % (sum of weights) falls
//! ```
//!
//! The source address 127.77.x.y can only come from this host: the kernel drops 127/8 that arrives
//! from outside. IPv6 has no such range (`::1` is one address), so an IPv6 probe is marked in the
//! first word of the header, which holds version, traffic class and flow label: a traffic class and
//! the upper half of a flow label that no one else sends together. A stranger who forges them reaches
//! a member that he could have reached by chance. Offsets are relative to the network header
//! (`SKF_NET_OFF`): the program runs with the data pointer behind the TCP header. `SKF_AD_PROTOCOL`
//! must be asked first, since offset 12 of an IPv6 header is the middle of an address.
//!
//! An index that is out of range does not drop the packet: the kernel then hashes over *all* members
//! (`reuseport_select_sock`). So a program never returns one, and without an admitted member the
//! caller has to choose who stands in (see `plane`); with none at all, hashing is what is left.

use crate::core::Weight;
use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// How many members may be admitted at once: two instructions each, and the kernel takes 4,096
/// (`BPF_MAXINSNS`). Kernels before 6.7 allow a program 20 KiB of option memory by default
/// (`net.core.optmem_max`), which is reached near 800; attaching then fails with `ENOMEM`.
pub const MAX_ADMITTED: usize = (libc::BPF_MAXINSNS as usize - PROLOGUE - 2) / 2;

/// Instructions before the table; the table begins with two more.
const PROLOGUE: usize = 16;

/// The first 32 bits of an IPv6 packet of a probe, less the member's index: version 6, traffic class
/// 0xB4 (DSCP 45, which has no assigned meaning; the two ECN bits belong to TCP), flow label
/// 0x7D000 + index.
pub const PROBE_WORD6: u32 = 0x6000_0000 | (PROBE_TRAFFIC_CLASS << 20) | PROBE_FLOW_LABEL;
/// The traffic class of an IPv6 probe.
pub const PROBE_TRAFFIC_CLASS: u32 = 0xB4;
/// The flow label of an IPv6 probe of member 0; the low 12 bits take the index.
pub const PROBE_FLOW_LABEL: u32 = 0x7_D000;
/// IPv6 probes reach the members below this.
pub const PROBE_MEMBERS6: u16 = 1 << 12;

/// The bits of the first word that hold the index.
const PROBE_INDEX6: u32 = PROBE_MEMBERS6 as u32 - 1;
const PROBE_NET4: u32 = u32::from_be_bytes([127, 77, 0, 0]);

/// The IPv4 address from which a connection reaches member `index` of its group.
pub fn probe_source(index: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(PROBE_NET4 | u32::from(index))
}

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;

/// Leaves the choice to the kernel.
const OUT_OF_RANGE: u32 = u32::MAX;

const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
const SOURCE4: u32 = (libc::SKF_NET_OFF + 12) as u32;
const FIRST_WORD: u32 = libc::SKF_NET_OFF as u32;

/// The program for a group of `members` members of which the `admitted` indices take connections, in
/// the relation of their weights;
/// more than [`MAX_ADMITTED`] of them are left out. With none admitted everything but probes is left
/// to the kernel's hash over all members.
pub fn program(members: u16, admitted: &[(u16, Weight)]) -> Vec<sock_filter> {
    let admitted = &admitted[..admitted.len().min(MAX_ADMITTED)];
    let probed4 = u32::from(members);
    let probed6 = u32::from(members.min(PROBE_MEMBERS6));
    // Jumps count from the next instruction: the table begins at 16, behind the answer to probes.
    let prologue: [sock_filter; PROLOGUE] = [
        step(LOAD, PROTOCOL, 0, 0),
        step(EQUAL, libc::ETH_P_IP as u32, 0, 6),
        step(LOAD, SOURCE4, 0, 0),
        step(AND, 0xffff_0000, 0, 0),
        step(EQUAL, PROBE_NET4, 0, 11),
        step(LOAD, SOURCE4, 0, 0),
        step(AND, 0x0000_ffff, 0, 0),
        step(AT_LEAST, probed4, 8, 7),
        step(EQUAL, libc::ETH_P_IPV6 as u32, 0, 7),
        step(LOAD, FIRST_WORD, 0, 0),
        step(AND, !PROBE_INDEX6, 0, 0),
        step(EQUAL, PROBE_WORD6, 0, 4),
        step(LOAD, FIRST_WORD, 0, 0),
        step(AND, PROBE_INDEX6, 0, 0),
        step(AT_LEAST, probed6, 1, 0),
        step(RETURN_A, 0, 0, 0),
    ];
    let mut program = prologue.to_vec();
    if let [rest @ .., (last, _)] = admitted {
        if !rest.is_empty() {
            let sum = admitted.iter().map(|(_, weight)| u32::from(weight.get())).sum();
            program.push(step(LOAD, RANDOM, 0, 0));
            program.push(step(MODULO, sum, 0, 0));
        }
        let mut end = 0;
        for (index, weight) in rest {
            end += u32::from(weight.get());
            program.push(step(AT_LEAST, end, 1, 0));
            program.push(step(RETURN, u32::from(*index), 0, 0));
        }
        program.push(step(RETURN, u32::from(*last), 0, 0));
    } else {
        program.push(step(RETURN, OUT_OF_RANGE, 0, 0));
    }
    program
}

/// A socket filter that drops probes of whichever member and lets everything else pass.
pub fn probe_filter() -> [sock_filter; 11] {
    const KEEP: u32 = u32::MAX;
    const DROP: u32 = 0;
    [
        step(LOAD, PROTOCOL, 0, 0),
        step(EQUAL, libc::ETH_P_IP as u32, 0, 3),
        step(LOAD, SOURCE4, 0, 0),
        step(AND, 0xffff_0000, 0, 0),
        step(EQUAL, PROBE_NET4, 5, 4),
        step(EQUAL, libc::ETH_P_IPV6 as u32, 0, 3),
        step(LOAD, FIRST_WORD, 0, 0),
        step(AND, !PROBE_INDEX6, 0, 0),
        step(EQUAL, PROBE_WORD6, 1, 0),
        step(RETURN, KEEP, 0, 0),
        step(RETURN, DROP, 0, 0),
    ]
}

/// Makes `program` the one of the whole group that `member` listens in.
///
/// # Errors
/// `EINVAL` when the member is in no group (`SO_REUSEPORT` was not set before it listened), `ENOMEM`
/// when the program is too long for `net.core.optmem_max`.
pub fn attach(member: impl AsFd, program: &[sock_filter]) -> Result<(), Errno> {
    let program = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // The kernel copies the program before the call returns, and writes nothing through the pointer.
    setsockopt(&member, AttachReusePortCbpf, &program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// What the kernel shows the program of a packet.
    struct Packet {
        protocol: u32,
        /// The first 16 bytes of the network header.
        words: [u32; 4],
        random: u32,
    }

    impl Packet {
        fn v4(source: [u8; 4], random: u32) -> Self {
            let words = [0x4500_003c, 0x1234_4000, 0x4006_0000, u32::from_be_bytes(source)];
            Self { protocol: libc::ETH_P_IP as u32, words, random }
        }

        fn v6(first: u32, fourth: u32, random: u32) -> Self {
            let words = [first, 0x0028_0640, 0, fourth];
            Self { protocol: libc::ETH_P_IPV6 as u32, words, random }
        }
    }

    /// Classic BPF, as far as these programs use it.
    fn run(program: &[sock_filter], packet: &Packet) -> u32 {
        let (mut a, mut at) = (0u32, 0);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |taken| usize::from(if taken { step.jt } else { step.jf });
            match u32::from(step.code) {
                LOAD => {
                    a = match step.k {
                        PROTOCOL => packet.protocol,
                        RANDOM => packet.random,
                        offset => packet.words[(offset.wrapping_sub(FIRST_WORD) / 4) as usize],
                    }
                }
                AND => a &= step.k,
                MODULO => a %= step.k,
                EQUAL => at += jump(a == step.k),
                AT_LEAST => at += jump(a >= step.k),
                RETURN => return step.k,
                RETURN_A => return a,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// A group and the members of it that are admitted.
    fn group() -> impl Strategy<Value = (u16, Vec<(u16, Weight)>)> {
        (1u16..600, any::<u64>()).prop_flat_map(|(members, seed)| {
            let all: Vec<_> = (0..members).map(|index| (index, weight(seed, index))).collect();
            (Just(members), prop::sample::subsequence(all, 0..=usize::from(members)))
        })
    }

    /// One of all weights.
    fn weight(seed: u64, index: u16) -> Weight {
        let age = seed.rotate_left(u32::from(index)) % 16;
        Weight::after(Duration::from_secs(age), Duration::from_secs(15))
    }

    fn elsewhere() -> impl Strategy<Value = [u8; 4]> {
        any::<[u8; 4]>().prop_filter("not a probe", |source| source[..2] != [127, 77])
    }

    proptest! {
        #[test]
        fn everyone_reaches_an_admitted_member(
            (members, admitted) in group(), source in elsewhere(), words in any::<[u32; 2]>(),
            random in any::<u32>(),
        ) {
            let program = program(members, &admitted);
            let first = 0x6000_0000 | (words[0] & 0x000f_ffff);
            for packet in [Packet::v4(source, random), Packet::v6(first, words[1], random)] {
                let picked = run(&program, &packet);
                match admitted.len() {
                    0 => prop_assert_eq!(picked, OUT_OF_RANGE),
                    _ => {
                        let parts = admitted.iter().flat_map(|(index, weight)| {
                            std::iter::repeat_n(u32::from(*index), usize::from(weight.get()))
                        });
                        let parts: Vec<u32> = parts.collect();
                        prop_assert_eq!(picked, parts[random as usize % parts.len()]);
                    }
                }
            }
        }

        #[test]
        fn a_probe_reaches_its_member_admitted_or_not(
            (members, admitted) in group(), nth in any::<prop::sample::Index>(), random in any::<u32>(),
        ) {
            let index = nth.index(usize::from(members)) as u16;
            let program = program(members, &admitted);
            let v4 = Packet::v4(probe_source(index).octets(), random);
            prop_assert_eq!(run(&program, &v4), u32::from(index));
            let v6 = Packet::v6(PROBE_WORD6 | u32::from(index), 0, random);
            prop_assert_eq!(run(&program, &v6), u32::from(index));
        }

        #[test]
        fn a_probe_of_no_member_is_like_everyone(
            (members, admitted) in group(), beyond in 0u16..3000, random in any::<u32>(),
        ) {
            let index = members + beyond;
            let program = program(members, &admitted);
            let expected = run(&program, &Packet::v4([10, 0, 0, 1], random));
            let v4 = Packet::v4(probe_source(index).octets(), random);
            prop_assert_eq!(run(&program, &v4), expected);
            let v6 = Packet::v6(PROBE_WORD6 | u32::from(index), 0, random);
            prop_assert_eq!(run(&program, &v6), expected);
        }

        #[test]
        fn the_filter_drops_probes_and_nothing_else(
            index in 0u16..PROBE_MEMBERS6, source in elsewhere(), words in any::<[u32; 2]>(),
        ) {
            let drops = |packet: Packet| run(&probe_filter(), &packet) == 0;
            prop_assert!(drops(Packet::v4(probe_source(index).octets(), 0)));
            prop_assert!(drops(Packet::v6(PROBE_WORD6 | u32::from(index), words[0], 0)));
            prop_assert!(!drops(Packet::v4(source, 0)));
            let first = 0x6000_0000 | (words[0] & 0x000f_ffff);
            prop_assert!(!drops(Packet::v6(first, probe_source(index).to_bits(), 0)));
        }

        #[test]
        fn the_middle_of_an_ipv6_address_is_no_probe(
            (members, admitted) in group(), random in any::<u32>(),
        ) {
            let program = program(members, &admitted);
            let expected = run(&program, &Packet::v4([10, 0, 0, 1], random));
            let v6 = Packet::v6(0x6000_0000, probe_source(0).to_bits(), random);
            prop_assert_eq!(run(&program, &v6), expected);
        }
    }

    #[test]
    fn the_largest_program_is_within_the_kernels_limit() {
        let all: Vec<_> = (0..u16::MAX).map(|index| (index, Weight::FULL)).collect();
        assert!(program(u16::MAX, &all).len() <= libc::BPF_MAXINSNS as usize);
    }
}
